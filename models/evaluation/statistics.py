"""Statistics of paired measurements: the same patients, measured under several methods.

Paired two-sided t-test, as in the paper; and what it lacks: Wilcoxon's signed-rank test, bootstrap intervals, and
Holm's correction over all tests of a table. With 3 patients Wilcoxon's p cannot fall below 0.25, with 5 not below 0.06.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Values = NDArray[np.float64]

DRAWS: Final = 10_000
"""Bootstrap samples."""
CONFIDENCE: Final = 0.95
STARS: Final = ((0.001, "***"), (0.01, "**"), (0.05, "*"))
"""Below this p, these stars."""


@dataclass(frozen=True)
class Summary:
    """A measure over patients. NaN where no patient has it; SD and interval need two.

    Attributes:
        n: patients that have the measure.
        mean: over them.
        sd: sample standard deviation.
        low: lower end of the 95 % bootstrap interval of the mean.
        high: upper end.
    """

    n: int
    mean: float
    sd: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """A method against the reference, on the patients that both have.

    Attributes:
        n: pairs.
        difference: mean of method less reference.
        low: lower end of the 95 % bootstrap interval of the mean difference.
        high: upper end.
        t_p: two-sided p of the paired t-test.
        wilcoxon_p: two-sided p of Wilcoxon's signed-rank test.
    """

    n: int
    difference: float
    low: float
    high: float
    t_p: float
    wilcoxon_p: float


def summary(values: Sequence[float], seed: int) -> Summary:
    """Mean, SD and bootstrap interval of the values that are numbers."""
    known = np.array([value for value in values if np.isfinite(value)], dtype=np.float64)
    if not known.size:
        return Summary(0, *[float("nan")] * 4)
    sd = float(known.std(ddof=1)) if known.size > 1 else float("nan")
    return Summary(known.size, float(known.mean()), sd, *bootstrap_interval(known, seed))


def bootstrap_interval(values: Values, seed: int, draws: int = DRAWS) -> tuple[float, float]:
    """95 % percentile interval of the mean under resampling of patients; NaN for fewer than two."""
    if values.size < 2:
        return float("nan"), float("nan")
    chosen = np.random.default_rng(seed).integers(values.size, size=(draws, values.size))
    low, high = np.quantile(values[chosen].mean(axis=1), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def compare(method: Sequence[float], reference: Sequence[float], seed: int) -> Comparison:
    """Paired comparison on the patients (same order) where both are numbers; p is NaN for fewer than two."""
    pairs = np.array([pair for pair in zip(method, reference, strict=True) if np.isfinite(pair).all()])
    if len(pairs) < 2:
        difference = float(pairs[0, 0] - pairs[0, 1]) if len(pairs) else float("nan")
        return Comparison(len(pairs), difference, *[float("nan")] * 4)
    differences = pairs[:, 0] - pairs[:, 1]
    low, high = bootstrap_interval(differences, seed)
    return Comparison(len(pairs), float(differences.mean()), low, high, t_p(differences), wilcoxon_p(differences))


def t_p(differences: Values) -> float:
    """Two-sided p of Student's paired t-test; 1 where all differences are 0, 0 where they are all the same."""
    if np.ptp(differences) == 0:
        return 1.0 if differences[0] == 0 else 0.0
    return float(stats.ttest_1samp(differences, 0.0).pvalue)


def wilcoxon_p(differences: Values) -> float:
    """Two-sided p of Wilcoxon's signed-rank test, zeros left out; 1 where all differences are 0."""
    return float(stats.wilcoxon(differences).pvalue) if differences.any() else 1.0


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """p adjusted for all tests of a family by Holm's step-down rule; a p that is NaN is no test and stays NaN."""
    tested = sorted((p, name) for name, p in p_values.items() if np.isfinite(p))
    adjusted, reached = dict.fromkeys(p_values, float("nan")), 0.0
    for place, (p, name) in enumerate(tested):
        reached = max(reached, min(1.0, (len(tested) - place) * p))
        adjusted[name] = reached
    return adjusted


def stars(p: float) -> str:
    """`***` below 0.001, `**` below 0.01, `*` below 0.05, nothing else."""
    return next((mark for limit, mark in STARS if p < limit), "")
