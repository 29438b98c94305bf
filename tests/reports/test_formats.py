import html
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
        *("| metal_nut | **82.00 ± 2.83** |", "| a\\<b | – |", "", "Sources: 100 %"),
    ]


def test_latex_is_a_booktabs_table():
    assert formats.to_latex(PAGE).splitlines() == [
        *("% Percent, `last`.", "% **Warning: RANDOM.**", "", r"\begin{table}"),
        r"\centering",
        r"\caption{mvtec, cls: nut\_1 \& more. Sources: 100 \%}",
        *(r"\begin{tabular}{lr}", r"\toprule", r"class & 1-shot \\", r"\midrule"),
        r"metal\_nut & \textbf{82.00 $\pm$ 2.83} \\",
        r"a\textless{}b & -- \\",
        *(r"\bottomrule", r"\end{tabular}", r"\end{table}"),
    ]


def test_latex_escapes_what_is_special():
    assert formats.latex_text(r"\a_b^2~#{}") == (
        r"\textbackslash{}a\_b\textasciicircum{}2\textasciitilde{}\#\{\}"
    )
    assert formats.latex_text("螺丝|a$b$&c<d>[*]") == (
        r"螺丝\textbar{}a\$b\$\&c\textless{}d\textgreater{}{[}{*}]"
    )


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("螺丝|a$b$&c<d>", r"螺丝\|a\$b\$&c\<d>"),
        ("A&B|50%_#1 $x^2$", r"A&B\|50%\_#1 \$x^2\$"),
        ("metal_nut _x_ *y*", r"metal_nut \_x\_ \*y\*"),
        (r"\|`~[&lt;", r"\\\|\`\~\[\&lt;"),
    ],
)
def test_markdown_escapes_what_is_special(text, escaped):
    assert formats.markdown_text(text) == escaped


def test_names_are_escaped_everywhere_in_a_page():
    cells = [Cell("a|b"), Cell("a|b", True)]
    page = Page("a|b", [], [Table("a|b", ["a|b", "a|b"], [cells], note="a|b")])
    markdown, latex = formats.to_markdown(page), formats.to_latex(page)
    assert markdown.count(r"a\|b") == latex.count(r"a\textbar{}b") == 7
    assert "a|b" not in markdown + latex


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


def test_html_shows_names_in_notes_as_they_are():
    names = r"a_b _c_ \d `e` **f** <g>"
    page = Page("", [formats.markdown_text(names)], [])
    assert f"<p>{html.escape(names)}</p>" in formats.to_html(page)
