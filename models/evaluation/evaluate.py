"""Measure any number of methods on the same patients: rows by patient and method, each measure with its unit.

Axes (slice, row, column), HU. What is compared with the CT is what the product predicts on the pair's own grid.

Groups of patients for the tables: regions of the body as in the paper's tables 2 to 4, or what a file says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import yaml

from models.data.body import mr_body
from models.data.intensity import AIR_HU
from models.data.pairs import BadPair, Pair, read_nifti
from models.inference import baselines
from models.inference.card import ModelCard, find
from models.inference.weights import load_model
from models.measures import similarity, structures
from models.measures.similarity import Hu

Translate = Callable[[Pair], Hu]
"""A patient -> HU on the patient's grid."""
Scores = dict[str, float]
Clock = Callable[[], float]
"""Seconds of a clock that never goes back; what a prediction takes is measured with it: on a CPU, the processor's."""

RANGES: Final = {2023: similarity.RANGE_2023, 2025: similarity.RANGE_2025}
"""Year of the challenge -> range of PSNR in HU. SSIM is always that of 2023, MS-SSIM that of 2025."""
PREDICTION_SUFFIX: Final = ".nii.gz"
FOLDS_SUFFIXES: Final = (".yaml", ".yml")
FLOORS: Final = ("all-water", "look-up-table")
MOVED: Final = re.compile(r"ct-moved-([0-9]+)-mm")
"""The true CT itself, see `floors.moved`."""
SAME_SPACING: Final = 0.01
"""Relative difference below which two spacings are one."""


class BadMethod(ValueError):
    """A method cannot be evaluated; names it and what is wrong."""


@dataclass(frozen=True)
class TableColumn:
    """One column of the tables.

    Attributes:
        title: as a table's head shows it, with its unit.
        digits: shown behind the point.
        better: `low`, `high`, or `zero` for a signed error.
    """

    title: str
    digits: int
    better: str


MEASURES: Final[Mapping[str, TableColumn]] = {
    "mae": TableColumn("MAE (HU)", 1, "low"),
    "psnr": TableColumn("PSNR (dB)", 2, "high"),
    "ssim": TableColumn("SSIM", 4, "high"),
    "ms_ssim": TableColumn("MS-SSIM", 4, "high"),
    **{f"mae_{tissue}": TableColumn(f"MAE {tissue} (HU)", 1, "low") for tissue in similarity.TISSUES},
    **{f"bias_{tissue}": TableColumn(f"bias {tissue} (HU)", 1, "zero") for tissue in similarity.TISSUES},
    **{f"dice_{name}": TableColumn(f"Dice {name}", 3, "high") for name in structures.STRUCTURES},
    **{f"hd95_{name}": TableColumn(f"HD95 {name} (mm)", 1, "low") for name in structures.STRUCTURES},
    **{f"missing_{name}": TableColumn(f"{name} missing", 0, "low") for name in structures.STRUCTURES},
    **{f"invented_{name}": TableColumn(f"{name} invented", 0, "low") for name in structures.STRUCTURES},
    "seconds": TableColumn("s per volume", 2, "low"),
}
"""Every measure, in the order of the tables. Missing and invented are 1 or 0 for a patient."""


@dataclass(frozen=True)
class Method:
    """A method that is evaluated.

    Attributes:
        name: in the tables.
        source: where it comes from.
        learned: the patient -> what translates it; here models are loaded, which no measure of time counts.
        cards: of the models that it uses, one for each fold; none for floors and for predictions made before.
    """

    name: str
    source: str
    learned: Callable[[Pair], Translate]
    cards: tuple[ModelCard, ...] = ()


@dataclass(frozen=True)
class PatientMeasures:
    """Measures of one patient under one method."""

    patient: str
    method: str
    scores: Scores


def measure(hu: Hu, pair: Pair, psnr_range: tuple[float, float]) -> Scores:
    """Every measure of `MEASURES` but the seconds, in the common body of a patient."""
    truth = pair.hu.astype(np.float32)
    scores = similarity.score(hu, truth, pair.body)
    scores["psnr"] = similarity.psnr(hu, truth, pair.body, psnr_range)
    scores["ms_ssim"] = similarity.ms_ssim(hu, truth, pair.body)
    for name, found in structures.agreements(hu, truth, pair.body, pair.spacing_mm).items():
        scores[f"dice_{name}"], scores[f"hd95_{name}"] = found.dice, found.hd95_mm
        scores[f"missing_{name}"], scores[f"invented_{name}"] = float(found.missing), float(found.invented)
    return scores


