"""How many damaged MR are held, how many sound ones pass, and what each finding tells of the true error.

    python tests/studies/sensitivity.py --pairs DIR --out DIR [--model NAME] [--patients A,B] [--damages "noise,..."]

For every patient with MR and CT, and for the MR damaged in each way of `damage.DAMAGES`, the model makes a CT; its mean
absolute error against the true CT in the body common to the sound MR and the CT is the truth. `cases.csv` has every
value, `tables.md` what is held by damage, and a ROC table: for each finding the area under the curve that tells cases
with a large error from the others, and its sensitivity and specificity at the card's limit.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from damage import DAMAGES, Image

from models.data.pairs import Pair, make_pair, read_nifti
from models.data.patients import patients_of
from models.inference.weights import Model, load_model
from models.measures.plausibility import MEASURES, CaseImages, measured
from pipeline.findings.findings import finding_for

SOUND: Final = "none"
SLICES: Final = 24
"""Central slices that are looked at, so that a case takes seconds."""
HU_RANGE: Final = (-1024.0, 3071.0)
OF_ITS_MAKER: Final = "truncation"
"""The pairs' fields were cut about the tumour by those who published them: every one of them is truncated, and is
looked at apart."""


@dataclass(frozen=True)
class Row:
    """One case: what was done to whose MR, the true error in HU, and the value and verdict of each finding."""

    patient: str
    damage: str
    mae: float
    values: Mapping[str, float]
    failed: tuple[str, ...]

    @property
    def held(self) -> bool:
        """Whether a finding but the truncation asks for a person."""
        return bool(set(self.failed) - {OF_ITS_MAKER})


def central(image: np.ndarray) -> np.ndarray:
    """The central slices of an image."""
    first = max(0, (len(image) - SLICES) // 2)
    return image[first : first + SLICES]


def damaged(name: str, patient: str, mr: Image, spacing_mm: tuple[float, float, float]) -> Image:
    """A patient's MR with a damage; the draws follow from the patient's number."""
    if name == SOUND:
        return mr
    number = int("".join(filter(str.isdigit, patient)) or 0)
    return DAMAGES[name](mr, spacing_mm, np.random.default_rng(number))


def row_of(
    patient: str, damage: str, images: CaseImages, truth: Pair, limits: Mapping[str, Mapping[str, float]]
) -> Row:
    """Measure one case."""
    values = measured(images, [name for name in MEASURES if name in limits])
    failed = tuple(
        name for name, value in values.items() if finding_for(name, value, "", limits[name]).verdict != "pass"
    )
    error = np.abs(images.hu[truth.body] - truth.hu[truth.body].astype(np.float32))
    return Row(patient, damage, float(error.mean()), values, failed)


def rows_of(folder: Path, model: Model, patients: Sequence[str], damages: Sequence[str]) -> Iterator[Row]:
    """Every patient with every damage, the sound MR first."""
    for patient in patients:
        (mr, spacing_mm), (hu, _) = (read_nifti(folder / f"{patient}_{kind}.nii.gz") for kind in ("mr", "ct"))
        truth = make_pair(patient, central(mr), central(hu), spacing_mm, HU_RANGE)
        for damage in (SOUND, *damages):
            seen = damaged(damage, patient, central(mr).astype(np.float32), spacing_mm)
            made = model.predict(seen, 0)
            novelty, known = made.novelty, model.card.mr_quantiles
            images = CaseImages(seen, made.hu, made.body, spacing_mm, made.sd, novelty, known)
            yield row_of(patient, damage, images, truth, model.card.findings)


def area_under_curve(bad: Sequence[float], good: Sequence[float]) -> float:
    """Probability that a bad case has a larger value than a good one, ties counting half (Mann and Whitney)."""
    first, second = np.array(bad)[:, None], np.array(good)[None]
    return float(((first > second) + 0.5 * (first == second)).mean()) if first.size and second.size else float("nan")


def distance_from_limits(name: str, value: float, limits: Mapping[str, Mapping[str, float]]) -> float:
    """How far a value lies from the middle of its limits: large is suspicious, whichever side it is on."""
    low, high = limits[name]["low"], limits[name]["high"]
    if MEASURES[name].sound == "low":
        return value
    return low - value if MEASURES[name].sound == "high" else abs(value - (low + high) / 2)


def large_error_hu(rows: Sequence[Row]) -> float:
    """Errors above the largest of a sound MR are large."""
    return max(row.mae for row in rows if row.damage == SOUND)


def held_table(rows: Sequence[Row]) -> str:
    """Damage by damage: cases, true error, how many are held, and by which findings."""
    lines = ["| damage | cases | MAE (HU), median | large error | held | of those with a large error | by |"]
    lines += ["|---|---|---|---|---|---|---|"]
    limit = large_error_hu(rows)
    for damage in dict.fromkeys(row.damage for row in rows):
        mine = [row for row in rows if row.damage == damage]
        bad = [row for row in mine if row.mae > limit]
        by = {name: sum(name in row.failed for row in mine) for name in MEASURES if name != OF_ITS_MAKER}
        told = ", ".join(f"{name} {count}" for name, count in sorted(by.items(), key=lambda one: -one[1]) if count)
        held = sum(row.held for row in mine)
        caught = f"{sum(row.held for row in bad)} of {len(bad)}"
        median = float(np.median([row.mae for row in mine]))
        lines.append(f"| {damage} | {len(mine)} | {median:.1f} | {len(bad)} | {held} | {caught} | {told or '-'} |")
    return "\n".join(lines)


def roc_table(rows: Sequence[Row], limits: Mapping[str, Mapping[str, float]]) -> str:
    """Finding by finding: area under the curve, and sensitivity and specificity at the card's limit."""
    large = large_error_hu(rows)
    lines = [
        "| finding | limit | AUC, large error | sensitivity | specificity | not measurable |",
        "|---|---|---|---|---|---|",
    ]
    for name in (name for name in MEASURES if name in rows[0].values):
        known = [row for row in rows if np.isfinite(row.values[name])]
        bad, good = ([row for row in known if (row.mae > large) is wanted] for wanted in (True, False))
        area = area_under_curve(
            *([distance_from_limits(name, row.values[name], limits) for row in some] for some in (bad, good))
        )
        hit = np.mean([name in row.failed for row in bad]) if bad else float("nan")
        spared = np.mean([name not in row.failed for row in good]) if good else float("nan")
        low, high = limits[name]["low"], limits[name]["high"]
        cells = f"{low:g} to {high:g} | {area:.2f} | {hit:.2f} | {spared:.2f} | {len(rows) - len(known)}"
        lines.append(f"| {name} | {cells} |")
    return "\n".join(lines)


