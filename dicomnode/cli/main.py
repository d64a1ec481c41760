"""The command `sct-node`: its options, and the commands that work on files.

Each command imports what it needs when it runs, so that the small ones are quick.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from dicomnode.cli import administration, evaluation, jobs, quality
from dicomnode.cli.printing import print_json, print_table
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

CARD_TEXTS: Final = ("contrast", "anatomy", "spacing_mm", "hu_range", "training_data", "limits")
"""Keys of a card that `models` prints first."""

Command = Callable[[argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status: 0 done, 1 failed, 2 refused (convert), 64 wrong usage."""
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
    """Return the whole command line."""
    top = Parser(
        prog="sct-node",
        description="A DICOM node that turns MR series into synthetic CT series. Research, not for clinical use.",
        epilog="sct-node COMMAND --help says more about a command.",
    )
    top.add_argument("--version", action="version", version=f"sct-node {importlib.metadata.version('sct-node')}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    administration.add_role_commands(commands, add_command)
    add_file_commands(commands)
    jobs.add_commands(commands, add_command)
    administration.add_commands(commands, add_command)
    evaluation.add_commands(commands, add_command)
    quality.add_commands(commands, add_command)
    details = "Starts a node and a destination, pushes a phantom or your series, shows the result. Needs no set-up."
    added = add_command(commands, "demo", run_demo, "Show the whole journey on this machine", details)
    added.add_argument("--input", type=Path, metavar="DIR", help="your own MR series instead of the phantom")
    added.add_argument("--out", type=Path, default=Path("demo-out"), metavar="DIR", help="where files and picture go")
    return top


def add_command(commands: Any, name: str, command: Command, summary: str, details: str = "", *options: str) -> Parser:
    """Add a command with its help and those of the common options (`json`, `model`) that it takes."""
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


def add_file_commands(commands: Any) -> None:
    """Add the commands that work on files: converted, explained, checked, sent, trained on."""
    details = "No network, no database. The rules of the configuration decide, unless --model is given. "
    details += "Exit status: 0 converted, 2 refused (see OUT_DIR/report.json), 1 failed."
    added = add_command(
        commands, "convert", convert, "Convert a folder of MR files to CT files", details, "model", "json"
    )
    added.add_argument("source", type=Path, metavar="IN_DIR", help="folder with one MR series")
    added.add_argument("into", type=Path, metavar="OUT_DIR", help="folder for NNNN.dcm and report.json")
    details = "The HU volume lies on the MR's own grid, for evaluation."
    added = add_command(commands, "predict", predict, "Predict HU for an MR volume in NIfTI", details, "model")
    added.add_argument("mr", type=Path, metavar="MR.nii.gz")
    added.add_argument("out", type=Path, metavar="OUT.nii.gz")
    details = "Which rule takes each series and why, and what the pipeline would say of it. Nothing is written or sent."
    added = add_command(commands, "explain", explain, "Say what the node would make of a folder", details, "json")
    added.add_argument("folder", type=Path, metavar="DIR")
    text = "AE title of the sender, for rules that ask for it"
    added.add_argument("--calling-ae", default="", metavar="AE", help=text)
    details = "Says which rules of planning systems the files break. Exit status 1 if any."
    added = add_command(
        commands, "preflight", preflight, "Check the files of a CT series before sending", details, "json"
    )
    added.add_argument("folder", type=Path, metavar="DIR", help="folder with one CT series")
    text = "a name in config/profiles, or the path of your own .yaml file (default generic)"
    added.add_argument("--profile", default="generic", metavar="NAME", help=text)
    added = add_command(commands, "models", list_models, "List the installed models from their cards", "", "json")
    text = "load each, and compare what it computes of a test object with its card; exit status 1 if any differs"
    added.add_argument("--verify", action="store_true", help=text)
    details = "A folder that `python -m monai.bundle run` executes where sct-node is installed; see its docs/README.md."
    added = add_command(commands, "export", export, "Write an installed model as a MONAI Bundle", details)
    added.add_argument("name", metavar="MODEL", help="a name that `sct-node models` lists, or a folder with a model")
    added.add_argument("--bundle", type=Path, required=True, metavar="DIR", help="the folder to write, not there yet")
    details = (
        "One attempt; the node's jobs are not touched. Files that break a rule of the destination's profile are not "
        "sent. Exit status 1 when they are not, or an instance was not taken."
    )
    added = add_command(commands, "send", send, "Send the CT files of a folder to a destination", details, "json")
    added.add_argument("folder", type=Path, metavar="DIR")
    added.add_argument("--to", required=True, metavar="NAME", help="name of a destination in the configuration")
    added.add_argument("--unchecked", action="store_true", help="send whatever they are: the profile is not asked")
    added = add_command(commands, "train", train, "Train a model by a recipe", "Goes on from its last checkpoint.")
    added.add_argument("recipe", type=Path, metavar="RECIPE", help="YAML file, such as config/train/limb-t1-ldm.yaml")
    text = "one fold of a cross-validation, such as 2/5; after the last, a file of all folds for `evaluate` is written"
    added.add_argument("--fold", default="", metavar="K/N", help=text)
    text = "time of all stages together (on a CPU, the processor's), in the place of the recipe's steps and minutes"
    added.add_argument("--minutes", type=float, metavar="M", help=text)
    text = "a value in the place of the recipe's, such as losses.bone=2; with another `run`, so that both are kept"
    added.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=text)


