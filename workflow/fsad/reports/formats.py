"""Pages of tables as Markdown, LaTeX (booktabs) and HTML."""

import base64
import html
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

ABSENT = "–"
FAILED = "failed"
LEFT = ' class="left"'
LATEX_SPECIAL = {c: f"\\{c}" for c in "&%$#_{}"} | {
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}"},
    **{"^": r"\textasciicircum{}", "±": r"$\pm$", "–": "--"},
    # Other signs in LaTeX's oldest fonts, which are its default.
    **{"|": r"\textbar{}", "<": r"\textless{}", ">": r"\textgreater{}"},
    # Options of the end of the row before, as the first of a row.
    **{"[": "{[}", "*": "{*}"},
}
# Not an underscore between letters, which Markdown shows as it is.
MARKDOWN_SPECIAL = re.compile(r"[\\|`*$<~\[]|&(?=#?\w+;)|(?<![^\W_])_|_(?![^\W_])")
# Greys and one blue, as in the figures; no file or font is loaded.
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2933; background: #fff;
       margin: 2rem auto; max-width: 72rem; padding: 0 1.5rem; }
h1 { font-size: 1.5rem; margin: 0 0 .5rem; }
h2, summary { font-size: 1.05rem; margin: 2rem 0 .5rem; font-weight: bold; }
p { color: #52606d; max-width: 48rem; }
p.warning { color: #a61b1b; font-weight: 600; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .9rem; text-align: right; white-space: nowrap; }
th { font-weight: 600; border-bottom: 2px solid #9aa5b1; }
td { border-bottom: 1px solid #e4e7eb; }
tr:last-child td { border-bottom: 2px solid #9aa5b1; }
tbody tr:hover td { background: #f0f4f8; }
th.left, td.left { text-align: left; white-space: normal; }
td b { color: #0b5394; }
img { max-width: 100%; }
figure { margin: 0; }
figcaption { color: #52606d; font-size: 13px; }
.row { display: flex; flex-wrap: wrap; gap: 0 2rem; }
"""


class Cell(NamedTuple):
    """A formatted entry of a table; the best of its kind is bold."""

    text: str
    bold: bool = False


class Table(NamedTuple):
    """A title, head and rows of cells, the first `left` columns to the left, a note."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    left: int = 1
    note: str = ""


class Page(NamedTuple):
    """A title, notes above the tables, and tables.

    Notes are Markdown with `code`, **bold** and escapes alone; those with `Warning`
    stand out. All other texts are plain.
    """

    title: str
    notes: Sequence[str]
    tables: Sequence[Table]


def cells(values: Iterable[str]) -> list[Cell]:
    """Cells of values as they are, not bold."""
    return [Cell(str(value)) for value in values]


def number(mean: float, std: float = float("nan"), decimals: int = 2) -> str:
    """Format `mean ± std`; the mean alone if `std` is nan, a dash if both are."""
    if mean != mean:
        return ABSENT
    spread = "" if std != std else f" ± {std:.{decimals}f}"
    return f"{mean:.{decimals}f}{spread}"


def to_markdown(page: Page) -> str:
    """Format a page as Markdown."""
    parts = [f"# {markdown_text(page.title)}", *page.notes]
    for table in page.tables:
        head, *rows = (
            [_markdown_cell(c) for c in r] for r in (cells(table.head), *table.rows)
        )
        parts.append(f"## {markdown_text(table.title)}")
        parts.append(markdown_table(head, rows, table.left))
        parts += [markdown_text(table.note)] if table.note else []
    return "\n\n".join(parts) + "\n"


def _markdown_cell(cell: Cell) -> str:
    text = markdown_text(cell.text)
    return f"**{text}**" if cell.bold else text


def markdown_text(text: str) -> str:
    """Escape the characters of a text that Markdown or math in it would interpret."""
    return MARKDOWN_SPECIAL.sub(r"\\\g<0>", text)


def markdown_table(head: Sequence[str], rows: Iterable, left: int = 1) -> str:
    """Format a table of Markdown texts, its first `left` columns to the left."""
    rule = ["---"] * left + ["---:"] * (len(head) - left)
    lines = [f"| {' | '.join(cells)} |" for cells in (head, *rows)]
    return "\n".join([lines[0], f"|{'|'.join(rule)}|", *lines[1:]])


def to_latex(page: Page) -> str:
    r"""Format a page as LaTeX, which needs \usepackage{booktabs}.

    Each table is a `table` environment. Notes are comments, so that a document can read
    the file with \input. Chinese names need XeLaTeX or LuaLaTeX, and a font with them.
    """
    notes = [f"% {line}" for note in page.notes for line in note.splitlines()]
    tables = [_latex_table(page.title, table) for table in page.tables]
    return "\n\n".join(["\n".join(notes), *tables]) + "\n"


def _latex_table(title: str, table: Table) -> str:
    columns = "l" * table.left + "r" * (len(table.head) - table.left)
    rows = [map(_latex_cell, row) for row in (cells(table.head), *table.rows)]
    head, *body = (f"{' & '.join(row)} \\\\" for row in rows)
    caption = ". ".join(filter(None, [f"{title}: {table.title}", table.note]))
    lines = [r"\begin{table}", r"\centering", f"\\caption{{{latex_text(caption)}}}"]
    lines += [f"\\begin{{tabular}}{{{columns}}}", r"\toprule", head, r"\midrule"]
    return "\n".join([*lines, *body, r"\bottomrule", r"\end{tabular}", r"\end{table}"])


def _latex_cell(cell: Cell) -> str:
    text = latex_text(cell.text)
    return f"\\textbf{{{text}}}" if cell.bold else text


def latex_text(text: str) -> str:
    """Escape the characters of a text that LaTeX would take as commands."""
    return text.translate(str.maketrans(LATEX_SPECIAL))


def to_html(page: Page) -> str:
    """Format a page as one HTML file that needs no other."""
    return html_page(page.title, page.notes, html_tables(page.tables))


def html_tables(tables: Iterable[Table]) -> list[str]:
    """Format tables with their titles and notes as HTML."""
    body = []
    for table in tables:
        body += [f"<h2>{html.escape(table.title)}</h2>", html_table(table)]
        body += [f"<p>{html.escape(table.note)}</p>"] if table.note else []
    return body


def collapsed(table: Table) -> str:
    """Format a table as HTML of which only the title is shown, until it is clicked."""
    title, content = html.escape(table.title), html_table(table)
    note = f"<p>{html.escape(table.note)}</p>"
    return f"<details><summary>{title}</summary>{note}{content}</details>"


def html_page(title: str, notes: Iterable[str], body: Iterable[str]) -> str:
    """An HTML file of a title and notes, followed by a body that is HTML already."""
    title = html.escape(title)
    text = "\n".join([f"<h1>{title}</h1>", *map(_html_note, notes), *body])
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{title}</title><style>{STYLE}</style></head>\n"
        f"<body>\n{text}\n</body></html>\n"
    )


def _html_note(note: str) -> str:
    kind = ' class="warning"' if "Warning" in note else ""
    plain = re.sub(r"\\(.)|\*\*|`", r"\1", note)
    return f"<p{kind}>{html.escape(plain)}</p>"


def html_table(table: Table) -> str:
    """Format head and rows of a table as HTML."""
    head = _html_row(cells(table.head), table.left, "th")
    body = "\n".join(_html_row(row, table.left, "td") for row in table.rows)
    return f"<table><thead>{head}</thead><tbody>\n{body}\n</tbody></table>"


def picture(data: str | bytes, alt: str, kind: str = "image/svg+xml") -> str:
    """Embed a picture of a MIME type in HTML."""
    text = base64.b64encode(data.encode() if isinstance(data, str) else data).decode()
    return f'<img alt="{html.escape(alt)}" src="data:{kind};base64,{text}">'


def _html_row(row: Iterable[Cell], left: int, tag: str) -> str:
    entries = (
        f"<{tag}{LEFT * (column < left)}>{_html_text(cell)}</{tag}>"
        for column, cell in enumerate(row)
    )
    return f"<tr>{''.join(entries)}</tr>"


def _html_text(cell: Cell) -> str:
    text = html.escape(cell.text)
    return f"<b>{text}</b>" if cell.bold else text