def write(rows: Sequence[Row], limits: Mapping[str, Mapping[str, float]], out: Path) -> str:
    """`cases.csv` and `tables.md` into a folder; returns the tables."""
    out.mkdir(parents=True, exist_ok=True)
    names = list(rows[0].values)
    with (out / "cases.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["patient", "damage", "mae_hu", *names, "failed"])
        for row in rows:
            values = [f"{row.values[name]:.4g}" for name in names]
            writer.writerow([row.patient, row.damage, f"{row.mae:.2f}", *values, " ".join(row.failed)])
    head = f"Large error: MAE above {large_error_hu(rows):.1f} HU, the largest of a sound MR. Truncation is left out.\n"
    tables = "\n".join([head, held_table(rows), "", roc_table(rows, limits), ""])
    (out / "tables.md").write_text(tables, encoding="utf-8")
    return tables


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Sensitivity of the findings to damaged MR.")
    parser.add_argument("--pairs", type=Path, required=True, help="folder with NAME_mr.nii.gz and NAME_ct.nii.gz")
    parser.add_argument("--out", type=Path, required=True, help="where cases.csv and tables.md go")
    parser.add_argument("--model", default="limb-t1-ldm")
    parser.add_argument("--patients", default="", help="names separated by commas (default: all)")
    parser.add_argument("--damages", default="", help="names separated by commas (default: all)")
    given = parser.parse_args()
    model = load_model(given.model)
    every = [patient.name for patient in patients_of(given.pairs, "names")]
    patients = list(filter(None, given.patients.split(","))) or every
    damages = list(filter(None, given.damages.split(","))) or list(DAMAGES)
    rows = []
    for row in rows_of(given.pairs, model, patients, damages):
        rows.append(row)
        told = ", ".join(row.failed) or "passes"
        sys.stderr.write(f"{row.patient} {row.damage}: MAE {row.mae:.1f} HU, {told}\n")
    sys.stdout.write(write(rows, model.card.findings, given.out))


if __name__ == "__main__":
    main()
