"""The model card: what a set of weights expects, what it promises, and where it has no meaning. Free of torch."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SHIPPED = "shipped"
"""Folder of this package with the models of the wheel: `<name>.json` and `<name>.safetensors`."""
UNSHIPPED = "unshipped"
"""Folder of models that only the repository holds: `<name>/<name>.json` and `<name>/<name>.safetensors`."""

GATES = ("auto", "always_hold")
"""What a card may say of the cases that its weights make."""


class UnknownModel(ValueError):
    """No model of that name is installed; names those that are."""

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        super().__init__(f"no model {name!r}: installed are {', '.join(known) or 'none'}; or give a folder with a card")
        self.name = name
        self.known = known


class BadCard(ValueError):
    """A card cannot be read; names the file, the key and what is wrong with it."""


@dataclass(frozen=True)
class ModelCard:
    """The input that weights expect and the output that they promise: the JSON file beside them.

    Attributes:
        name: the installed name, such as `limb-t1-ldm`.
        version: version of the weights, `major.minor.patch`.
        digest: SHA-256 of the weights file, 64 hexadecimal digits; the weights are refused when it differs.
        architecture: keyword arguments of the method's class, see `method`.
        modality: DICOM Modality of the input series.
        anatomy: values of BodyPartExamined (0018,0015) for which the weights have meaning.
        contrast: the MR contrast that the weights were trained on, in words.
        spacing_mm: voxel spacing of the model's grid in mm, (slice, row, column).
        hu_range: lowest and highest HU that the model can produce.
        training_data: what the weights were trained on, with acknowledgements.
        limits: where the model has no meaning.
        figures: validation figures by name; each number was computed by `sct-node train`.
        sampling: default number of sampler `steps` and of averaged `samples`.
        findings: limits by finding name, `{"low": .., "high": ..}`; outside them the case is held; outside
            `reject_low` and `reject_high`, where they stand there too, it is rejected.
        mr_quantiles: how the MR values of the training patients are distributed, see `mr_quality.quantiles`.
        licence: licence of the weights, an SPDX id.
        data_sets: what the weights learned from, keys of `data_sets.DATA_SETS`; empty where the site has its own.
        method: `ldm`, `nnunet`, `swinunetr`, `pix2pix` or `cyclegan`; cards of version 0.1 had none but the first.
        gate: `auto`, or `always_hold` for weights of which no case may be sent unseen, whatever the site's gate says.
        homogenise_mm: SD of the neighbourhood by whose mean the MR is divided before the networks see it; 0 for none.
        uncertainty: keyword arguments of `UncertaintyEstimator`, where the weights hold one.
    """

    name: str
    version: str
    digest: str
    architecture: Mapping[str, Any]
    modality: str
    anatomy: tuple[str, ...]
    contrast: str
    spacing_mm: tuple[float, float, float]
    hu_range: tuple[float, float]
    training_data: str
    limits: str
    figures: Mapping[str, Any] = field(default_factory=dict)
    sampling: Mapping[str, int] = field(default_factory=lambda: {"steps": 1, "samples": 1})
    findings: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    mr_quantiles: tuple[float, ...] = ()
    licence: str = ""
    method: str = "ldm"
    uncertainty: Mapping[str, Any] | None = None
    homogenise_mm: float = 0.0
    gate: str = "auto"
    data_sets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.digest) != 64 or set(self.digest) - set("0123456789abcdef"):
            raise BadCard(f"model card {self.name}: digest must be 64 hexadecimal digits, found {self.digest!r}")
        if len(self.spacing_mm) != 3 or min(self.spacing_mm) <= 0:
            raise BadCard(f"model card {self.name}: spacing_mm must be three positive numbers, found {self.spacing_mm}")
        if self.gate not in GATES:
            raise BadCard(f"model card {self.name}: gate must be one of {', '.join(GATES)}, found {self.gate!r}")
        if not self.hu_range[0] < self.hu_range[1]:
            raise BadCard(f"model card {self.name}: hu_range must rise, found {self.hu_range}")

    def claims(self, body_part: str) -> bool:
        """Return whether the weights are meant for a BodyPartExamined value; an empty value is no contradiction."""
        return not body_part.strip() or body_part.strip().upper() in self.anatomy


def read_card(path: Path) -> ModelCard:
    """Read a card from its JSON file.

    Raises:
        BadCard: the file is no JSON object, lacks a key, or has one that is not known.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadCard(f"model card {path.name}: {error}") from error
    known = {entry.name for entry in dataclasses.fields(ModelCard)}
    if isinstance(values, dict):
        values = _renamed(values) | {"figures": _renamed(values.get("figures", {}))}
    if not isinstance(values, dict) or set(values) - known:
        raise BadCard(f"model card {path.name}: unknown keys {sorted(set(values) - known)}")
    for key in ("anatomy", "spacing_mm", "hu_range", "mr_quantiles", "data_sets"):
        values[key] = tuple(values.get(key, ()))
    try:
        return ModelCard(**values)
    except TypeError as error:
        raise BadCard(f"model card {path.name}: {error}") from error


def _renamed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries under today's keys; cards of 0.1.0 say `doubt` for `uncertainty`."""
    return {"uncertainty" if key == "doubt" else key: value for key, value in values.items()}


def write_card(card: ModelCard, path: Path) -> None:
    """Write a card as indented JSON, keys in the order of the class."""
    path.write_text(json.dumps(dataclasses.asdict(card), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def shipped() -> Path:
    """Folder of the models that the wheel carries."""
    return Path(__file__).parents[1] / SHIPPED


def unshipped() -> Path:
    """Folder of the models that only the repository holds; absent from an installed wheel."""
    return Path(__file__).parents[1] / UNSHIPPED


def installed() -> list[ModelCard]:
    """Cards of the models that are found by name: those of the wheel, then those of the repository alone."""
    paths = [*sorted(shipped().glob("*.json")), *sorted(unshipped().glob("*/*.json"))]
    return [read_card(path) for path in paths]


def card_path(name: str) -> Path:
    """Return the path of the card of an installed model, or of the only card of a folder.

    Raises:
        UnknownModel: neither a model of that name nor a folder with one card exists.
    """
    if "/" not in name:
        for path in (shipped() / f"{name}.json", unshipped() / name / f"{name}.json"):
            if path.is_file():
                return path
    cards = sorted(Path(name).glob("*.json")) if Path(name).is_dir() else []
    if len(cards) != 1:
        raise UnknownModel(name, tuple(card.name for card in installed()))
    return cards[0]


def find(name: str) -> ModelCard:
    """The card of an installed model, or of a folder that holds one card and its weights.

    Raises:
        UnknownModel: neither exists.
        BadCard: the card cannot be read.
    """
    return read_card(card_path(name))
