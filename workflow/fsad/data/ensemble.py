"""Sentences of WinCLIP's prompt ensemble: states of a class in templates.

The words are those of the appendix of the paper (Jeong et al., CVPR 2023): 7 normal and
4 abnormal states, and 22 templates, which are 11 with either article.
"""

from collections.abc import Sequence
from itertools import product

NORMAL = ("{}", "flawless {}", "perfect {}", "unblemished {}")
NORMAL += ("{} without flaw", "{} without defect", "{} without damage")
ABNORMAL = ("damaged {}", "{} with flaw", "{} with defect", "{} with damage")
LOOKS = ("cropped", "close-up", "bright", "dark", "jpeg corrupted", "blurry")
PHOTOS = (*(f"a {look} photo of ART {{}}" for look in LOOKS), "a photo of ART {}")
PHOTOS += ("a photo of ART small {}", "a photo of ART large {}")
PHOTOS += ("a photo of ART {} for visual inspection",)
PHOTOS += ("a photo of ART {} for anomaly detection",)
TEMPLATES = [
    photo.replace("ART", article) for photo, article in product(PHOTOS, ("a", "the"))
]


def sentences(
    words: str, states: Sequence[str], templates: Sequence[str] = TEMPLATES
) -> list[str]:
    """Every state of the words of a class in every template, without the full stop."""
    phrases = [state.format(words) for state in states]
    return [x.format(phrase) for x, phrase in product(templates, phrases)]
