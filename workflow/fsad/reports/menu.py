"""Menu of the report: where a page stands, by its path DATASET/EXPERIMENT/PAGE."""

CATEGORIES = {
    "overview": "1 Overview",
    "methods": "1 Overview",
    "history": "3 Training",
    "scores": "4 Image scores",
    "examples": "5 Anomaly maps",
    "times": "6 Run",
    "settings": "6 Run",
}
TITLES = {"times": "Run times and cores", "settings": "Settings and versions"}
TABLES = "2 Tables"


def category(page: str) -> str:
    """The heading of the menu that a page stands under."""
    return CATEGORIES[page.split("/")[-1]]


def labels(page: str) -> dict[str, str]:
    """Data set, experiment or page by their names."""
    match page.split("/"):
        case [name]:
            return {"page": TITLES[name]}
        case [dataset, name]:
            return {"data set": dataset, "page": name}
        case [dataset, experiment, _]:
            return {"data set": dataset, "experiment": experiment}
