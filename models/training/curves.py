"""The curves of a training: one CSV a stage, and one picture of them all."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def record(path: Path, row: Mapping[str, float]) -> None:
    """Append a row of named numbers to a CSV, with the names above the first."""
    fresh = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        if fresh:
            writer.writerow(row)
        writer.writerow([f"{value:.6g}" for value in row.values()])


def read(path: Path) -> dict[str, list[float]]:
    """Columns of a CSV by name."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: [float(row[name]) for row in rows] for name in (rows[0] if rows else {})}


def forget_after(path: Path, step: int) -> None:
    """Take out the rows beyond a step: the training goes on from there and will write them again."""
    if not path.exists():
        return
    columns = read(path)
    path.unlink()
    for number, at in enumerate(columns.get("step", [])):
        if at <= step:
            record(path, {name: values[number] for name, values in columns.items()})


def draw(paths: Sequence[Path], picture: Path) -> None:
    """A PNG with one panel a CSV: every loss against the steps, logarithmic."""
    found = [path for path in paths if path.exists()]
    if not found:
        return
    figure = Figure(figsize=(6 * len(found), 4), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, path in zip(figure.subplots(1, len(found), squeeze=False)[0], found, strict=True):
        columns = read(path)
        for name in set(columns) - {"step", "minutes", "rate"}:
            values = np.array(columns[name])
            axes.plot(columns["step"], np.where(values > 0, values, np.nan), label=name)
        axes.set(title=path.stem, xlabel="step", ylabel="loss", yscale="log")
        axes.legend()
    figure.savefig(picture, dpi=100)