def evaluate(
    pairs: Sequence[Pair], methods: Sequence[Method], psnr_range: tuple[float, float], clock: Clock
) -> Iterator[tuple[Pair, dict[str, Hu], list[PatientMeasures]]]:
    """Patient by patient: the pair, each method's HU, and its row; so that one patient's images are held at a time.

    Raises:
        BadMethod: a method has no prediction for a patient, or one of another shape.
    """
    for pair in pairs:
        images, rows = {}, []
        for method in methods:
            translate = method.learned(pair)
            begun = clock()
            hu = translate(pair)
            seconds = clock() - begun
            if hu.shape != pair.hu.shape:
                raise BadMethod(f"{method.name}: {pair.name} has {hu.shape} voxels, its CT {pair.hu.shape}")
            scores = {**measure(hu, pair, psnr_range), "seconds": seconds}
            images[method.name] = hu
            rows.append(PatientMeasures(pair.name, method.name, {name: scores[name] for name in MEASURES}))
        yield pair, images, rows


# Where predictions come from


@dataclass(frozen=True)
class Terms:
    """The settings on which predictions depend beside their source.

    Attributes:
        pairs: patients that are measured.
        training: patients that are not.
        device: where models run.
        steps: of a sampler; the card's where None.
        samples: averaged; the card's where None.
    """

    pairs: Sequence[Pair]
    training: Sequence[Pair]
    device: str
    steps: int | None = None
    samples: int | None = None


def method_of(text: str, terms: Terms) -> Method:
    """`NAME=SOURCE` or `SOURCE` -> a method.

    SOURCE is a floor (`all-water`; `look-up-table`, learned on the training patients, or where there are none on all
    others than the patient), the true CT without its noise and moved (`ct-moved-1-mm`), a YAML file that says which
    source each patient has (cross-validation), a folder of NIfTI predictions, an installed model, or a folder with a
    card.

    Raises:
        BadMethod: the source is none of these.
    """
    name, _, source = text.rpartition("=")
    return Method(
        name or (source if MOVED.fullmatch(source) else Path(source).stem),
        source,
        _learned(source, terms),
        cards_of(source),
    )


def cards_of(source: str) -> tuple[ModelCard, ...]:
    """Cards of the models of a source, each once."""
    if source in FLOORS or MOVED.fullmatch(source) or _holds_predictions(source):
        return ()
    if source.endswith(FOLDS_SUFFIXES):
        named = yaml.safe_load(Path(source).read_text(encoding="utf-8"))
        sources = dict.fromkeys(map(str, named.values())) if isinstance(named, dict) else {}
        return tuple(card for one in sources for card in cards_of(_beside(Path(source), one)))
    return (find(source),)


def _holds_predictions(source: str) -> bool:
    return Path(source).is_dir() and any(Path(source).glob(f"*{PREDICTION_SUFFIX}"))


def _beside(path: Path, source: str) -> str:
    """A source that a file names: relative to the file where it lies there."""
    beside = path.parent / source
    return str(beside) if beside.exists() else source


def _learned(source: str, terms: Terms) -> Callable[[Pair], Translate]:
    if source == "all-water":
        return lambda _: _all_water
    if source == "look-up-table":
        return lambda pair: _look_up(terms.training or [other for other in terms.pairs if other.name != pair.name])
    if found := MOVED.fullmatch(source):
        return lambda _: lambda pair: baselines.moved(pair.hu, pair.spacing_mm, float(found[1]))
    if source.endswith(FOLDS_SUFFIXES):
        return _folds(Path(source), terms)
    if _holds_predictions(source):
        return lambda _: partial(from_folder, Path(source))
    model = _model(
        source, terms.device, terms.steps, terms.samples
    )  # now, so that a wrong name is told before anything is computed
    return lambda _: model


