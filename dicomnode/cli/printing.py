"""What several commands print: JSON for a program, or a table for a person."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any


def print_json(value: object) -> None:
    """Print a value as JSON (RFC 8259); what JSON does not know is printed as text."""
    print(json.dumps(value, indent=2, default=str))


def print_table(columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> None:
    """Print columns wide enough for their longest value.

    Keys of jobs are shortened to twelve characters, texts to their first line; None is an empty cell.
    """
    cells = [list(columns)]
    for row in rows:
        texts = {column: "" if row.get(column) is None else str(row[column]) for column in columns}
        lines = {column: next(iter(text.splitlines()), "") for column, text in texts.items()}
        cells.append([line[:12] if column in ("job", "superseded_by") else line for column, line in lines.items()])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
