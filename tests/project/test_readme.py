"""README and the files under deploy/ say what the code says."""

import argparse
import ast
import json
import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from dicomnode import reason_codes
from dicomnode.cli import conformance
from dicomnode.cli.main import parser
from dicomnode.ledger.states import state_picture
from models.evaluation.tables import short
from models.inference.card import find
from pipeline.errors import REASONS

PROJECT = Path(__file__).resolve().parents[2]
README = (PROJECT / "README.md").read_text()
MODELS = (PROJECT / "models" / "README.md").read_text()
MEASURED = PROJECT / "models" / "measured"
DOCUMENTS = [
    path for folder in (".", ".github", "deploy", "models") for path in sorted((PROJECT / folder).glob("*.md"))
]
TOP = "dicomnode|pipeline|models|config|deploy|tests"
MADE = {"models/unshipped/", "models/unshipped/NAME"}
"""Folders that documents name and that are there only once something lies in them."""


def between(name: str, document: str = README) -> str:
    """What stands in a document between `<!-- name -->` and `<!-- end of name -->`."""
    return document.split(f"<!-- {name} -->\n")[1].split(f"<!-- end of {name} -->")[0]


def test_readme_begins_with_the_two_commands() -> None:
    assert README.splitlines()[2:4] == ["    make demo", "    make test"]


def test_ci_runs_the_test_command_of_readme() -> None:
    lines = (PROJECT / ".ci" / "run").read_text().splitlines()
    assert README.splitlines()[3].strip() in lines


def test_the_picture_of_states_is_drawn_from_the_table() -> None:
    assert between("states") == f"```mermaid\n{state_picture()}```\n"


def test_the_paragraph_that_a_newcomer_reads_first_is_the_code() -> None:
    source = (PROJECT / "pipeline" / "conversion.py").read_text()
    [found] = [node for node in ast.parse(source).body if getattr(node, "name", "") == "convert"]
    assert between("paragraph") == f"```python\n{ast.get_source_segment(source, found)}\n```\n"


@pytest.mark.parametrize("name", ["evaluation", "evaluation-deformed", "cross-validation"])
def test_the_tables_of_the_models_are_what_was_measured(name: str) -> None:
    """`make evaluation` and `make cross-validation` write both."""
    measured = json.loads((MEASURED / f"{name}.json").read_text())
    assert between(name, MODELS) == short(measured)


def column(document: str, heading: str, key: slice, title: str) -> dict[str, str]:
    """A column of the first table below a heading of a document in models/measured, by the cells `key` of its rows."""
    table = (MEASURED / document).read_text().split(f"## {heading}\n\n")[1].split("\n\n")[0]
    head, _, *rows = [[cell.strip("* ") for cell in line.split("|")[1:-1]] for line in table.splitlines()]
    return {" ".join(row[key]): row[head.index(title)].split()[0].strip("*") for row in rows}


def test_figures_of_sampler_and_choices_are_what_was_measured() -> None:
    words = " ".join(MODELS.split())
    mae = column("evaluation.md", "By sampler steps and samples", slice(1, 3), "MAE (HU)")
    assert f"one step and one sample have an error of {mae['1 1']} HU, four steps {mae['4 1']} HU" in words
    assert f"twenty steps {mae['20 1']} HU, the mean of four samples {mae['1 4']} HU" in words
    mae = column("ablation.md", "All", slice(0, 1), "MAE (HU)")
    assert f"the recipe has {mae.pop('recipe')} HU" in words
    assert f"the same recipe with another seed {mae.pop('another-seed')} HU" in words
    mae.pop("look-up-table")
    assert f"lie between {min(mae.values(), key=float)} and {max(mae.values(), key=float)} HU" in words


