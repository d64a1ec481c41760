"""The command `sct-node`. Each command imports what it needs when it runs, so that the small ones are quick."""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from dicomnode.cli import administration, evaluation, jobs, quality
from dicomnode.config.load import AS_CONFIGURED, load, located
from dicomnode.errors import ConfigError, NodeError, UnknownDestination
from pipeline.errors import PipelineError

if TYPE_CHECKING:
    from dicomnode.config.load import Config
    from pipeline.preflight.check import Complaint

OK: Final = 0
FAILED: Final = 1
REFUSED: Final = 2
USAGE: Final = 64

Command = Callable[[argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; -> its exit status: 0 done, 1 failed, 2 refused (convert), 64 wrong usage."""
    given = parser().parse_args(arguments)
    command: Command = given.command
    try:
        return command(given)
    except (NodeError, PipelineError, OSError, ValueError) as error:
        if isinstance(error, ConfigError) and not getattr(given, "supervised", False):  # that file is the supervisor's
            error = located(error, getattr(given, "config", None))
        print(f"sct-node: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return FAILED


class Parser(argparse.ArgumentParser):
    """Wrong usage ends with 64, because 2 says that a series was refused."""

    def error(self, message: str) -> NoReturn:
        """Print usage and what is wrong."""
        self.print_usage(sys.stderr)
        self.exit(USAGE, f"{self.prog}: {message}\n")


def parser() -> Parser:
    """The whole command line."""
    top = Parser(
        prog="sct-node",
        description="A DICOM node that turns MR series into synthetic CT series. Research, not for clinical use.",
        epilog="sct-node COMMAND --help says more about a command.",
    )
    top.add_argument("--version", action="version", version=f"sct-node {importlib.metadata.version('sct-node')}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_roles(commands)
    _add_conversions(commands)
    _add_jobs(commands)
    _add_rest(commands)
    return top


def _add(commands: Any, name: str, command: Command, summary: str, details: str = "", *options: str) -> Parser:
    """A command with its help and those of the common options that it takes."""
    added: Parser = commands.add_parser(name, help=summary, description=f"{summary}. {details}".strip())
    added.set_defaults(command=command)
    if name != "demo":
        text = "YAML file with what differs from the defaults (every key: config/node.yaml)"
        added.add_argument("--config", type=Path, metavar="FILE", help=text)
    if "json" in options:
        added.add_argument("--json", action="store_true", help="print JSON for a program to read")
    if "model" in options:
        added.add_argument("--model", metavar="NAME", help="installed model, or a folder with a card and weights")
    return added


def _add_roles(commands: Any) -> None:
    """`serve`, and each role alone."""
    _add(commands, "serve", _serve, "Run the whole node on this machine", "Ends on SIGTERM or Ctrl-C.")
    for role, summary in (
        ("receive", "Run only the receiver: C-ECHO, C-STORE, settling of series"),
        ("synthesize", "Run only a worker that computes synthetic CT"),
        ("deliver", "Run only the sender to the destinations"),
        ("web", "Run only the web page, and /metrics, /healthz and /readyz beside it"),
    ):
        added = _add(commands, role, _role, summary, "All roles share node.data and the database.")
        added.set_defaults(role=role, number=0)
        added.add_argument("--supervised", action="store_true", help=argparse.SUPPRESS)
        if role in ("synthesize", "deliver"):
            text = "number of this worker on this machine, from 0 (one process each)"
            added.add_argument("--number", type=int, default=0, metavar="N", help=text)


def _add_conversions(commands: Any) -> None:
    """What works on files, without a network."""
    details = "No network, no database. The rules of the configuration decide, unless --model is given. "
    details += "Exit status: 0 converted, 2 refused (see OUT_DIR/report.json), 1 failed."
    added = _add(commands, "convert", _convert, "Convert a folder of MR files to CT files", details, "model", "json")
    added.add_argument("source", type=Path, metavar="IN_DIR", help="folder with one MR series")
    added.add_argument("into", type=Path, metavar="OUT_DIR", help="folder for NNNN.dcm and report.json")
    details = "The HU volume lies on the MR's own grid, for evaluation."
    added = _add(commands, "predict", _predict, "Predict HU for an MR volume in NIfTI", details, "model")
    added.add_argument("mr", type=Path, metavar="MR.nii.gz")
    added.add_argument("out", type=Path, metavar="OUT.nii.gz")
    details = "Which rule takes each series and why, and what the pipeline would say of it. Nothing is written or sent."
    added = _add(commands, "explain", _explain, "Say what the node would make of a folder", details, "json")
    added.add_argument("folder", type=Path, metavar="DIR")
    text = "AE title of the sender, for rules that ask for it"
    added.add_argument("--calling-ae", default="", metavar="AE", help=text)
    details = "Says which rules of planning systems the files break. Exit status 1 if any."
    added = _add(commands, "preflight", _preflight, "Check the files of a CT series before sending", details, "json")
    added.add_argument("folder", type=Path, metavar="DIR", help="folder with one CT series")
    text = "a name in config/profiles, or the path of your own .yaml file (default generic)"
    added.add_argument("--profile", default="generic", metavar="NAME", help=text)
    added = _add(commands, "models", _models, "List the installed models from their cards", "", "json")
    text = "load each, and compare what it computes of a test object with its card; exit status 1 if any differs"
    added.add_argument("--verify", action="store_true", help=text)
    details = "A folder that `python -m monai.bundle run` executes where sct-node is installed; see its docs/README.md."
    added = _add(commands, "export", _export, "Write an installed model as a MONAI Bundle", details)
    added.add_argument("name", metavar="MODEL", help="a name that `sct-node models` lists, or a folder with a model")
    added.add_argument("--bundle", type=Path, required=True, metavar="DIR", help="the folder to write, not there yet")


def _add_jobs(commands: Any) -> None:
    """What is known of jobs, and what a person decides."""
    details = "A series still arriving is listed as RECEIVING, without a job key yet."
    _add(commands, "jobs", _jobs, "List jobs, the newest first", details, "json")
    job = "the job's key, or its first characters (at least 6)"
    added = _add(commands, "show", _show, "Show a job: its events, deliveries and receipts", "", "json")
    added.add_argument("job", metavar="JOB", help=job)
    jobs.add_commands(commands, _add)
    administration.add_commands(commands, _add)
    administration.add_command(commands, _add)


def _add_rest(commands: Any) -> None:
    """Checks, sending by hand, training, demo."""
    details = (
        "Configuration, weights' digest, database, disk, and C-ECHO to every destination. Exit status 1 if any fails."
    )
    _add(commands, "check", _check, "Check that the node could work", details, "json")
    details = "Its receiver answers, /readyz says 200, the page listens. Exit status 1, and why, when it takes longer."
    added = _add(commands, "ready", _ready, "Wait until the node of `sct-node serve` is ready", details)
    text = "how many seconds to wait (default: 60)"
    added.add_argument("--timeout", type=float, default=60.0, metavar="S", help=text)
    details = (
        "One attempt; the node's jobs are not touched. Files that break a rule of the destination's profile are not "
        "sent. Exit status 1 when they are not, or an instance was not taken."
    )
    added = _add(commands, "send", _send, "Send the CT files of a folder to a destination", details, "json")
    added.add_argument("folder", type=Path, metavar="DIR")
    added.add_argument("--to", required=True, metavar="NAME", help="name of a destination in the configuration")
    added.add_argument("--unchecked", action="store_true", help="send whatever they are: the profile is not asked")
    added = _add(commands, "train", _train, "Train a model by a recipe", "Goes on from its last checkpoint.")
    added.add_argument("recipe", type=Path, metavar="RECIPE", help="YAML file, such as config/train/limb-t1-ldm.yaml")
    text = "one fold of a cross-validation, such as 2/5; after the last, a file of all folds for `evaluate` is written"
    added.add_argument("--fold", default="", metavar="K/N", help=text)
    text = "time of all stages together (on a CPU, the processor's), in the place of the recipe's steps and minutes"
    added.add_argument("--minutes", type=float, metavar="M", help=text)
    text = "a value in the place of the recipe's, such as losses.bone=2; with another `run`, so that both are kept"
    added.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=text)
    details = "JSON Schema (draft 2020-12), for editors and for checks elsewhere; config/node.schema.json is the same."
    added = _add(commands, "config", _schema, "Print the schema of the configuration file", details)
    added.add_argument("action", choices=("schema",), help="what is printed")
    evaluation.add_commands(commands, _add)
    quality.add_commands(commands, _add)
    administration.add_user_command(commands, _add)
    details = "Starts a node and a destination, pushes a phantom or your series, shows the result. Needs no set-up."
    added = _add(commands, "demo", _demo, "Show the whole journey on this machine", details)
    added.add_argument("--input", type=Path, metavar="DIR", help="your own MR series instead of the phantom")
    added.add_argument("--out", type=Path, default=Path("demo-out"), metavar="DIR", help="where files and picture go")


# Commands


def _config(given: argparse.Namespace) -> Config:
    """The configuration; a model that the command line names is used whatever the rules say."""
    loaded = load(given.config)
    model = getattr(given, "model", None)
    if model is None:
        return loaded
    return dataclasses.replace(loaded, model=model, rules=(), otherwise=AS_CONFIGURED)


def _serve(given: argparse.Namespace) -> int:
    from dicomnode.node import supervisor

    supervisor.serve(_config(given))
    return OK


def _role(given: argparse.Namespace) -> int:
    from dicomnode.node import roles

    roles.run_role(given.role, _config(given), given.number, supervised=given.supervised)
    return OK


def _convert(given: argparse.Namespace) -> int:
    config = _config(given)
    from dicomnode.synthesis.convert_folder import convert_folder

    report = convert_folder(given.source, given.into, config)
    if given.json:
        _print_json(report)
    if "rejected" in report:
        print(f"refused: {report['rejected']['code']}: {report['rejected']['sentence']}", file=sys.stderr)
        return REFUSED
    if report["held"]:
        print(f"converted, but a person should look: {report['held']}", file=sys.stderr)
    return OK


def _predict(given: argparse.Namespace) -> int:
    config = _config(given)
    from models.inference.weights import load_model
    from pipeline.volume.synthesize import predict_nifti

    predict_nifti(given.mr, given.out, load_model(config.model, config.device))
    return OK


def _export(given: argparse.Namespace) -> int:
    from pipeline.monai_bundle import write_bundle

    print(write_bundle(given.name, given.bundle))
    return OK


def _explain(given: argparse.Namespace) -> int:
    config = _config(given)
    from dicomnode.cli.explain import explain, sentences

    found, unreadable = explain(_dicom_files(given.folder), given.calling_ae, config)
    if given.json:
        _print_json({"series": found, "unreadable": unreadable})
        return OK
    for line in [*(line for one in found for line in sentences(one)), *unreadable]:
        print(line)
    return OK


CARD_TEXTS = ("contrast", "anatomy", "spacing_mm", "hu_range", "training_data", "limits")
"""Keys of a card that `models` prints first."""


def _models(given: argparse.Namespace) -> int:
    _config(given)
    from models.data.data_sets import with_licence
    from models.inference.card import installed, unshipped

    if given.verify:
        return evaluation.verify(given.json)
    cards = [dataclasses.asdict(card) for card in installed()]
    if given.json:
        _print_json(cards)
        return OK
    for card in cards:
        print(f"{card['name']} {card['version']}\n  SHA-256    {card['digest']}")
        if (unshipped() / card["name"]).is_dir():
            print(f"  {'folder':<10} {unshipped() / card['name']}: in the repository, not in the wheel")
        card["data_sets"] = [with_licence(name) for name in card["data_sets"]]
        for key in (*CARD_TEXTS, "gate", "licence", "data_sets"):
            value = card[key]
            print(f"  {key:<10} {', '.join(map(str, value)) if isinstance(value, tuple | list) else value}")
        for name, value in card["figures"].items():
            print(f"  {name:<10} {value}")
    return OK


def _jobs(given: argparse.Namespace) -> int:
    from dicomnode.cases import wording
    from dicomnode.ledger.ledger import existing

    ledger = existing(_config(given))
    rows = [wording.series(one) for one in ledger.receiving()] + [wording.job(one) for one in ledger.jobs()]
    if given.json:
        _print_json(rows)
    else:
        columns = ("job", "state", "held", "source_series_uid", "ct_series_uid", "rule", "reason_code")
        _print_table((*columns, "superseded_by", "updated_at"), rows)
    return OK


def _show(given: argparse.Namespace) -> int:
    from dicomnode.cases import wording
    from dicomnode.ledger.ledger import existing

    ledger = existing(_config(given))
    shown = wording.whole(ledger, ledger.job(given.job))
    if given.json:
        _print_json(shown)
        return OK
    for key, value in shown.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            print(f"\n{key}")
            _print_table(tuple(value[0]), value)
        elif key != "sop_instance_uids":
            print(f"{key:<22} {'' if value is None else value}")
    return OK


def _check(given: argparse.Namespace) -> int:
    config = _config(given)
    from dicomnode.node.check import checks

    results = checks(config)
    if given.json:
        _print_json([dataclasses.asdict(one) for one in results])
    else:
        for one in results:
            print(f"{'ok    ' if one.good else 'FAILED'} {one.name}: {one.sentence}")
    return OK if all(one.good for one in results) else FAILED


def _ready(given: argparse.Namespace) -> int:
    config = load(given.config)
    from dicomnode.node.check import wait_until_ready

    print(wait_until_ready(config, given.timeout))
    return OK


def _send(given: argparse.Namespace) -> int:
    config = _config(given)
    destination = config.destination(given.to)
    if destination is None:
        known = ", ".join(one.name for one in config.destinations) or "none"
        raise UnknownDestination(f"the configuration has no destination {given.to!r}; it has: {known}")
    from dicomnode.cases import wording
    from dicomnode.delivery.attempt import send

    paths = _dicom_files(given.folder)
    if not given.unchecked and (told := _complaints(paths, destination.profile)):
        print(f"not sent: {len(told)} rules of profile {destination.profile} are broken", file=sys.stderr)
        _print_complaints(told, as_json=given.json)
        return FAILED
    receipts: list[dict[str, Any]] = []
    try:
        send(paths, destination, config.node.ae_title, lambda receipt: receipts.append(wording.receipt(receipt)))
    finally:
        if given.json:
            _print_json(receipts)
        else:
            _print_table(("sop_instance_uid", "status", "outcome", "comment"), receipts)
    return OK


def _preflight(given: argparse.Namespace) -> int:
    _config(given)
    paths = _dicom_files(given.folder)
    told = _complaints(paths, given.profile)
    _print_complaints(told, as_json=given.json)
    print(f"{len(paths)} files, profile {given.profile}: {len(told) or 'no'} rules broken", file=sys.stderr)
    return FAILED if told else OK


def _complaints(paths: Sequence[Path], profile: str) -> list[Complaint]:
    """The rules of a profile that files break."""
    from pipeline.preflight.check import complaints
    from pipeline.preflight.profile import load_profile

    return complaints(paths, {"": load_profile(profile)})


def _print_complaints(told: Sequence[Complaint], *, as_json: bool) -> None:
    rows = [dataclasses.asdict(one) for one in told]
    if as_json:
        _print_json(rows)
    elif rows:
        _print_table(("rule", "files", "sentence"), rows)


def _dicom_files(folder: Path) -> list[Path]:
    """DICOM files below a folder (PS3.10 7.1: the prefix after the preamble), sorted. FileNotFoundError without any."""
    found = [path for path in sorted(folder.rglob("*")) if path.is_file() and _claims_dicom(path)]
    if not found:
        raise FileNotFoundError(f"{folder} holds no DICOM files")
    return found


def _claims_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def _schema(_: argparse.Namespace) -> int:
    from dicomnode.config.json_schema import node_schema

    _print_json(node_schema())
    return OK


def _train(given: argparse.Namespace) -> int:
    _config(given)
    from models.training import train

    train.main(given.recipe, fold=given.fold, minutes=given.minutes, changes=given.set)
    return OK


def _demo(given: argparse.Namespace) -> int:
    from dicomnode.cli.demo import demo

    return demo(given.input, given.out)


# Printing


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2, default=str))


def _print_table(columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> None:
    """Columns wide enough for their longest value; keys of jobs shortened to twelve characters."""
    cells = [[_cell(column, row.get(column)) for column in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    for line in [list(columns), *cells]:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def _cell(column: str, value: object) -> str:
    text = "" if value is None else str(value)
    return text[:12] if column in ("job", "superseded_by") else text.splitlines()[0] if text else ""


if __name__ == "__main__":
    sys.exit(main())
