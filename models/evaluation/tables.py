"""Tables of an evaluation: CSV by patient, CSV of comparisons, Markdown as in the paper's tables 2 to 4.

Stars mark the paired two-sided t-test against the reference method without correction, as in the paper; the table of
comparisons has what that lacks: intervals, Wilcoxon's test, and Holm's correction over all tests of the evaluation.
"""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from models.evaluation import training_cost
from models.evaluation.evaluate import MEASURES, Method, PatientMeasures
from models.evaluation.sampler_settings import MEASURED, Point
from models.evaluation.statistics import CONFIDENCE, DRAWS, Comparison, Summary, compare, holm, stars, summary
from models.measures.similarity import FAT_HU, LUNG_HU, SOFT_HU, TISSUES
from models.measures.structures import LEAST_ML, STRUCTURES

TESTED: Final = (
    "mae", "psnr", "ssim", "ms_ssim", *(f"mae_{tissue}" for tissue in ("soft", "bone")), "dice_bone", "hd95_bone",
)  # fmt: skip
"""Measures that are tested against the reference; Holm's correction counts each of them for each method."""

BY_GROUP: Final = ("mae", "psnr", "ssim")
"""The paper's tables 2, 3 and 4."""
SHORT: Final = ("mae", "mae_soft", "mae_bone", "psnr", "ssim", "ms_ssim", "seconds")
"""Columns of the short table."""


@dataclass(frozen=True)
class Tested:
    """One test of the evaluation: method against reference in a measure, with p adjusted over all tests."""

    measure: str
    method: str
    comparison: Comparison
    t_holm: float
    wilcoxon_holm: float


@dataclass(frozen=True)
class Evaluation:
    """All rows of an evaluation, and what they depend on.

    Attributes:
        rows: by patient and method.
        methods: names, in the order of the tables.
        reference: the method that others are tested against.
        psnr_range: of PSNR in HU.
        seed: of the bootstrap.
        groups: patient -> group, for tables by group; none where empty.
    """

    rows: tuple[PatientMeasures, ...]
    methods: tuple[str, ...]
    reference: str
    psnr_range: tuple[float, float]
    seed: int
    groups: Mapping[str, str] = field(default_factory=dict)

    @property
    def patients(self) -> tuple[str, ...]:
        """Names of the patients, in their order."""
        return tuple(dict.fromkeys(row.patient for row in self.rows))

    def within(self, group: str) -> Evaluation:
        """The patients of one group alone."""
        rows = tuple(row for row in self.rows if self.groups[row.patient] == group)
        return dataclasses.replace(self, rows=rows)

    def values(self, method: str, measure: str) -> list[float]:
        """A measure of a method, by patient."""
        return [row.scores[measure] for row in self.rows if row.method == method]

    def summary(self, method: str, measure: str) -> Summary:
        """Mean, SD and interval over the patients."""
        return summary(self.values(method, measure), self.seed)

    def tests(self) -> list[Tested]:
        """Tabulate every test against the reference method."""
        keys = [(measure, method) for measure in TESTED for method in self.methods if method != self.reference]
        found = {
            f"{measure} {method}": compare(
                self.values(method, measure), self.values(self.reference, measure), self.seed
            )
            for measure, method in keys
        }
        by_t = holm({key: one.t_p for key, one in found.items()})
        by_wilcoxon = holm({key: one.wilcoxon_p for key, one in found.items()})
        return [
            Tested(measure, method, found[key], by_t[key], by_wilcoxon[key])
            for (measure, method), key in zip(keys, found, strict=True)
        ]


# CSV


def write_patients_csv(evaluation: Evaluation, path: Path) -> None:
    """One line a patient and method; heads carry the units; empty where a patient has no such tissue or structure."""
    heads = ["patient", "method", *(one.title for one in MEASURES.values())]
    lines = ([row.patient, row.method, *map(_plain, row.scores.values())] for row in evaluation.rows)
    _write(path, heads, lines)


def write_comparisons_csv(evaluation: Evaluation, path: Path) -> None:
    """One line a test: difference, interval, p of both tests, before and after Holm's correction."""
    figures = [entry.name for entry in dataclasses.fields(Comparison)]
    heads = ["measure", "method", "reference", *figures, "t_p_holm", "wilcoxon_p_holm"]
    lines = (
        [
            MEASURES[one.measure].title,
            one.method,
            evaluation.reference,
            *map(_plain, dataclasses.astuple(one.comparison)),
            _plain(one.t_holm),
            _plain(one.wilcoxon_holm),
        ]
        for one in evaluation.tests()
    )
    _write(path, heads, lines)


