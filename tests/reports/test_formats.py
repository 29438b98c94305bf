from html.parser import HTMLParser

import pytest

from fsad.reports import formats
from fsad.reports.formats import Cell, Page, Table

TABLE = Table(
    "nut_1 & more",
    ["class", "1-shot"],
    [[Cell("metal_nut"), Cell("82.00 ± 2.83", True)], [Cell("a<b"), Cell("–")]],
    note="Sources: 100 %",
)
PAGE = Page("mvtec, cls", ["Percent, `last`.", "**Warning: RANDOM.**"], [TABLE])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((81.005,), "81.00"),
        ((81.26, 2.5, 1), "81.3 ± 2.5"),
        ((81.5, float("nan"), 0), "82"),
        ((float("nan"), float("nan")), "–"),
    ],
)
def test_number(arguments, text):
    assert formats.number(*arguments) == text


def test_markdown():
    assert formats.to_markdown(PAGE).splitlines() == [
        *("# mvtec, cls", "", "Percent, `last`.", "", "**Warning: RANDOM.**", ""),
        *("## nut_1 & more", "", "| class | 1-shot |", "|---|---:|"),
        *("| metal_nut | **82.00 ± 2.83** |", "| a<b | – |", "", "Sources: 100 %"),
    ]


def test_latex_is_a_booktabs_table():
    assert formats.to_latex(PAGE).splitlines() == [
        *("% Percent, `last`.", "% **Warning: RANDOM.**", "", r"\begin{table}"),
        r"\centering",
        r"\caption{mvtec, cls: nut\_1 \& more. Sources: 100 \%}",
        *(r"\begin{tabular}{lr}", r"\toprule", r"class & 1-shot \\", r"\midrule"),
        r"metal\_nut & \textbf{82.00 $\pm$ 2.83} \\",
        r"a<b & -- \\",
        *(r"\bottomrule", r"\end{tabular}", r"\end{table}"),
    ]


def test_latex_escapes_what_is_special():
    assert formats.latex_text(r"\a_b^2~#{}") == (
        r"\textbackslash{}a\_b\textasciicircum{}2\textasciitilde{}\#\{\}"
    )


class Reader(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.open, self.cells, self.links = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.links += [value for name, value in attributes if name in ("src", "href")]
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("th", "td", "b"):
            self.cells.append((self.open[-1], data))


def test_html_holds_every_cell_and_needs_no_other_file():
    reader = Reader(formats.to_html(PAGE))
    assert reader.open == []
    assert reader.links == []
    assert reader.cells == [
        *(("th", "class"), ("th", "1-shot"), ("td", "metal_nut")),
        *(("b", "82.00 ± 2.83"), ("td", "a<b"), ("td", "–")),
    ]


def test_html_marks_warnings():
    text = formats.to_html(PAGE)
    assert '<p class="warning">Warning: RANDOM.</p>' in text
    assert "<p>Percent, last.</p>" in text
