"""Write PDF documents in the style of the node: A4, fonts, tables, pictures, head and foot of each page.

Text from headers and destinations is never interpreted as markup, and its control characters are left out. The same
content gives the same bytes.
"""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Iterable, Sequence
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
"""Fonts that are embedded, so that all readers show the same Latin, Greek and Cyrillic letters."""


_TTF = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
pdfmetrics.registerFont(TTFont(FONT, str(_TTF / "DejaVuSans.ttf")))  # a paragraph needs it when it is made
pdfmetrics.registerFont(TTFont(BOLD, str(_TTF / "DejaVuSans-Bold.ttf")))
pdfmetrics.registerFontFamily(FONT, normal=FONT, bold=BOLD, italic=FONT, boldItalic=BOLD)

MARGIN_MM: Final = 18.0
WIDTH_MM: Final = A4[0] / mm - 2 * MARGIN_MM
"""Width of the text."""
HEADING_SPACE_MM: Final = 35.0
"""Space that must be left on a page for a heading and the beginning of its table."""
LONGEST: Final = 600
"""Characters of a text that are shown; the ledger has the whole text."""

INK: Final = colors.HexColor("#1a1a1a")
RULE: Final = colors.HexColor("#b8b8b8")
HEAD: Final = colors.HexColor("#eef1f4")
GOOD: Final = colors.HexColor("#0072b2")
BAD: Final = colors.HexColor("#d55e00")
"""Blue and vermilion differ for every kind of colour vision; a word gives the same information."""

TEXT: Final = ParagraphStyle("text", fontName=FONT, fontSize=8.5, leading=11.5, textColor=INK, splitLongWords=1)
CELL: Final = ParagraphStyle("cell", parent=TEXT, fontSize=7.5, leading=9.5)
CODE: Final = ParagraphStyle("code", parent=CELL, wordWrap="CJK")
"""Style of identifiers, whose lines may break anywhere."""
LABEL: Final = ParagraphStyle("label", parent=CELL, fontName=BOLD)
TITLE: Final = ParagraphStyle("title", parent=TEXT, fontName=BOLD, fontSize=15, leading=19, spaceAfter=3)
HEADING: Final = ParagraphStyle("heading", parent=TEXT, fontName=BOLD, fontSize=10.5, leading=14, spaceBefore=9)
HEADING_OF_PICTURE: Final = ParagraphStyle("heading of picture", parent=HEADING, keepWithNext=1)
BOX: Final = ParagraphStyle("box", parent=TEXT, fontSize=10, leading=14, fontName=BOLD)

Cell = str | Paragraph


def printable(text: str) -> str:
    """Return the first line of a text, without control characters, at most `LONGEST` characters long."""
    line = text.strip().split("\n", 1)[0]
    shown = "".join(character for character in line if unicodedata.category(character) not in ("Cc", "Cf", "Cs"))
    return shown if len(shown) <= LONGEST else f"{shown[: LONGEST - 3]}..."


def paragraph(text: str, style: ParagraphStyle = TEXT) -> Paragraph:
    """Make a paragraph of plain text."""
    return Paragraph(escape(printable(text)) or "&ndash;", style)


def heading(text: str, *, of_picture: bool = False) -> Paragraph:
    """Make a heading that stays on the page of the picture, or of the beginning of the table, that follows it."""
    return Paragraph(escape(text), HEADING_OF_PICTURE if of_picture else HEADING)


def facts(rows: Iterable[tuple[str, str]]) -> Table:
    """Make a table of two columns, name and value; rows without a value are left out."""
    cells = [[paragraph(what, LABEL), paragraph(value, CODE)] for what, value in rows if value]
    table = Table(cells, colWidths=[34 * mm, (WIDTH_MM - 34) * mm], hAlign="LEFT")
    table.setStyle([*_PLAIN])
    return table


def table(head: Sequence[str], rows: Sequence[Sequence[Cell]], widths: Sequence[float]) -> Table:
    """Make a table whose head is repeated on every page; `widths` are proportions."""
    whole = sum(widths)
    cells: list[list[Cell]] = [[paragraph(text, LABEL) for text in head]]
    cells += [[cell if isinstance(cell, Paragraph) else paragraph(cell, CELL) for cell in row] for row in rows]
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
    """Make a box around one important sentence."""
    colour = GOOD if good else BAD
    made = Table([[paragraph(text, BOX)]], colWidths=[WIDTH_MM * mm], hAlign="LEFT")
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
    """Make a picture of a figure, `width_mm` wide unless it would be taller than `tallest_mm`."""
    wide, tall = (float(size) for size in figure.get_size_inches())
    width_mm = min(width_mm, tallest_mm * wide / tall)
    return Image(io.BytesIO(png(figure)), width=width_mm * mm, height=width_mm * tall / wide * mm, hAlign="LEFT")


def gap(height_mm: float = 3.0) -> Spacer:
    """Make vertical space."""
    return Spacer(1, height_mm * mm)


def pdf(title: str, foot: str, content: Sequence[Flowable]) -> bytes:
    """Write the document; `foot` stands at the foot of each page, `title` and the research label at its head."""

    def decorate(canvas: Canvas, _: object) -> None:
        width, height = A4
        canvas.setFont(BOLD, 8)
        canvas.setFillColor(BAD)
        canvas.drawRightString(width - MARGIN_MM * mm, height - 12 * mm, RESEARCH_LABEL.capitalize())
        canvas.setFillColor(INK)
        canvas.setFont(FONT, 8)
        canvas.drawString(MARGIN_MM * mm, height - 12 * mm, printable(title))
        canvas.setFont(FONT, 7)
        canvas.drawString(MARGIN_MM * mm, 9 * mm, printable(foot))
        canvas.drawRightString(width - MARGIN_MM * mm, 9 * mm, f"page {canvas.getPageNumber()}")

    into = io.BytesIO()
    document = BaseDocTemplate(
        into, pagesize=A4, title=printable(title), author="sct-node", invariant=1, initialFontName=FONT
    )
    frame = Frame(MARGIN_MM * mm, 16 * mm, WIDTH_MM * mm, A4[1] - 34 * mm, 0, 0, 0, 0)
    document.addPageTemplates(PageTemplate(frames=[frame], onPage=decorate))
    flowables: list[Flowable] = []
    for one in content:
        if isinstance(one, Paragraph) and one.style is HEADING:  # not at the very foot of a page
            flowables.append(CondPageBreak(HEADING_SPACE_MM * mm))
        flowables.append(one)
    document.build(flowables)
    return into.getvalue()
