"""A picture of how well a model's doubt foretells its errors, drawn from the figures of its card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

DOTS_PER_INCH: Final = 110
GROUPS: Final = {"training": "training, judged by other folds", "kept_back": "kept back"}
"""Key of the figures -> words of the legend."""


def draw(figures: Mapping[str, Any], picture: Path) -> None:
    """A PNG: error by expected SD of voxels and of patients, and each patient's rank correlation.

    Args:
        figures: the `doubt` of a card's figures (`doubt_training.figures_of`).
        picture: file to write.
    """
    figure = Figure(figsize=(11, 3.8), layout="constrained")
    curve, patients, ranks = figure.subplots(1, 3)
    _draw_curve(curve, figures["curve"])
    for key, words in GROUPS.items():
        found: Sequence[Mapping[str, Any]] = figures[key]
        patients.plot([one["expected"] for one in found], [one["found"] for one in found], "o", label=words)
        ranks.plot([one["novelty"] for one in found], [one["spearman"] for one in found], "o", label=words)
    patients.set(xlabel="expected SD (HU)", ylabel="root mean square error (HU)", title="By patient")
    ranks.set(xlabel="novelty", ylabel="Spearman, SD and error by voxel", title="By patient")
    ranks.set_ylim(0, 1)
    patients.legend(fontsize=7)
    figure.savefig(picture, dpi=DOTS_PER_INCH, metadata={"Software": None})


def _draw_curve(axes: Axes, curve: Mapping[str, Any]) -> None:
    top = 1.05 * max(*curve["expected"], *curve["found"])
    axes.plot([0, top], [0, top], color="grey", linewidth=0.8, label="as expected")
    axes.plot(curve["expected"], curve["found"], "o-", label="training, judged by other folds")
    axes.set(xlabel="expected SD (HU)", ylabel="root mean square error (HU)", title=f"ENCE {curve['ence']:.2f}")
    axes.legend(fontsize=7)
