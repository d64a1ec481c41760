"""A whole evaluation in a folder: tables, figures, and what they depend on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from models import figures, tables
from models.cohort import Patient, patients_of, read_pair
from models.evaluate import MEASURES, RANGES, BadMethod, Clock, Method, Row, evaluate, method_of
from models.pairs import BadPair, Pair, read_image
from models.tables import Evaluation

HU_RANGE: Final = (-1024.0, 3071.0)
"""The true CT is clipped to these HU."""


@dataclass(frozen=True)
class Request:
    """What to evaluate.

    Attributes:
        pairs: folder with `NAME_mr.nii.gz` and `NAME_ct.nii.gz`, or with SynthRAD's folders (see `models.cohort`).
        patients: names; every pair of the folder where empty.
        methods: `NAME=SOURCE` or `SOURCE`, see `models.evaluate.method_of`.
        reference: the method that others are tested against; the first where empty.
        year: 2023 or 2025, the challenge whose range PSNR has.
        seed: of the bootstrap.
        pictures: patients of whom pictures and profiles are drawn, from the first.
        device: where models run.
        spacing_mm: (slice, row, column) to which pairs are resampled first; their own where None.
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


def patients_in(folder: Path) -> dict[str, Patient]:
    """Patients of a folder by name, in either layout of `models.cohort`.

    Raises:
        BadPair: there are none, or one lacks a file.
    """
    found = patients_of(folder, "names") or patients_of(folder, "synthrad")
    if not found:
        raise BadPair(f"{folder}: no pair there; one is NAME_mr.nii.gz and NAME_ct.nii.gz, or a folder of SynthRAD's")
    return {patient.name: patient for patient in found}


def report(request: Request, into: Path, clock: Clock) -> Evaluation:
    """Evaluate, and write `patients.csv`, `comparisons.csv`, `tables.md`, `evaluation.json`, PNGs and `figures.pdf`.

    Raises:
        BadMethod: a method, or the reference, cannot be used.
        BadPair: a pair cannot be read.
        OSError: the folder cannot be written.
    """
    pairs, methods = prepare(request)
    reference = request.reference or methods[0].name
    into.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    counts = {method.name: figures.no_counts() for method in methods}
    with figures.Album(into) as album:
        for place, (pair, images, found) in enumerate(evaluate(pairs, methods, RANGES[request.year], clock)):
            rows += found
            for name, hu in images.items():
                counts[name] += figures.hu_counts(pair, hu)
            if place < request.pictures:
                album.add(figures.examples(pair, images), f"example_{pair.name}")
                album.add(figures.profiles(pair, images), f"profile_{pair.name}")
                figures.write_profiles_csv(pair, images, into / f"profile_{pair.name}.csv")
        names = tuple(method.name for method in methods)
        evaluation = Evaluation(tuple(rows), names, reference, RANGES[request.year], request.seed)
        album.add(figures.boxes(evaluation), "boxes")
        album.add(figures.tissue_bars(evaluation), "tissues")
        album.add(figures.differences(evaluation), "differences")
        album.add(figures.hu_agreement(counts), "hu_agreement")
    write(evaluation, {method.name: method.source for method in methods}, into)
    return evaluation


def prepare(request: Request) -> tuple[list[Pair], list[Method]]:
    """The patients, and the methods made from their texts.

    Raises:
        BadMethod: two methods have one name, or the reference is none of them.
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
    methods = [method_of(text, pairs, training, request.device) for text in request.methods]
    names = [method.name for method in methods]
    if len(set(names)) < len(names):
        raise BadMethod(f"two methods have one name among {', '.join(names)}; give them names: NAME=SOURCE")
    if request.reference and request.reference not in names:
        raise BadMethod(f"the reference {request.reference!r} is none of the methods {', '.join(names)}")
    return pairs, methods


def own_spacing_mm(patient: Patient) -> tuple[float, float, float]:
    """(slice, row, column) of a patient's CT."""
    column, row, step = read_image(patient.ct).GetSpacing()
    return step, row, column


def write(evaluation: Evaluation, sources: dict[str, str], into: Path) -> None:
    """Write the tables, and `evaluation.json` for a program to read."""
    tables.write_patients_csv(evaluation, into / "patients.csv")
    tables.write_comparisons_csv(evaluation, into / "comparisons.csv")
    (into / "tables.md").write_text(tables.markdown(evaluation, sources), encoding="utf-8")
    (into / "evaluation.json").write_text(json.dumps(as_json(evaluation, sources), indent=2) + "\n", encoding="utf-8")


def as_json(evaluation: Evaluation, sources: dict[str, str]) -> dict[str, object]:
    """What the evaluation depends on, and the mean of each measure by method (null where no patient has it)."""
    return {
        "patients": list(evaluation.patients),
        "methods": sources,
        "reference": evaluation.reference,
        "psnr_range_hu": list(evaluation.psnr_range),
        "bootstrap_seed": evaluation.seed,
        "units": {name: one.title for name, one in MEASURES.items()},
        "mean": {method: _means(evaluation, method) for method in evaluation.methods},
    }


def _means(evaluation: Evaluation, method: str) -> dict[str, float | None]:
    found = {measure: evaluation.summary(method, measure) for measure in MEASURES}
    return {measure: round(one.mean, 6) if one.n else None for measure, one in found.items()}
