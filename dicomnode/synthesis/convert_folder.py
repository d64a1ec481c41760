"""`sct-node convert`: convert a folder of MR files to CT files and a report, without network or database."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dicomnode.cases.files import REPORT
from dicomnode.config.rules import choose
from dicomnode.errors import NodeError
from dicomnode.ledger.ledger import IGNORED_BY_RULE
from dicomnode.synthesis.attempt import options_of, profiles_of, write_report
from models.inference.weights import load_model
from pipeline.conversion import convert
from pipeline.errors import Unsuitable
from pipeline.series.series import only_series, read_series

if TYPE_CHECKING:
    from dicomnode.config.load import Config


class FolderTaken(NodeError):
    """The output folder holds CT files already: a second series among them could not be told apart."""


def convert_folder(source: Path, into: Path, config: Config) -> dict[str, Any]:
    """Convert the one MR series below `source`; `into` gets the `.dcm` files and `report.json`. -> the report.

    A series that is unsuitable leaves only the report, with `rejected.code` and `rejected.sentence`. The files come
    together or not at all. The rules of the configuration decide, as for a series of an unnamed sender.
    Raises FolderTaken, FileNotFoundError, and what models and pipeline raise.
    """
    if not source.is_dir():
        raise FileNotFoundError(f"{source} is no folder")
    if into.is_dir() and any(into.glob("*.dcm")):
        raise FolderTaken(f"{into} holds .dcm files already; name a new or an empty folder")
    into.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=".part-", dir=into))
    try:
        convert_or_reject(source, part, config)
        for path in sorted(part.iterdir()):
            path.replace(into / path.name)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    report: dict[str, Any] = json.loads((into / REPORT).read_text(encoding="utf-8"))
    return report


def convert_or_reject(source: Path, part: Path, config: Config) -> None:
    """Write CT files and report into `part`, or only the report of the rejection."""
    try:
        series = only_series(read_series(source))
        decided = choose(series, "", config)
        if decided.converts:
            model = load_model(decided.model, config.device)
            profiles = profiles_of(config, decided.destinations)
            write_report(convert(series, model, part, options_of(decided.settings, config.device, profiles)), part)
        else:
            _reject(part, IGNORED_BY_RULE, decided.sentence)
    except Unsuitable as error:
        for path in part.iterdir():
            path.unlink()
        _reject(part, error.code, error.sentence)


def _reject(part: Path, code: str, sentence: str) -> None:
    report = {"rejected": {"code": code, "sentence": sentence}}
    (part / REPORT).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