def _all_water(pair: Pair) -> Hu:
    return _in_air(pair, baselines.all_water(pair.body))


def _look_up(known: Sequence[Pair]) -> Translate:
    table = baselines.learn_look_up_table([(one.mr, one.hu, one.body) for one in known])
    return lambda pair: _in_air(pair, table(pair.mr))


def _in_air(pair: Pair, hu: Hu) -> Hu:
    """A floor knows no outline, so it takes that of the MR."""
    return np.where(mr_body(pair.mr), hu, np.float32(AIR_HU))


_loaded = lru_cache(maxsize=4)(load_model)


def _model(source: str, device: str, steps: int | None, samples: int | None) -> Translate:
    model = _loaded(source, device)

    def translate(pair: Pair) -> Hu:
        if not np.allclose(pair.spacing_mm, model.card.spacing_mm, rtol=SAME_SPACING):
            wanted = ",".join(f"{step:g}" for step in model.card.spacing_mm)
            raise BadMethod(
                f"{model.card.name}: {pair.name} has voxels of {pair.spacing_mm} mm, the model is for "
                f"{model.card.spacing_mm} mm; give --spacing-mm {wanted}, or predictions made by sct-node predict"
            )
        return model.predict(pair.mr.astype(np.float32), 0, steps, samples).hu

    return translate


def _folds(path: Path, terms: Terms) -> Callable[[Pair], Translate]:
    """A YAML mapping patient -> source; relative folders lie beside the file."""
    fold_of: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    lacking = [pair.name for pair in terms.pairs if not isinstance(fold_of, dict) or pair.name not in fold_of]
    if lacking:
        raise BadMethod(f"{path}: no fold for {', '.join(lacking)}; it must map each patient to a model")

    def learned(pair: Pair) -> Translate:
        return _learned(_beside(path, str(fold_of[pair.name])), terms)(pair)

    return learned


def from_folder(folder: Path, pair: Pair) -> Hu:
    """A patient's prediction: the only NIfTI of a folder that is named `PATIENT.nii.gz` or `PATIENT_*.nii.gz`.

    Raises:
        BadMethod: there is none, several, or one that lies on another grid than the patient's pair.
    """
    exact = [path for path in (folder / f"{pair.name}{PREDICTION_SUFFIX}",) if path.is_file()]
    found = exact or sorted(folder.glob(f"{pair.name}_*{PREDICTION_SUFFIX}"))
    if len(found) != 1:
        raise BadMethod(f"{folder}: {len(found)} predictions of {pair.name}; one is needed, {pair.name}.nii.gz")
    try:
        hu, spacing_mm = read_nifti(found[0])
    except BadPair as error:
        raise BadMethod(str(error)) from error
    if not np.allclose(spacing_mm, pair.spacing_mm, atol=1e-3):
        raise BadMethod(f"{found[0].name}: spacing {spacing_mm} mm, its CT {pair.spacing_mm} mm")
    return hu.astype(np.float32)


REGIONS: Final = {
    "B": "brain",
    "P": "pelvis",
    "AB": "abdomen",
    "HN": "head and neck",
    "TH": "thorax",
}
"""By the letters of SynthRAD's names: task, region, centre, number (1BA001 in 2023, 1ABA005 in 2025)."""
NAME: Final = re.compile(r"[12](B|P|AB|HN|TH)[A-F]\d{3}")


def region_of(name: str) -> str:
    """The region of a patient of SynthRAD; nothing for other names."""
    found = NAME.fullmatch(name)
    return REGIONS[found[1]] if found else ""


def groups_of(names: Iterable[str], path: Path | None = None) -> dict[str, str]:
    """Group by patient: of a YAML file that maps each patient to a word, else SynthRAD's regions; none without either.

    Raises:
        BadPair: the file is no mapping, or a patient lacks in it.
    """
    if path is None:
        regions = {name: region_of(name) for name in names}
        return regions if all(regions.values()) else {}
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    lacking = [name for name in names if not isinstance(found, dict) or name not in found]
    if lacking:
        raise BadPair(f"{path}: no group for {', '.join(lacking)}; it must map each patient to one")
    return {name: str(found[name]) for name in names}
