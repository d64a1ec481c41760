"""Export of a model as a MONAI Bundle: a folder that `python -m monai.bundle run` executes where sct-node is installed.

    python -m monai.bundle run --config_file DIR/configs/inference.yaml --meta_file DIR/configs/metadata.json \\
        --bundle_root DIR --mr MR.nii.gz --ct CT.nii.gz

The weights stay bound to their card: the bundle holds both as they are, and WrongDigest refuses others.
"""

from __future__ import annotations

import json
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import yaml

from models.inference.card import ModelCard, card_path, read_card
from pipeline.durable_files import move_into_place

INFERENCE: Final = {
    "imports": [
        "$from pathlib import Path",
        "$from models.inference.weights import load_model",
        "$from pipeline.volume.synthesize import predict_nifti",
    ],
    "bundle_root": ".",
    "mr": "mr.nii.gz",
    "ct": "ct.nii.gz",
    "seed": 0,
    "device": "auto",
    "network_def": "$load_model(@bundle_root + '/models', @device)",
    "run": ["$predict_nifti(Path(@mr), Path(@ct), @network_def, @seed)"],
}
"""The configuration that MONAI runs; `mr`, `ct` and `device` can be given on its command line."""

README: Final = """\
# {name} {version}

MR to synthetic CT in HU, {contrast}. {limits}

**Research, not for clinical use.**

Needs `sct-node` {node}, MONAI and `fire` (its command line). Run it:

    python -m monai.bundle run --config_file configs/inference.yaml --meta_file configs/metadata.json \\
        --bundle_root . --mr MR.nii.gz --ct CT.nii.gz

Trained on: {training_data}

Licence of the weights: {licence}. All figures: `models/{name}.json`.
"""


def write_bundle(model: str, into: Path) -> Path:
    """Write the bundle of an installed model, or of a folder with one, into a folder that is not there yet.

    Raises:
        UnknownModel, BadCard: there is no such model, or its card cannot be read.
        FileExistsError: the folder is there.
        OSError: it cannot be written; nothing is left of it.
    """
    path = card_path(model)
    card = read_card(path)
    if into.exists():
        raise FileExistsError(f"{into} is there already; name a folder that is not")
    part = into.with_name(f".part-{into.name}")
    fields = {"name": card.name, "version": card.version, "contrast": card.contrast, "limits": card.limits}
    fields |= {"training_data": card.training_data, "licence": card.licence, "node": version("sct-node")}
    try:
        for name in ("configs", "docs", "models"):
            (part / name).mkdir(parents=True)
        for source in (path, path.with_suffix(".safetensors")):
            shutil.copyfile(source, part / "models" / source.name)
        (part / "configs" / "inference.yaml").write_text(yaml.safe_dump(INFERENCE, sort_keys=False))
        (part / "configs" / "metadata.json").write_text(json.dumps(metadata(card), indent=2) + "\n")
        (part / "docs" / "README.md").write_text(README.format(**fields))
        move_into_place(part, into)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return into


def metadata(card: ModelCard) -> dict[str, Any]:
    """Return the content of `metadata.json` as MONAI's bundle specification defines it, from the card."""
    volume = {
        "type": "image",
        "num_channels": 1,
        "spatial_shape": ["*", "*", "*"],
        "dtype": "float32",
        "is_patch_data": False,
    }
    low, high = card.hu_range
    return {
        "version": card.version,
        "changelog": {card.version: "as shipped with sct-node"},
        "monai_version": version("monai"),
        "pytorch_version": version("torch"),
        "numpy_version": version("numpy"),
        "required_packages_version": {"sct-node": version("sct-node")},
        "name": card.name,
        "task": "synthetic CT from MR",
        "description": card.limits,
        "authors": "the authors of sct-node",
        "copyright": card.licence,
        "intended_use": "research, not for clinical use",
        "data_type": "nifti",
        "eval_metrics": dict(card.figures),
        "network_data_format": {
            "inputs": {"image": volume | {"format": "magnitude", "modality": card.modality, "value_range": []}},
            "outputs": {"pred": volume | {"format": "hounsfield", "modality": "CT", "value_range": [low, high]}},
        },
    }
