"""How the node's PDF documents look: A4, their type, tables, pictures, and the lines at the head and foot of each page.

Every text is written as it is: what a header or a destination said is never taken for markup, and characters that steer
how text is shown are left out. The same content gives the same bytes.
"""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final
from xml.sax.saxutils import escape

import matplotlib
from matplotlib.figure import Figure
from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import (
    BaseDocTemplate,
    CondPageBreak,
    Flowable,
    Frame,
    Image,
    PageTemplate,
    Paragraph,
    Spacer,
    Table,
)

from pipeline.ct.provenance import RESEARCH_LABEL
from pipeline.report.figures import png

FONT: Final = "DejaVu"
BOLD: Final = "DejaVuBold"
"""Embedded, so that every reader shows the same: Latin, Greek and Cyrillic letters."""


def _fonts() -> None:
    """Make both known to reportlab, from where matplotlib keeps them; a paragraph needs them when it is made."""
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    pdfmetrics.registerFont(TTFont(FONT, str(folder / "DejaVuSans.ttf")))
    pdfmetrics.registerFont(TTFont(BOLD, str(folder / "DejaVuSans-Bold.ttf")))
    pdfmetrics.registerFontFamily(FONT, normal=FONT, bold=BOLD, italic=FONT, boldItalic=BOLD)


_fonts()

MARGIN_MM: Final = 18.0
WIDTH_MM: Final = A4[0] / mm - 2 * MARGIN_MM
"""Width of the text."""
ROOM_MM: Final = 35.0
"""What must be left of a page for a heading and the begin of its table."""
LONGEST: Final = 600
"""Characters of a text from outside that are shown; the ledger has all of it."""

INK: Final = colors.HexColor("#1a1a1a")
RULE: Final = colors.HexColor("#b8b8b8")
HEAD: Final = colors.HexColor("#eef1f4")
GOOD: Final = colors.HexColor("#0072b2")
BAD: Final = colors.HexColor("#d55e00")
"""Blue and vermilion are told apart with every kind of colour vision; a word says it too."""

TEXT: Final = ParagraphStyle("text", fontName=FONT, fontSize=8.5, leading=11.5, textColor=INK, splitLongWords=1)
CELL: Final = ParagraphStyle("cell", parent=TEXT, fontSize=7.5, leading=9.5)
CODE: Final = ParagraphStyle("code", parent=CELL, wordWrap="CJK")
"""For identifiers, which break anywhere."""
LABEL: Final = ParagraphStyle("label", parent=CELL, fontName=BOLD)
TITLE: Final = ParagraphStyle("title", parent=TEXT, fontName=BOLD, fontSize=15, leading=19, spaceAfter=3)
HEADING: Final = ParagraphStyle("heading", parent=TEXT, fontName=BOLD, fontSize=10.5, leading=14, spaceBefore=9)
HEADING_OF_PICTURE: Final = ParagraphStyle("heading of picture", parent=HEADING, keepWithNext=1)
BOX: Final = ParagraphStyle("box", parent=TEXT, fontSize=10, leading=14, fontName=BOLD)

Cell = str | Paragraph


def written(text: str) -> str:
    """A text as it may be shown: its first line, without control and steering characters, at most `LONGEST` long."""
    line = text.strip().split("\n", 1)[0]
    shown = "".join(character for character in line if unicodedata.category(character) not in ("Cc", "Cf", "Cs"))
    return shown if len(shown) <= LONGEST else f"{shown[: LONGEST - 3]}..."


def say(text: str, style: ParagraphStyle = TEXT) -> Paragraph:
    """A paragraph of plain text."""
    return Paragraph(escape(written(text)) or "&ndash;", style)


def heading(text: str, *, of_picture: bool = False) -> Paragraph:
    """A heading; what follows begins on its page. A picture is never parted from it, a table may go on overleaf."""
    return Paragraph(escape(text), HEADING_OF_PICTURE if of_picture else HEADING)


def facts(rows: Iterable[tuple[str, str]]) -> Table:
    """Two columns: what, and what it is. Rows without a value are left out."""
    cells = [[say(what, LABEL), say(value, CODE)] for what, value in rows if value]
    table = Table(cells, colWidths=[34 * mm, (WIDTH_MM - 34) * mm], hAlign="LEFT")
    table.setStyle([*_PLAIN])
    return table


