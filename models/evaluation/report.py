"""A whole evaluation in a folder: tables, figures, and what they depend on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.data.pairs import BadPair, Pair, read_image
from models.data.patients import Patient, patients_of, read_pair
from models.evaluation import figures, sampler_settings, tables, training_cost
from models.evaluation.evaluate import (
    MEASURES,
    RANGES,
    BadMethod,
    Clock,
    Method,
    PatientMeasures,
    Terms,
    evaluate,
    groups_of,
    method_of,
)
from models.evaluation.tables import Evaluation

HU_RANGE: Final = (-1024.0, 3071.0)
"""The true CT is clipped to these HU."""


@dataclass(frozen=True)
class EvaluationRequest:
    """The methods, patients and options of an evaluation.

    Attributes:
        pairs: folder with `NAME_mr.nii.gz` and `NAME_ct.nii.gz`, or with SynthRAD's folders (see
            `models.data.patients`).
        patients: names; every pair of the folder where empty.
        methods: `NAME=SOURCE` or `SOURCE`, see `models.evaluation.evaluate.method_of`.
        reference: the method that others are tested against; the first where empty.
        year: 2023 or 2025, the challenge whose range PSNR has.
        seed: of the bootstrap.
        pictures: patients of whom pictures and profiles are drawn, from the first.
        device: where models run.
        spacing_mm: (slice, row, column) to which pairs are resampled first; their own where None.
        groups: YAML file, patient -> group, for tables by group; SynthRAD's regions where None.
        settings: of samplers, whose error is measured beside.
    """

    pairs: Path
    patients: tuple[str, ...]
    methods: tuple[str, ...]
    reference: str = ""
    year: int = 2023
    seed: int = 0
    pictures: int = 3
    device: str = "auto"
    spacing_mm: tuple[float, float, float] | None = None
    groups: Path | None = None
    settings: tuple[sampler_settings.Setting, ...] = ()


def patients_in(folder: Path) -> dict[str, Patient]:
    """Patients of a folder by name, in either layout of `models.data.patients`.

    Raises:
        BadPair: there are none, or one lacks a file.
    """
    found = patients_of(folder, "names") or patients_of(folder, "synthrad")
    if not found:
        raise BadPair(f"{folder}: no pair there; one is NAME_mr.nii.gz and NAME_ct.nii.gz, or a folder of SynthRAD's")
    return {patient.name: patient for patient in found}


def report(request: EvaluationRequest, into: Path, clock: Clock) -> Evaluation:
    """Evaluate, and write `patients.csv`, `comparisons.csv`, `tables.md`, `evaluation.json`, PNGs and `figures.pdf`.

    Raises:
        BadMethod: a method, or the reference, cannot be used.
        BadPair: a pair cannot be read.
        OSError: the folder cannot be written.
    """
    terms = terms_of(request)
    methods = methods_of(request, terms)
    reference = request.reference or methods[0].name
    into.mkdir(parents=True, exist_ok=True)
    rows: list[PatientMeasures] = []
    counts = {method.name: figures.no_counts() for method in methods}
    with figures.Album(into) as album:
        for place, (pair, images, found) in enumerate(evaluate(terms.pairs, methods, RANGES[request.year], clock)):
            rows += found
            for name, hu in images.items():
                counts[name] += figures.hu_counts(pair, hu)
            if place < request.pictures:
                album.add(figures.examples(pair, images), f"example_{pair.name}")
                album.add(figures.profiles(pair, images), f"profile_{pair.name}")
                figures.write_profiles_csv(pair, images, into / f"profile_{pair.name}.csv")
        groups = groups_of([pair.name for pair in terms.pairs], request.groups)
        names = tuple(method.name for method in methods)
        evaluation = Evaluation(tuple(rows), names, reference, RANGES[request.year], request.seed, groups)
        draw(evaluation, counts, methods, album)
        points = points_of(request, terms, into, clock) if request.settings else []
        if points:
            album.add(sampler_settings.curve(points), "sampling")
    write(evaluation, methods, points, into)
    return evaluation


def draw(
    evaluation: Evaluation, counts: dict[str, NDArray[np.float64]], methods: Sequence[Method], album: figures.Album
) -> None:
    """Draw the pictures of all patients."""
    album.add(figures.boxes(evaluation), "boxes")
    album.add(figures.tissue_bars(evaluation), "tissues")
    album.add(figures.differences(evaluation), "differences")
    album.add(figures.hu_agreement(counts), "hu_agreement")
    on_the_way = training_cost.curves({method.name: method.cards for method in methods})
    if on_the_way is not None:
        album.add(on_the_way, "milestones")


def points_of(request: EvaluationRequest, terms: Terms, into: Path, clock: Clock) -> list[sampler_settings.Point]:
    """Measure the sampler's settings, and write `sampling.csv`.

    Raises:
        BadMethod: no method has any.
    """

    def make(setting: sampler_settings.Setting) -> list[Method]:
        return methods_of(request, replace(terms, steps=setting.steps, samples=setting.samples))

    points = sampler_settings.measure(make, request.settings, terms.pairs, RANGES[request.year], clock)
    sampler_settings.write_csv(points, into / "sampling.csv")
    return points


def prepare(request: EvaluationRequest) -> tuple[list[Pair], list[Method]]:
    """The patients, and the methods made from their texts; see `terms_of` and `methods_of`."""
    terms = terms_of(request)
    return list(terms.pairs), methods_of(request, terms)


def terms_of(request: EvaluationRequest) -> Terms:
    """Read the patients; those that are not measured only where a method learns from them.

    Raises:
        BadPair: a pair is not there or cannot be read.
    """
    known = patients_in(request.pairs)
    chosen = list(request.patients or known)
    if set(chosen) - set(known):
        raise BadPair(f"{request.pairs}: no pair {', '.join(sorted(set(chosen) - set(known)))}")
    learns = any(text.endswith("look-up-table") for text in request.methods)
    others = [name for name in known if name not in chosen] if learns else []
    pairs, training = (
        [read_pair(known[name], request.spacing_mm or own_spacing_mm(known[name]), HU_RANGE) for name in names]
        for names in (chosen, others)
    )
    return Terms(pairs, training, request.device)


def methods_of(request: EvaluationRequest, terms: Terms) -> list[Method]:
    """Make the methods of their texts.

    Raises:
        BadMethod: two methods have one name, or the reference is none of them.
    """
    methods = [method_of(text, terms) for text in request.methods]
    names = [method.name for method in methods]
    if len(set(names)) < len(names):
        raise BadMethod(f"two methods have one name among {', '.join(names)}; give them names: NAME=SOURCE")
    if request.reference and request.reference not in names:
        raise BadMethod(f"the reference {request.reference!r} is none of the methods {', '.join(names)}")
    return methods


def own_spacing_mm(patient: Patient) -> tuple[float, float, float]:
    """(slice, row, column) of a patient's CT."""
    column, row, step = read_image(patient.ct).GetSpacing()
    return step, row, column


