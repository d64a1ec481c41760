"""Who may import what: dicomnode -> pipeline -> models, and within each package a folder only those before it.

Imports are read from the syntax tree, so one inside a function or for the type checker alone counts like any other.
"""

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from importlib.resources import files
from pathlib import Path

import pytest

PACKAGES = ("models", "pipeline", "dicomnode")

LAYERS = {
    "models": ["data", "measures networks simulation", "inference", "training evaluation"],
    "pipeline": [
        "durable_files errors standard",
        "series",
        "findings",
        "ct",
        "preflight volume",
        "gate report",
        "companions",
        "conversion monai_bundle dose_plans",
        "phantom",
    ],
    "dicomnode": [
        "log metrics reason_codes receipt",
        "errors",
        "config spool",
        "ledger security",
        "dimse engine",
        "commitment notify",
        "cases reception",
        "delivery synthesis",
        "quality",
        "web",
        "node",
        "cli",
    ],
}
"""Package -> its folders and files, lowest first. A module imports its own folder and those of lower lines."""

NETWORK = {"socket", "socketserver", "ssl", "http", "urllib", "pynetdicom", "starlette", "uvicorn", "httpx"}
DATABASE = {"sqlite3", "sqlalchemy", "psycopg", "dbos"}
THREADS = {"threading", "multiprocessing", "concurrent", "asyncio", "subprocess", "signal"}
DICOM = {"pydicom", "pynetdicom", "highdicom"}
CLOCK = {"time", "datetime"}
DYNAMIC = {"importlib.import_module", "__import__"}

FORBIDDEN = {
    "models": {"dicomnode", "pipeline", "prometheus_client"} | NETWORK | DATABASE | THREADS | DICOM | CLOCK,
    "pipeline": {"dicomnode", "torch", "monai", "prometheus_client"} | NETWORK | DATABASE | THREADS,
    "dicomnode": {"torch", "monai", "highdicom", "SimpleITK"},
}
"""Package -> what no module of it imports."""

CLOCK_IN = {"models.training.train", "pipeline.ct", "pipeline.dose_plans", "pipeline.conversion"}
"""Modules and folders that may ask the time although their package may not."""

ONLY_IN = {
    "pynetdicom": "dimse reception commitment delivery cli.demo_archive",
    "starlette": "web",
    "uvicorn": "web.server",
    "dbos": "engine.queues",
    "sqlalchemy": "ledger commitment engine quality.constancy_runs reception.other_receivers synthesis.drift "
    "cases.overview",
    "alembic": "ledger.migration ledger.migrations",
    "prometheus_client": "metrics web.health",
    "dicomweb_client": "delivery.stow_rs",
    "requests": "delivery.stow_rs notify.channels",
    "argon2": "security.users",
    "cryptography": "security.tls",
    "pyRadPlan": "dose_plans",
    "pymedphys": "dose_plans",
}
"""Library -> the folders and modules that may import it: a decision that could be taken back lies in one place."""

FILES_IN_A_FOLDER = 12

WITHOUT_TORCH = (
    "dicomnode.reception.storage_scp",
    "dicomnode.reception.settle",
    "dicomnode.spool.spool",
    "dicomnode.delivery.storage_scu",
    "dicomnode.web.app",
    "dicomnode.cases.report",
    "pipeline.report.case_report",
    "pipeline.companions.report_objects",
)
"""Modules of processes that must start fast and stay small."""

NO_HOME = ("utils", "util", "helpers", "helper", "common", "base", "core", "misc", "manager", "handler")
"""Names for files that nobody knew where else to put."""

Trees = Mapping[str, ast.Module]
"""Dotted name of a module -> its syntax tree."""


def modules() -> Iterator[tuple[str, Path]]:
    """(dotted name, file) of every module of the three packages, wherever they are installed; a folder by its name."""
    for package in PACKAGES:
        root = Path(str(files(package)))
        for path in sorted(root.rglob("*.py")):
            parts = path.relative_to(root.parent).with_suffix("").parts
            yield ".".join(parts).removesuffix(".__init__"), path


MODULES = dict(modules())
TREES = {name: ast.parse(path.read_text()) for name, path in MODULES.items()}


