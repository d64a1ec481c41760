"""The faces of the packages: what others may use is named, sorted and documented; private names stay inside."""

import ast
import importlib
import inspect
import pydoc
import subprocess
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest

import models
import pipeline

FACES = [models, pipeline]
PROJECT = Path(__file__).resolve().parents[2]
INSIDE = {"models": ("models",), "pipeline": ("pipeline",)}
"""Package -> the folders from which its private names may be reached."""

WITHOUT_TORCH = sorted(set(pipeline.__all__) - pipeline.WITH_TORCH)


def name_of(face: object) -> str:
    return getattr(face, "__name__", "")


def private_uses(source: str, package: str) -> set[str]:
    """Return the private names of a package that a source imports, or reaches as an attribute of one of its modules."""
    tree = ast.parse(source)
    aliases: set[str] = set()
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            ours = [alias for alias in node.names if alias.name.split(".")[0] == package]
            aliases |= {alias.asname or package for alias in ours}
            found |= {part for alias in ours for part in alias.name.split(".") if private(part)}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == package:
            aliases |= {alias.asname or alias.name for alias in node.names}
            found |= {
                name for alias in node.names for name in (*(node.module or "").split("."), alias.name) if private(name)
            }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and private(node.attr) and root(node) in aliases:
            found.add(node.attr)
    return found


def private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def root(node: ast.expr) -> str:
    """Return the name at which a chain of attributes begins, "" where it begins with something else."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def sources(package: str) -> Iterator[Path]:
    """Yield the files outside a package that may use it: those of the other packages, and the tests."""
    for folder in ("dicomnode", "models", "pipeline"):
        if folder not in INSIDE[package]:
            yield from Path(str(files(folder))).rglob("*.py")
    yield from (PROJECT / "tests").rglob("*.py")


@pytest.mark.parametrize("face", FACES, ids=name_of)
def test_the_public_names_are_sorted_and_each_only_once(face: object) -> None:
    names = list(getattr(face, "__all__", ()))
    assert names
    assert names == sorted(set(names))
    assert sorted(dir(face)) == names


@pytest.mark.parametrize(("face", "name"), [(face, name) for face in FACES for name in face.__all__])
def test_a_public_name_can_be_imported_and_is_documented(face: object, name: str) -> None:
    value = getattr(face, name)
    assert callable(value)
    assert value.__module__.split(".")[0] == name_of(face)
    assert (value.__name__, bool(value.__doc__)) == (name, True)
    assert not str(value.__doc__).startswith(f"{name}("), "the docstring is the one that dataclass makes of the fields"


def test_a_name_that_is_not_public_is_none_of_the_package() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Stopwatch'"):
        _ = pipeline.Stopwatch


def test_pipeline_convert_is_the_function_whatever_was_imported_before() -> None:
    importlib.import_module("pipeline.conversion")
    importlib.import_module("pipeline.volume.synthesize")
    assert inspect.isfunction(pipeline.convert)
    assert inspect.isfunction(pipeline.synthesize)


def test_help_of_convert_reads_like_documentation() -> None:
    text = pydoc.plain(pydoc.render_doc(pipeline.convert))
    assert "convert(series: 'Series', model: 'Model', into: 'Path', options: 'ConversionOptions') -> 'Result'" in text
    for part in ("Make the synthetic CT of an MR series", "`options.choice`", "Raises:", "Unsuitable:"):
        assert part in text


@pytest.mark.parametrize(
    ("package", "names"),
    [("models", sorted(models.WITHOUT_TORCH)), ("pipeline", WITHOUT_TORCH)],
    ids=["models", "pipeline"],
)
def test_what_needs_no_torch_comes_without_it(package: str, names: list[str]) -> None:
    program = f"import {package}, sys; [getattr({package}, name) for name in {names}]; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=120).returncode == 0


@pytest.mark.parametrize("face", FACES, ids=name_of)
def test_nothing_outside_reaches_a_private_name(face: object) -> None:
    package = name_of(face)
    used = {str(path): private_uses(path.read_text(), package) for path in sources(package)}
    assert len(used) > 100
    assert {path: names for path, names in used.items() if names} == {}


@pytest.mark.parametrize(
    "source",
    [
        "from pipeline.gate import _secret",
        "from pipeline import gate\ngate._secret()",
        "import pipeline.gate\npipeline.gate._secret",
        "def f():\n    from pipeline import gate as g\n    return g._secret",
        "from pipeline._secret import name",
    ],
)
def test_a_private_name_is_seen_however_it_is_reached(source: str) -> None:
    assert private_uses(source, "pipeline") == {"_secret"}
    assert private_uses(source, "models") == set()