def table(head: Sequence[str], rows: Sequence[Sequence[Cell]], widths: Sequence[float]) -> Table:
    """A table whose head is repeated on every page; `widths` are parts of the text's width."""
    whole = sum(widths)
    cells: list[list[Cell]] = [[say(text, LABEL) for text in head]]
    cells += [[cell if isinstance(cell, Paragraph) else say(cell, CELL) for cell in row] for row in rows]
    made = Table(cells, colWidths=[WIDTH_MM * mm * width / whole for width in widths], repeatRows=1, hAlign="LEFT")
    made.setStyle([*_PLAIN, ("BACKGROUND", (0, 0), (-1, 0), HEAD)])
    return made


_PLAIN: Final[list[tuple[Any, ...]]] = [
    ("VALIGN", (0, 0), (-1, -1), "TOP"),
    ("LINEBELOW", (0, 0), (-1, -1), 0.3, RULE),
    ("TOPPADDING", (0, 0), (-1, -1), 1.5),
    ("BOTTOMPADDING", (0, 0), (-1, -1), 2.5),
    ("LEFTPADDING", (0, 0), (-1, -1), 3),
    ("RIGHTPADDING", (0, 0), (-1, -1), 3),
]


def box(text: str, *, good: bool) -> Table:
    """One sentence that nobody overlooks."""
    colour = GOOD if good else BAD
    made = Table([[say(text, BOX)]], colWidths=[WIDTH_MM * mm], hAlign="LEFT")
    made.setStyle(
        [
            ("BOX", (0, 0), (-1, -1), 1.2, colour),
            ("LINEBEFORE", (0, 0), (0, -1), 6, colour),
            ("LEFTPADDING", (0, 0), (-1, -1), 10),
            ("TOPPADDING", (0, 0), (-1, -1), 5),
            ("BOTTOMPADDING", (0, 0), (-1, -1), 7),
        ]
    )
    return made


def picture(figure: Figure, width_mm: float = WIDTH_MM, tallest_mm: float = 230.0) -> Image:
    """A figure, as wide as asked unless it would be taller than `tallest_mm`."""
    wide, tall = (float(size) for size in figure.get_size_inches())
    width_mm = min(width_mm, tallest_mm * wide / tall)
    return Image(io.BytesIO(png(figure)), width=width_mm * mm, height=width_mm * tall / wide * mm, hAlign="LEFT")


def gap(height_mm: float = 3.0) -> Spacer:
    """Room."""
    return Spacer(1, height_mm * mm)


def pdf(title: str, foot: str, content: Sequence[Flowable]) -> bytes:
    """The document; `foot` stands at the foot of each page, the research label at its head."""
    into = io.BytesIO()
    document = BaseDocTemplate(
        into, pagesize=A4, title=written(title), author="sct-node", invariant=1, initialFontName=FONT
    )
    frame = Frame(MARGIN_MM * mm, 16 * mm, WIDTH_MM * mm, A4[1] - 34 * mm, 0, 0, 0, 0)
    document.addPageTemplates(PageTemplate(frames=[frame], onPage=_page(written(title), written(foot))))
    document.build(list(_headed(content)))
    return into.getvalue()


def _headed(content: Sequence[Flowable]) -> Iterator[Flowable]:
    """The content, no heading at the very foot of a page."""
    for one in content:
        if isinstance(one, Paragraph) and one.style is HEADING:
            yield CondPageBreak(ROOM_MM * mm)
        yield one


def _page(title: str, foot: str) -> Callable[[Canvas, Any], None]:
    """What stands on each page beside its content."""

    def draw(canvas: Canvas, _: object) -> None:
        width, height = A4
        canvas.setFont(BOLD, 8)
        canvas.setFillColor(BAD)
        canvas.drawRightString(width - MARGIN_MM * mm, height - 12 * mm, RESEARCH_LABEL.capitalize())
        canvas.setFillColor(INK)
        canvas.setFont(FONT, 8)
        canvas.drawString(MARGIN_MM * mm, height - 12 * mm, title)
        canvas.setFont(FONT, 7)
        canvas.drawString(MARGIN_MM * mm, 9 * mm, foot)
        canvas.drawRightString(width - MARGIN_MM * mm, 9 * mm, f"page {canvas.getPageNumber()}")

    return draw
