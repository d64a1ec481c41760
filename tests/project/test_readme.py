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
DOCUMENTS = [
    *sorted(PROJECT.glob("*.md")),
    *sorted((PROJECT / ".github").glob("*.md")),
    *sorted((PROJECT / "deploy").glob("*.md")),
]


def between(name: str) -> str:
    """What stands in README between `<!-- name -->` and `<!-- end of name -->`."""
    return README.split(f"<!-- {name} -->\n")[1].split(f"<!-- end of {name} -->")[0]


def test_readme_begins_with_the_two_commands() -> None:
    assert README.splitlines()[2:4] == ["    make demo", "    make test"]


def test_ci_runs_the_test_command_of_readme() -> None:
    lines = (PROJECT / ".ci" / "run").read_text().splitlines()
    assert README.splitlines()[3].strip() in lines


def test_the_picture_of_states_is_drawn_from_the_table() -> None:
    assert between("states") == f"```mermaid\n{state_picture()}```\n"


def test_the_paragraph_that_a_newcomer_reads_first_is_the_code() -> None:
    source = (PROJECT / "pipeline" / "run.py").read_text()
    [found] = [node for node in ast.parse(source).body if getattr(node, "name", "") == "convert"]
    assert between("paragraph") == f"```python\n{ast.get_source_segment(source, found)}\n```\n"


@pytest.mark.parametrize("name", ["evaluation", "cross-validation"])
def test_the_tables_of_the_models_are_what_was_measured(name: str) -> None:
    """`make evaluation` and `make cross-validation` write both."""
    said = json.loads((PROJECT / "deploy" / f"{name}.json").read_text())
    assert between(name) == short(said)


def column(document: str, heading: str, key: slice, title: str) -> dict[str, str]:
    """A column of the first table below a heading of a document in deploy/, by the cells `key` of its rows."""
    table = (PROJECT / "deploy" / document).read_text().split(f"## {heading}\n\n")[1].split("\n\n")[0]
    head, _, *rows = [[cell.strip("* ") for cell in line.split("|")[1:-1]] for line in table.splitlines()]
    return {" ".join(row[key]): row[head.index(title)].split()[0].strip("*") for row in rows}


def test_what_is_said_of_sampler_and_choices_is_what_was_measured() -> None:
    words = " ".join(README.split())
    by_sampler = column("evaluation.md", "By sampler steps and samples", slice(1, 3), "MAE (HU)")
    assert f"four steps make the LDM a little better ({by_sampler['4 1']} HU)" in words
    assert f"twenty spoil it ({by_sampler['20 1']}), four samples are no gain ({by_sampler['1 4']})" in words
    by_choice = column("ablation.md", "All", slice(0, 1), "MAE (HU)")
    assert f"has the recipe at {by_choice.pop('recipe')} HU" in words
    assert f"the same recipe with another seed at {by_choice.pop('another-seed')}, since" in words
    by_choice.pop("look-up-table")
    least, most = min(by_choice.values(), key=float), max(by_choice.values(), key=float)
    assert f"The choices tried lie between {least} and {most} and" in words


def test_what_is_said_of_doubt_is_what_the_cards_say() -> None:
    doubt = {name: find(name).figures["doubt"] for name in ("limb-t1-ldm", "limb-t1-nnunet")}
    ranks = [f"{told['spearman_voxels']['kept_back']:.2f}" for told in doubt.values()]
    apart = [f"{100 * told['curve']['ence']:.0f} %" for told in doubt.values()]
    words = " ".join(README.split())
    assert f"rank correlation of {ranks[0]} over" in words
    assert f"are {apart[0]} apart over ten bins" in words
    assert f"of `limb-t1-nnunet` {ranks[1]} and {apart[1]}." in words


def test_every_command_is_in_readme_and_every_command_of_readme_exists() -> None:
    [commands] = [one.choices for one in parser()._actions if isinstance(one, argparse._SubParsersAction)]
    rows = [line.split(" | ")[0] for line in README.splitlines() if line.startswith("| `")]
    named = {words.split()[0] for row in rows for words in re.findall(r"`([^`]+)`", row)}
    assert named == set(commands)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_to_a_file(document: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", document.read_text())
    assert [link for link in links if not (document.parent / link).exists()] == []


def test_each_answer_names_something_that_is_in_the_file_it_points_to() -> None:
    rows = re.findall(r"`(\w+)` in \[[^]]+\]\(([^)]+)\)", README)
    assert len(rows) == 8
    assert [name for name, path in rows if name not in (PROJECT / path).read_text()] == []


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