def write(
    evaluation: Evaluation, methods: Sequence[Method], points: Sequence[sampler_settings.Point], into: Path
) -> None:
    """Write the tables, and `evaluation.json` for a program to read."""
    said = as_json(evaluation, methods)
    tables.write_patients_csv(evaluation, into / "patients.csv")
    tables.write_comparisons_csv(evaluation, into / "comparisons.csv")
    (into / "tables.md").write_text(tables.markdown(evaluation, methods, points), encoding="utf-8")
    (into / "evaluation.json").write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
    (into / "short.md").write_text(tables.short(said), encoding="utf-8")


def as_json(evaluation: Evaluation, methods: Sequence[Method]) -> dict[str, Any]:
    """Return the inputs of the evaluation, and mean and SD of each measure by method (null where no patient has it)."""
    trained = {method.name: training_cost.effort_of(method.cards) for method in methods}
    return {
        "patients": list(evaluation.patients),
        "methods": {method.name: method.source for method in methods},
        "versions": {method.name: sorted({card.version for card in method.cards}) for method in methods},
        "training": {name: None if one is None else asdict(one) for name, one in trained.items()},
        "reference": evaluation.reference,
        "psnr_range_hu": list(evaluation.psnr_range),
        "bootstrap_seed": evaluation.seed,
        "units": {name: one.title for name, one in MEASURES.items()},
        "mean": {method: _figures(evaluation, method, "mean") for method in evaluation.methods},
        "sd": {method: _figures(evaluation, method, "sd") for method in evaluation.methods},
    }


def _figures(evaluation: Evaluation, method: str, which: str) -> dict[str, float | None]:
    found = {measure: getattr(evaluation.summary(method, measure), which) for measure in MEASURES}
    return {measure: round(one, 6) if np.isfinite(one) else None for measure, one in found.items()}