def _config(given: argparse.Namespace) -> Config:
    """Return the configuration; a model that the command line names is used whatever the rules say."""
    loaded = load(given.config)
    if given.model is None:
        return loaded
    return dataclasses.replace(loaded, model=given.model, rules=(), otherwise=AS_CONFIGURED)


def convert(given: argparse.Namespace) -> int:
    """Convert MR files (PS3.3 A.4) to CT files (PS3.3 A.3); return 0, or 2 when the series is refused."""
    config = _config(given)
    from dicomnode.synthesis.convert_folder import convert_folder

    report = convert_folder(given.source, given.into, config)
    if given.json:
        print_json(report)
    if "rejected" in report:
        print(f"refused: {report['rejected']['code']}: {report['rejected']['sentence']}", file=sys.stderr)
        return REFUSED
    if report["held"]:
        print(f"converted, but a person should look: {report['held']}", file=sys.stderr)
    return OK


def predict(given: argparse.Namespace) -> int:
    """Predict the HU of an MR volume on its own grid; return the exit status."""
    config = _config(given)
    from models.inference.weights import load_model
    from pipeline.volume.synthesize import predict_nifti

    predict_nifti(given.mr, given.out, load_model(config.model, config.device))
    return OK


def export(given: argparse.Namespace) -> int:
    """Write a model as a MONAI Bundle; return the exit status."""
    from pipeline.monai_bundle import write_bundle

    print(write_bundle(given.name, given.bundle))
    return OK


def explain(given: argparse.Namespace) -> int:
    """Print which rule takes each series of a folder, and why; return the exit status."""
    config = load(given.config)
    from dicomnode.cli.explain import explain, sentences

    found, unreadable = explain(_dicom_files(given.folder), given.calling_ae, config)
    if given.json:
        print_json({"series": found, "unreadable": unreadable})
        return OK
    for line in [*(line for one in found for line in sentences(one)), *unreadable]:
        print(line)
    return OK


def list_models(given: argparse.Namespace) -> int:
    """Print the cards of the installed models, or whether each does what its card says; return the exit status."""
    load(given.config)
    from models.data.data_sets import with_licence
    from models.inference.card import installed, unshipped

    if given.verify:
        return evaluation.verify(given.json)
    cards = [dataclasses.asdict(card) for card in installed()]
    if given.json:
        print_json(cards)
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


def send(given: argparse.Namespace) -> int:
    """Send the CT files of a folder (PS3.4 B); return 1 if they break a rule of the destination's profile, else 0."""
    config = load(given.config)
    destination = config.destination(given.to)
    if destination is None:
        known = ", ".join(one.name for one in config.destinations) or "none"
        raise UnknownDestination(f"the configuration has no destination {given.to!r}; it has: {known}")
    from dicomnode.cases import wording
    from dicomnode.delivery.attempt import send

    paths = _dicom_files(given.folder)
    if not given.unchecked and (broken := _complaints(paths, destination.profile)):
        print(f"not sent: {len(broken)} rules of profile {destination.profile} are broken", file=sys.stderr)
        _print_complaints(broken, as_json=given.json)
        return FAILED
    receipts: list[dict[str, Any]] = []
    try:
        send(paths, destination, config.node.ae_title, lambda receipt: receipts.append(wording.receipt(receipt)))
    finally:
        if given.json:
            print_json(receipts)
        else:
            print_table(("sop_instance_uid", "status", "outcome", "comment"), receipts)
    return OK


def preflight(given: argparse.Namespace) -> int:
    """Print which rules of a profile the files of a folder break; return 1 if any, else 0."""
    load(given.config)
    paths = _dicom_files(given.folder)
    broken = _complaints(paths, given.profile)
    _print_complaints(broken, as_json=given.json)
    print(f"{len(paths)} files, profile {given.profile}: {len(broken) or 'no'} rules broken", file=sys.stderr)
    return FAILED if broken else OK


def _complaints(paths: Sequence[Path], profile: str) -> list[Complaint]:
    """Return the rules of a profile that files break."""
    from pipeline.preflight.check import complaints
    from pipeline.preflight.profile import load_profile

    return complaints(paths, {"": load_profile(profile)})


def _print_complaints(broken: Sequence[Complaint], *, as_json: bool) -> None:
    """Print broken rules: as JSON, or as a table where there are any."""
    rows = [dataclasses.asdict(one) for one in broken]
    if as_json:
        print_json(rows)
    elif rows:
        print_table(("rule", "files", "sentence"), rows)


def _dicom_files(folder: Path) -> list[Path]:
    """Return the DICOM files below a folder, sorted. Raises FileNotFoundError where there are none."""
    found = [path for path in sorted(folder.rglob("*")) if path.is_file() and has_dicom_prefix(path)]
    if not found:
        raise FileNotFoundError(f"{folder} holds no DICOM files")
    return found


def has_dicom_prefix(path: Path) -> bool:
    """Return whether a file has the preamble and prefix of a DICOM file (PS3.10 7.1)."""
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def train(given: argparse.Namespace) -> int:
    """Train a model by a recipe; return the exit status."""
    load(given.config)
    from models.training import train

    train.main(given.recipe, fold=given.fold, minutes=given.minutes, changes=given.set)
    return OK


def run_demo(given: argparse.Namespace) -> int:
    """Run the demo; return the exit status."""
    from dicomnode.cli.demo import demo

    return demo(given.input, given.out)


if __name__ == "__main__":
    sys.exit(main())