def imported(tree: ast.AST) -> set[str]:
    """Dotted names that a module imports anywhere; `from a import b` gives a.b. No import of ours is relative."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in DYNAMIC:
            found.add("an import by name")
    return found


def top(name: str) -> str:
    """The first part of a dotted name."""
    return name.partition(".")[0]


def room(name: str) -> str:
    """The folder (or file) of its package in which a module lies; "" for the package itself."""
    return [*name.split("."), ""][1]


def of_ours(name: str, trees: Trees) -> str | None:
    """The module of ours that an imported name belongs to, if any."""
    parent = name.rpartition(".")[0]
    return name if name in trees else parent if parent in trees else None


def graph(trees: Trees) -> dict[str, set[str]]:
    """Module -> the modules of ours that it imports."""
    return {
        module: {found for name in imported(tree) if (found := of_ours(name, trees)) not in (None, module)}
        for module, tree in trees.items()
    }


def upward(trees: Trees) -> set[tuple[str, str]]:
    """(module, what it imports) of every import that goes up, or across a line of LAYERS."""
    rank = {
        (package, name): number
        for package, lines in LAYERS.items()
        for number, line in enumerate(lines)
        for name in line.split()
    }
    return {
        (module, other)
        for module, others in graph(trees).items()
        for other in others
        if top(module) == top(other) and "" not in (room(module), room(other)) and room(module) != room(other)
        if rank[top(other), room(other)] >= rank[top(module), room(module)]
    }


def in_circles(trees: Trees) -> set[str]:
    """Modules that reach themselves."""
    edges = graph(trees)

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        todo = list(edges[start])
        while todo:
            if (name := todo.pop()) not in seen:
                seen.add(name)
                todo += edges[name]
        return seen

    return {module for module in trees if module in reached(module)}


def crowded(names: Iterable[str]) -> dict[str, int]:
    """Folder -> its number of files, where that is more than FILES_IN_A_FOLDER."""
    folders = Counter(name.rpartition(".")[0] for name in names if name.count("."))
    return {folder: count for folder, count in folders.items() if count > FILES_IN_A_FOLDER}


def public_classes(trees: Trees) -> Counter[str]:
    """Name of a public class -> how many modules define one."""
    return Counter(
        node.name
        for tree in trees.values()
        for node in tree.body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )


def undocumented(trees: Trees) -> set[str]:
    """Modules, and public functions and classes in them, that have no docstring."""
    return {
        f"{module}.{getattr(node, 'name', '')}"
        for module, tree in trees.items()
        for node in (tree, *tree.body)
        if isinstance(node, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        if not getattr(node, "name", "").startswith("_") and not ast.get_docstring(node)
    }


def with_module(name: str, source: str) -> Trees:
    """The project, and one module more."""
    return {**TREES, name: ast.parse(source)}


def test_there_is_something_to_check() -> None:
    assert {top(name) for name in MODULES} == set(PACKAGES)
    assert len(MODULES) > 100
    rooms = {(top(name), room(name)) for name in MODULES if room(name)}
    assert rooms == {(package, name) for package, lines in LAYERS.items() for line in lines for name in line.split()}


def test_no_import_goes_up() -> None:
    assert upward(TREES) == set()


def test_no_module_reaches_itself() -> None:
    assert in_circles(TREES) == set()


@pytest.mark.parametrize(
    "source",
    [
        "from dicomnode.web.app import app",
        "def f():\n    from dicomnode.web import app",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from dicomnode.web.app import app",
    ],
    ids=["at the top", "in a function", "for the type checker"],
)
def test_an_import_that_goes_up_is_seen_wherever_it_stands(source: str) -> None:
    assert upward(with_module("dicomnode.spool.new", source)) == {("dicomnode.spool.new", "dicomnode.web.app")}


def test_a_circle_within_a_folder_is_seen() -> None:
    planted = {**with_module("models.data.one", "import models.data.other"), "models.data.other": ast.parse("")}
    assert in_circles(planted) == set()
    planted["models.data.other"] = ast.parse("def f():\n    from models.data import one")
    assert in_circles(planted) == {"models.data.one", "models.data.other"}


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_what_its_package_speaks(module: str) -> None:
    may_ask_the_time = any(module == place or module.startswith(f"{place}.") for place in CLOCK_IN)
    forbidden = FORBIDDEN[top(module)] - (CLOCK if may_ask_the_time else set())
    assert {name for name in imported(TREES[module]) if top(name) in forbidden} == set()


@pytest.mark.parametrize("module", MODULES)
def test_no_module_imports_by_a_computed_or_a_relative_name(module: str) -> None:
    assert {name for name in imported(TREES[module]) if name == "an import by name" or name.startswith(".")} == set()


@pytest.mark.parametrize("library", ONLY_IN)
def test_a_library_is_called_only_where_it_is_at_home(library: str) -> None:
    homes = ONLY_IN[library].split()
    users = {module.partition(".")[2] for module, tree in TREES.items() if library in map(top, imported(tree))}
    assert users
    assert {user for user in users if not any(f"{user}.".startswith(f"{home}.") for home in homes)} == set()


def calling_the_engine(trees: Trees) -> set[str]:
    """Modules that import the engine itself; all others know its contract alone."""
    engine = "dicomnode.engine.queues"
    return {name for name, tree in trees.items() if any(f"{one}.".startswith(f"{engine}.") for one in imported(tree))}


def test_only_where_processes_begin_is_it_known_which_engine_there_is() -> None:
    homes = {f"dicomnode.{name}" for name in ("node.roles", "web.case", "cli.jobs", "cli.administration")}
    assert calling_the_engine(TREES) == homes
    late = with_module("dicomnode.new", "def new():\n    from dicomnode.engine import queues")
    assert calling_the_engine(late) == homes | {"dicomnode.new"}


def reaching_the_database(trees: Trees) -> set[str]:
    """Modules that begin a connection or a transaction of a database engine themselves."""
    calls = ((module, node.func) for module, tree in trees.items() for node in ast.walk(tree) if type(node) is ast.Call)
    attributes = ((module, func) for module, func in calls if isinstance(func, ast.Attribute))
    opening = ("begin", "connect", "raw_connection")
    return {module for module, func in attributes if func.attr in opening and "engine" in ast.unparse(func.value)}


def test_every_module_reaches_the_database_as_the_ledger_does() -> None:
    homes = {"dicomnode.ledger.database", "dicomnode.ledger.migration"}
    assert reaching_the_database(TREES) == homes
    assert reaching_the_database(with_module("dicomnode.new", "self._engine.begin()")) == homes | {"dicomnode.new"}


@pytest.mark.parametrize("module", WITHOUT_TORCH)
def test_a_process_that_needs_no_torch_does_not_load_it(module: str) -> None:
    program = f"import sys, {module}; sys.exit('torch' in sys.modules or 'monai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=120).returncode == 0


def test_no_folder_is_crowded() -> None:
    assert crowded(name for name, path in MODULES.items() if path.stem != "__init__") == {}
    assert crowded([f"models.data.{number}" for number in range(13)]) == {"models.data": 13}


def test_no_class_name_means_two_things() -> None:
    assert {name: count for name, count in public_classes(TREES).items() if count > 1} == {}
    assert public_classes(with_module("models.data.new", "class Ledger: ..."))["Ledger"] == 2


def test_every_module_and_every_public_name_is_documented() -> None:
    assert undocumented(TREES) == set()
    assert undocumented(with_module("models.data.new", "def new(): ...")) == {"models.data.new.", "models.data.new.new"}


@pytest.mark.parametrize("module", MODULES)
def test_no_file_is_named_after_the_fact_that_nobody_knew_where_to_put_it(module: str) -> None:
    assert not set(module.split(".")) & set(NO_HOME)


@pytest.mark.parametrize("module", MODULES)
def test_no_file_is_longer_than_500_lines_and_no_function_than_60(module: str) -> None:
    lines = MODULES[module].read_text().splitlines()
    functions = (node for node in ast.walk(TREES[module]) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    long = {node.name for node in functions if (node.end_lineno or node.lineno) - node.lineno >= 60}
    assert (len(lines) <= 500, long) == (True, set())


def test_config_holds_data_and_no_python() -> None:
    root = Path(str(files("config").joinpath("node.yaml"))).parent
    assert [path for path in root.rglob("*.py*") if "__pycache__" not in path.parts] == []
