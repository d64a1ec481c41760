"""No pickle anywhere: nothing that the node reads can make it run code."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import dicomnode
import models
import pipeline

FORBIDDEN = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "jsonpickle"}
CALLS = {"eval", "exec", "compile"}
SOURCES = [
    path
    for package in (dicomnode, pipeline, models)
    for path in sorted(Path(next(iter(package.__path__))).rglob("*.py"))
]


def imported(tree: ast.AST) -> Iterator[str]:
    """The libraries that a file imports, lazily or not."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (one.name.split(".")[0] for one in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]


def called(tree: ast.AST) -> Iterator[tuple[str, dict[str, object]]]:
    """Every call by its dotted name, with the keywords that are constants."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            keywords = {one.arg: one.value.value for one in node.keywords if isinstance(one.value, ast.Constant)}
            yield ast.unparse(node.func), {str(key): value for key, value in keywords.items()}


def faults(source: str) -> list[str]:
    """What a file does that could run what it reads."""
    tree = ast.parse(source)
    found = [f"imports {name}" for name in imported(tree) if name in FORBIDDEN]
    for name, keywords in called(tree):
        if name in CALLS:
            found.append(f"calls {name}")
        if name == "torch.load" and keywords.get("weights_only") is not True:
            found.append("torch.load without weights_only=True")
        if name.rpartition(".")[2] in ("load", "save", "savez") and keywords.get("allow_pickle") is True:
            found.append(f"{name} with allow_pickle")
        if name in ("yaml.load", "yaml.unsafe_load", "yaml.full_load"):
            found.append(name)
        if keywords.get("shell") is True:
            found.append(f"{name} with a shell")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_file_neither_reads_pickles_nor_runs_what_it_reads(path: Path) -> None:
    assert faults(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "def f():\n    from joblib import load",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "yaml.load(text)",
        "eval(text)",
        "subprocess.run(text, shell=True)",
    ],
)
def test_the_search_finds_what_it_looks_for(source: str) -> None:
    assert faults(source)
