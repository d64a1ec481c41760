"""The patients of a recipe: where their files lie, and which of them train.

Two layouts are read:

- `names`: one folder with `NAME_mr.nii.gz` and `NAME_ct.nii.gz`.
- `synthrad`: a folder for each patient, at any depth, with mr, ct and mask, as SynthRAD2023 (`Task1/brain/1BA001/`,
  .nii.gz; Thummerer et al. 2023) and SynthRAD2025 (`Task1/AB/1ABA005/`, .mha; Thummerer et al. 2025) give them out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK

from models.data.pairs import MIXED, UNKNOWN_HU, BadPair, Pair, make_pair, read_image, values_of
from models.data.recipe import BadRecipe, Recipe

SUFFIXES = (".nii.gz", ".mha")


@dataclass(frozen=True)
class Patient:
    """Files of one patient; a mask is the body's outline, where the data set has one."""

    name: str
    mr: Path
    ct: Path
    mask: Path | None


def patients_of(folder: Path, layout: str) -> list[Patient]:
    """All patients below a folder, by name.

    Raises:
        BadRecipe: the layout is not known.
        BadPair: two patients have one name, or a patient lacks a file.
    """
    if layout == "names":
        names = sorted(path.name.removesuffix("_mr.nii.gz") for path in folder.glob("*_mr.nii.gz"))
        return [Patient(name, folder / f"{name}_mr.nii.gz", folder / f"{name}_ct.nii.gz", None) for name in names]
    if layout != "synthrad":
        raise BadRecipe(f"layout: must be names or synthrad, found {layout!r}")
    found = sorted((path for suffix in SUFFIXES for path in folder.rglob(f"mr{suffix}")), key=lambda mr: mr.parent.name)
    patients = [_synthrad_patient(mr) for mr in found]
    names = [patient.name for patient in patients]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise BadPair(f"{folder}: more than one patient is called {', '.join(sorted(twice))}")
    return patients


def _synthrad_patient(mr: Path) -> Patient:
    suffix = mr.name.removeprefix("mr")
    ct, mask = (mr.with_name(f"{kind}{suffix}") for kind in ("ct", "mask"))
    for path in (ct, mask):
        if not path.is_file():
            raise BadPair(f"{mr.parent.name}: {path.name} lacks")
    return Patient(mr.parent.name, mr, ct, mask)


def cohort_of(recipe: Recipe) -> list[Patient]:
    """The recipe's patients by name, but for those that it leaves out.

    Raises:
        BadRecipe: the layout is not known, or a patient to be left out is not there.
        BadPair: two patients have one name, or a patient lacks a file.
    """
    found = patients_of(recipe.pairs, recipe.layout)
    unknown = set(recipe.left_out) - {patient.name for patient in found}
    if unknown:
        raise BadRecipe(f"left_out: {recipe.pairs} has no {', '.join(sorted(unknown))}")
    return [patient for patient in found if patient.name not in recipe.left_out]


def split(recipe: Recipe, names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Names that train and names that are kept for validation.

    Raises:
        BadPair: a validation patient lacks, or none would be left on either side.
    """
    if isinstance(recipe.validation, float):
        order = np.random.default_rng(recipe.seed).permutation(len(names))
        count = round(recipe.validation * len(names))
        kept = sorted(names[number] for number in order[:count])
    else:
        kept = list(recipe.validation)
    trained = [name for name in names if name not in kept]
    if not kept or not trained or not set(kept) <= set(names):
        raise BadPair(f"{recipe.pairs}: validation patients or training patients lack; found {len(names)} pairs")
    return trained, kept


def read_cohort(recipe: Recipe) -> tuple[list[Pair], list[Pair]]:
    """Training and validation pairs, resampled to the card's spacing where theirs is another.

    Raises:
        BadRecipe: the layout is not known, or a patient to be left out is not there.
        BadPair: a patient lacks, or a file cannot be used.
    """
    found = {patient.name: patient for patient in cohort_of(recipe)}
    trained, kept = split(recipe, list(found))
    spacing, hu_range = recipe.card["spacing_mm"], recipe.card["hu_range"]
    first, second = (
        [read_pair(found[name], (spacing[0], spacing[1], spacing[2]), (hu_range[0], hu_range[1])) for name in names]
        for names in (trained, kept)
    )
    return first, second


def read_pair(patient: Patient, spacing_mm: tuple[float, float, float], hu_range: tuple[float, float]) -> Pair:
    """One patient at a spacing in mm, (slice, row, column); CT that is mixed of known and unknown is unknown.

    Raises:
        BadPair: a file cannot be used, or MR and CT differ in shape.
    """
    mr, ct = read_image(patient.mr), read_image(patient.ct)
    there = SimpleITK.Cast(ct != UNKNOWN_HU, SimpleITK.sitkFloat32)
    mr, ct, there = (at_spacing(image, spacing_mm, SimpleITK.sitkLinear) for image in (mr, ct, there))
    body = None
    if patient.mask:
        mask = at_spacing(read_image(patient.mask), spacing_mm, SimpleITK.sitkNearestNeighbor)
        body = SimpleITK.GetArrayFromImage(mask) > 0
    (values, spacing), (hu, _) = values_of(mr), values_of(ct)
    hu = np.where(SimpleITK.GetArrayFromImage(there) > MIXED, hu, np.int16(UNKNOWN_HU))
    return make_pair(patient.name, values, hu, spacing, hu_range, body)


def at_spacing(image: SimpleITK.Image, spacing_mm: tuple[float, float, float], interpolator: int) -> SimpleITK.Image:
    """An image at a spacing in mm, (slice, row, column); as it is where it differs by less than 1 % already.

    Its first voxel's outer corner stays, and as many voxels are made as lie within it.
    """
    wanted = np.array(spacing_mm)[::-1]
    mine = np.array(image.GetSpacing())
    if np.allclose(mine, wanted, rtol=0.01):
        return image
    size = np.maximum(np.floor(np.array(image.GetSize()) * mine / wanted + 1e-6), 1).astype(int).tolist()
    direction = np.array(image.GetDirection()).reshape(3, 3)
    origin = np.array(image.GetOrigin()) + direction @ ((wanted - mine) / 2)
    return SimpleITK.Resample(
        image,
        size,
        SimpleITK.Transform(),
        interpolator,
        origin.tolist(),
        wanted.tolist(),
        image.GetDirection(),
        float(SimpleITK.GetArrayViewFromImage(image).min()),
    )