def _write(path: Path, heads: Sequence[str], lines: Iterable[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([heads, *lines])


def _plain(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.6g}"


# Markdown


def markdown(evaluation: Evaluation, methods: Sequence[Method], points: Sequence[Point] = ()) -> str:
    """The whole evaluation as Markdown; `points` are the sampler's settings that were measured beside."""
    sources = {method.name: method.source for method in methods}
    parts = [
        "# Evaluation\n",
        _preamble(evaluation, sources),
        "## All\n",
        _overview(evaluation, ("mae", "psnr", "ssim", "ms_ssim", "seconds")),
        *_by_group(evaluation),
        *_at_equal_steps(methods),
        *_by_sampling(points),
        "## Error by tissue\n",
        _overview(evaluation, tuple(f"mae_{tissue}" for tissue in TISSUES)),
        _overview(evaluation, tuple(f"bias_{tissue}" for tissue in TISSUES)),
        "## Structures\n",
        _overview(evaluation, tuple(f"{kind}_{name}" for name in STRUCTURES for kind in ("dice", "hd95"))),
        _counts(evaluation),
        f"## Against {evaluation.reference}\n",
        _comparisons(evaluation),
    ]
    return "\n".join(parts)


def _preamble(evaluation: Evaluation, sources: Mapping[str, str]) -> str:
    low, high = evaluation.psnr_range
    named = "; ".join(f"{name}: `{source}`" for name, source in sources.items())
    return (
        f"{len(evaluation.patients)} patients: {', '.join(evaluation.patients)}. Methods: {named}.\n\n"
        "Mean ± SD over patients, in the body common to MR and CT. Bold: best mean. "
        f"Stars: paired two-sided t-test against {evaluation.reference}, uncorrected: * p < 0.05, ** p < 0.01, "
        "*** p < 0.001. In brackets: patients, where not all have the tissue. "
        "Seconds a volume: on a CPU the processor's, summed over the threads.\n\n"
        f"PSNR on {low:.0f}..{high:.0f} HU; SSIM as in SynthRAD2023, MS-SSIM as in SynthRAD2025. Tissues by HU of the "
        f"CT: air below {SOFT_HU[0]:.0f} (of it lung {LUNG_HU[0]:.0f}..{LUNG_HU[1]:.0f}), soft {SOFT_HU[0]:.0f}.."
        f"{SOFT_HU[1]:.0f} (of it fat {FAT_HU[0]:.0f}..{FAT_HU[1]:.0f}), bone above {SOFT_HU[1]:.0f}. "
        f"Structures: parts below {LEAST_ML} ml are left out of both images; one that only one image has counts as "
        "Dice 0 and HD95 of the whole diagonal.\n"
    )


def _table(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rule = ["---", *["---:"] * (len(heads) - 1)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [heads, rule, *lines]) + "\n"


def _overview(evaluation: Evaluation, measures: Sequence[str]) -> str:
    """Methods by measures: mean ± SD, stars, best in bold."""
    marks = {(one.measure, one.method): stars(one.comparison.t_p) for one in evaluation.tests()}
    best = {measure: _best(evaluation, measure) for measure in measures}
    lines = [
        [
            method,
            *(
                _cell(evaluation, method, measure, best[measure] == method) + marks.get((measure, method), "")
                for measure in measures
            ),
        ]
        for method in evaluation.methods
    ]
    return _table(["", *(MEASURES[measure].title for measure in measures)], lines)


def _by_group(evaluation: Evaluation) -> list[str]:
    """The paper's tables 2 to 4: MAE, PSNR and SSIM of each method in each group, and in all."""
    if not evaluation.groups:
        return []
    groups = sorted({evaluation.groups[patient] for patient in evaluation.patients})
    parts = {group: evaluation.within(group) for group in groups} | {"all": evaluation}
    return ["## By group\n", *(_group_table(parts, measure) for measure in BY_GROUP)]


def _group_table(parts: Mapping[str, Evaluation], measure: str) -> str:
    heads = [MEASURES[measure].title, *(f"{name} (n = {len(part.patients)})" for name, part in parts.items())]
    columns = [_column(part, measure) for part in parts.values()]
    return _table(heads, ([method, *cells] for method, *cells in zip(parts["all"].methods, *columns, strict=True)))


def _column(evaluation: Evaluation, measure: str) -> list[str]:
    """One measure by method: mean ± SD, stars, best in bold."""
    marks = {one.method: stars(one.comparison.t_p) for one in evaluation.tests() if one.measure == measure}
    best = _best(evaluation, measure)
    return [_cell(evaluation, name, measure, best == name) + marks.get(name, "") for name in evaluation.methods]


def _at_equal_steps(methods: Sequence[Method]) -> list[str]:
    """The validation error on the way, as the models' cards have it."""
    found = training_cost.table({method.name: method.cards for method in methods})
    note = (
        "Validation error of the running average on each training's way, from the models' cards; steps and minutes "
        "over all stages.\n"
    )
    return ["## At equal steps\n", note, _table(found[0], found[1:])] if found else []


def _by_sampling(points: Sequence[Point]) -> list[str]:
    """Tabulate error and time against sampler steps and averaged samples."""
    if not points:
        return []
    heads = ["", "sampler steps", "samples", *(MEASURES[measure].title for measure in MEASURED)]
    lines = (
        [
            point.method,
            str(point.setting.steps),
            str(point.setting.samples),
            *(f"{point.mean(measure):.{MEASURES[measure].digits}f}" for measure in MEASURED),
        ]
        for point in points
    )
    return ["## By sampler steps and samples\n", _table(heads, lines)]


def short(said: Mapping[str, Any]) -> str:
    """The one table of an `evaluation.json`, for README: what each method reaches, and what it costs."""
    heads = ["", *(MEASURES[measure].title for measure in SHORT), "training (min)", "steps"]
    best = {measure: _best_of({name: one[measure] for name, one in said["mean"].items()}, measure) for measure in SHORT}
    lines = []
    for name, means in said["mean"].items():
        cells = [_short_cell(mean, said["sd"][name][key], key, best[key] == name) for key, mean in _short_part(means)]
        lines.append([" ".join([name, *said["versions"][name]]), *cells, *_cost(said["training"][name])])
    return _table(heads, lines)


def _short_part(means: Mapping[str, float | None]) -> list[tuple[str, float | None]]:
    return [(measure, means[measure]) for measure in SHORT]


def _short_cell(mean: float | None, sd: float | None, measure: str, best: bool) -> str:
    digits = MEASURES[measure].digits
    if mean is None:
        return "none"
    shown = f"**{mean:.{digits}f}**" if best else f"{mean:.{digits}f}"
    return shown + ("" if sd is None else f" ± {sd:.{digits}f}")


def _cost(cost: Mapping[str, float] | None) -> tuple[str, str]:
    """Return minutes and steps; a training that began with version 0.1 has uncounted minutes."""
    if cost is None:
        return "", ""
    minutes = f"{cost['minutes']:.0f}" if cost["complete"] else f"> {cost['minutes']:.0f}"
    return minutes if cost["minutes"] else "not counted", f"{cost['steps']:.0f}"


def _best(evaluation: Evaluation, measure: str) -> str:
    """The method with the best mean; none where no method has the measure."""
    return _best_of({method: evaluation.summary(method, measure).mean for method in evaluation.methods}, measure)


def _best_of(means: Mapping[str, float | None], measure: str) -> str:
    known = {method: mean for method, mean in means.items() if mean is not None and not np.isnan(mean)}
    better = MEASURES[measure].better
    rank = {"low": lambda mean: mean, "high": lambda mean: -mean, "zero": abs}[better]
    return min(known, key=lambda method: rank(known[method])) if known else ""


def _cell(evaluation: Evaluation, method: str, measure: str, best: bool) -> str:
    found, digits = evaluation.summary(method, measure), MEASURES[measure].digits
    if not found.n:
        return "none"
    mean = f"{found.mean:.{digits}f}"
    spread = f" ± {found.sd:.{digits}f}" if found.n > 1 else ""
    some = f" ({found.n})" if found.n < len(evaluation.patients) else ""
    return (f"**{mean}**" if best else mean) + spread + some


def _counts(evaluation: Evaluation) -> str:
    """Patients in whom a structure of the CT is missing from the synthetic one, or invented by it."""
    kinds = [(name, kind) for name in STRUCTURES for kind in ("missing", "invented")]
    lines = [
        [method, *(f"{sum(evaluation.values(method, f'{kind}_{name}')):.0f}" for name, kind in kinds)]
        for method in evaluation.methods
    ]
    return _table([f"patients of {len(evaluation.patients)}", *(f"{name} {kind}" for name, kind in kinds)], lines)


def _comparisons(evaluation: Evaluation) -> str:
    heads = ["measure", "method", f"difference [{CONFIDENCE:.0%} CI]", "t-test p", "Holm", "Wilcoxon p", "Holm"]
    lines = []
    for one in evaluation.tests():
        digits, found = MEASURES[one.measure].digits, one.comparison
        interval = f"{found.difference:+.{digits}f}"
        if found.n > 1:
            interval += f" [{found.low:+.{digits}f}, {found.high:+.{digits}f}]"
        p_values = (found.t_p, one.t_holm, found.wilcoxon_p, one.wilcoxon_holm)
        lines.append([MEASURES[one.measure].title, one.method, interval, *map(_p, p_values)])
    note = (
        f"Method less {evaluation.reference}, by patient. Bootstrap over patients, {DRAWS} draws, seed "
        f"{evaluation.seed}; Holm's correction over the {len(lines)} tests of this table, for each kind of test.\n"
    )
    return note + "\n" + _table(heads, lines)


def _p(p: float) -> str:
    return "" if np.isnan(p) else "< 0.0001" if p < 0.0001 else f"{p:.4f}"