def test_figures_of_the_expected_error_are_those_of_the_cards() -> None:
    cards = [find(name).figures["uncertainty"] for name in ("limb-t1-ldm", "limb-t1-nnunet")]
    ranks = [f"{card['spearman_voxels']['kept_back']:.2f}" for card in cards]
    deviations = [f"{100 * card['curve']['ence']:.0f} %" for card in cards]
    words = " ".join(MODELS.split())
    assert f"rank correlation of {ranks[0]} over the voxels" in words
    assert f"differ by {deviations[0]} over ten bins" in words
    assert f"`limb-t1-nnunet` has {ranks[1]} and {deviations[1]}." in words


def test_every_command_is_in_the_runbook_and_every_command_of_the_runbook_exists() -> None:
    [commands] = [one.choices for one in parser()._actions if isinstance(one, argparse._SubParsersAction)]
    section = (PROJECT / "deploy" / "RUNBOOK.md").read_text().split("## Commands\n")[1].split("\n## ")[0]
    rows = [line.split(" | ")[0] for line in section.splitlines() if line.startswith("| `")]
    named = {words.split()[0] for row in rows for words in re.findall(r"`([^`]+)`", row)}
    assert named == set(commands)


def test_readme_has_at_most_150_lines() -> None:
    assert len(README.splitlines()) <= 150


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_to_a_file(document: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", document.read_text())
    assert [link for link in links if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_path_that_is_named_is_there(document: Path) -> None:
    quoted = re.findall(r"`([^`\n]+)`", document.read_text())
    named = {word for text in quoted for word in text.split() if re.fullmatch(rf"(?:{TOP})/[\w./-]*\w/?", word)}
    assert {word for word in named if not (PROJECT / word).exists() and word not in MADE} == set()


def defined(document: Path, path: str) -> set[str]:
    """Names that the file defines or assigns to which a document points."""
    files = [one for one in (document.parent / path, PROJECT / path) if one.exists()]
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text()))]
    return {str(getattr(node, "name", None) or getattr(node, "id", None)) for node in nodes}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_name_that_stands_in_a_file_by_a_document_is_defined_there(document: Path) -> None:
    pairs = re.findall(r"`(\w+)` (?:of|in) (?:`|\[[^]]*\]\()([\w./-]+\.py)", document.read_text())
    assert [(name, path) for name, path in pairs if name not in defined(document, path)] == []


def runbook_rows(section: str, code: str) -> dict[str, str]:
    """First column -> the others, of the table in a section of RUNBOOK."""
    runbook = (PROJECT / "deploy" / "RUNBOOK.md").read_text()
    text = runbook.split(f"## {section}\n")[1].split("\n## ")[0]
    return dict(re.findall(rf"^\| ({code}) \| (.+) \|$", text, re.MULTILINE))


def test_the_runbook_says_of_every_reason_code_what_to_do() -> None:
    assert list(reason_codes.REJECTED) == list(REASONS)
    assert runbook_rows("Why a series is rejected", "[A-Z_]+") == dict(reason_codes.REJECTED)
    own = {code: f"{one.meaning} | {one.action}" for code, one in reason_codes.NODE_CODES.items()}
    assert runbook_rows("The node's own reason codes", "[A-Z_]+") == own
    assert runbook_rows("Why a CT is held before sending", "[a-z_ ]+") == {
        "rule": "the key that cures it",
        **reason_codes.HELD_BEFORE_SENDING,
    }


def test_the_conformance_statement_is_what_the_tables_say() -> None:
    assert (PROJECT / "deploy" / "CONFORMANCE.md").read_text() == conformance.statement()


def test_the_version_stands_in_pyproject_and_is_that_of_the_changelog_s_first_entry_and_of_the_citation() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    assert project["version"] == version("sct-node")
    [first, *_] = re.findall(r"^## \[(.+)\]", (PROJECT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert first == project["version"]
    cited = yaml.safe_load((PROJECT / "CITATION.cff").read_text())
    assert (cited["version"], cited["authors"]) == (project["version"], project["authors"])
    assert project["license"].startswith(cited["license"])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_clinical_is_said_only_to_say_that_it_is_not(document: Path) -> None:
    text = document.read_text().lower()
    assert text.count("clinical") == text.count("not for clinical use")
