"""Who may import what: dicomnode -> pipeline -> models, and each package keeps to its own language.

Imports are read from the syntax tree, so an import inside a function counts as one at the top of a file.
"""

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest

PACKAGES = ("models", "pipeline", "dicomnode")

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

ALLOWED = {
    "models.training.train": CLOCK,
    "pipeline.ct.write": CLOCK,
    "pipeline.dose_plans": CLOCK,
    "pipeline.convert": CLOCK,
}
"""Module -> what it may import although its package may not, each for a reason of its own."""

WEB = (
    "web",
    "health",
    "guard",
    "listener",
    "pages",
    "sign_in",
    "buttons",
    "help_page",
    "case_list",
    "case",
    "case_pictures",
    "system_page",
)
"""Modules of dicomnode that answer HTTP."""

ONLY_IN = {
    "dbos": {"dicomnode.engine.queues"},
    "sqlalchemy": {
        "dicomnode.ledger.ledger",
        "dicomnode.cases.overview",
        "dicomnode.synthesis.drift_ledger",
        "dicomnode.ledger.tables",
        "dicomnode.ledger.transitions",
        "dicomnode.ledger.outbox",
        "dicomnode.ledger.notices",
        "dicomnode.cases.standing",
        "dicomnode.ledger.superseding",
        "dicomnode.ledger.uid_conflicts",
        "dicomnode.commitment.proofs",
        "dicomnode.ledger.resending",
        "dicomnode.commitment.requests",
        "dicomnode.quality.constancy_runs",
        "dicomnode.ledger.migration",
        "dicomnode.engine.hosts",
        "dicomnode.reception.other_receivers",
        "dicomnode.engine.queues",
        "dicomnode.ledger.migrations.versions.r0001_tables",
        "dicomnode.ledger.migrations.versions.r0002_additions",
    },
    "alembic": {
        "dicomnode.ledger.migration",
        "dicomnode.ledger.migrations.env",
        "dicomnode.ledger.migrations.versions.r0001_tables",
        "dicomnode.ledger.migrations.versions.r0002_additions",
    },
    "prometheus_client": {"dicomnode.metrics"},
    "pynetdicom": {
        "dicomnode.reception.storage_scp",
        "dicomnode.dimse.server",
        "dicomnode.dimse.machine",
        "dicomnode.dimse.messages",
        "dicomnode.dimse.places",
        "dicomnode.dimse.reactor",
        "dicomnode.dimse.upper_layer",
        "dicomnode.dimse.admission",
        "dicomnode.dimse.tls_server",
        "dicomnode.reception.transfer_audit",
        "dicomnode.reception.request",
        "dicomnode.commitment.scp",
        "dicomnode.commitment.scu",
        "dicomnode.delivery.storage_scu",
        "dicomnode.cli.demo_archive",
    },
    "dicomweb_client": {"dicomnode.delivery.stow_rs"},
    "requests": {"dicomnode.delivery.stow_rs", "dicomnode.notify.channels"},
    "pyRadPlan": {"pipeline.dose_plans"},
    "pymedphys": {"pipeline.dose_plans"},
    "cryptography": {"dicomnode.security.certificates"},
    "argon2": {"dicomnode.security.users"},
    "starlette": {f"dicomnode.{name}" for name in WEB},
    "uvicorn": {"dicomnode.web.server"},
}
"""Library -> the modules that may import it: a decision that could be taken back lives in one place."""

WITHOUT_TORCH = (
    "dicomnode.reception.storage_scp",
    "dicomnode.reception.settle",
    "dicomnode.spool.spool",
    "dicomnode.delivery.storage_scu",
    "dicomnode.web.app",
    "dicomnode.cases.report",
    "pipeline.report.case_report",
    "pipeline.companions.told",
)
"""Modules of processes that must start fast and stay small."""

NO_HOME = ("utils", "util", "helpers", "helper", "common", "base", "core", "misc", "manager", "handler")
"""Names for files that nobody knew where else to put."""


def modules() -> Iterator[tuple[str, Path]]:
    """(dotted name, file) of every module of the three packages, wherever they are installed."""
    for package in PACKAGES:
        root = Path(str(files(package)))
        for path in sorted(root.rglob("*.py")):
            parts = path.relative_to(root.parent).with_suffix("").parts
            yield ".".join(parts).removesuffix(".__init__"), path


MODULES = dict(modules())


def imported(module: str, tree: ast.AST) -> Iterator[str]:
    """Dotted names that `tree`, the source of `module`, imports anywhere; `from a import b` gives a.b."""
    package = module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            yield from (".".join([*above, *filter(None, [node.module]), alias.name]) for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in DYNAMIC:
            yield "an import by name"


def without_type_checking(tree: ast.Module) -> ast.Module:
    """`tree` less what only a type checker sees."""
    seen = [node for node in tree.body if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")]
    return ast.Module(seen, tree.type_ignores)


TREES = {name: ast.parse(path.read_text()) for name, path in MODULES.items()}
IMPORTS = {name: set(imported(name, tree)) for name, tree in TREES.items()}


def top(name: str) -> str:
    """The first part of a dotted name."""
    return name.partition(".")[0]


def ours(name: str) -> str | None:
    """The module of ours that an imported name belongs to, if any."""
    parent = name.rpartition(".")[0]
    return name if name in MODULES else parent if parent in MODULES else None


def test_there_is_something_to_check() -> None:
    assert {top(name) for name in MODULES} == set(PACKAGES)
    assert len(MODULES) > 20


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_what_its_package_speaks(module: str) -> None:
    forbidden = FORBIDDEN[top(module)] - ALLOWED.get(module, set())
    assert {name for name in IMPORTS[module] if top(name) in forbidden} == set()


@pytest.mark.parametrize("module", MODULES)
def test_no_module_imports_by_a_computed_name(module: str) -> None:
    assert "an import by name" not in IMPORTS[module]


@pytest.mark.parametrize("library", ONLY_IN)
def test_a_library_is_called_only_where_it_is_at_home(library: str) -> None:
    users = {module for module, names in IMPORTS.items() if library in map(top, names)}
    assert users <= ONLY_IN[library]


def test_no_modules_import_each_other_in_a_circle() -> None:
    loaded = {module: imported(module, without_type_checking(tree)) for module, tree in TREES.items()}
    graph = {module: {ours(name) for name in names} - {None, module} for module, names in loaded.items()}
    order = list(graphlib.TopologicalSorter(graph).static_order())
    assert set(order) == set(MODULES)


@pytest.mark.parametrize("module", WITHOUT_TORCH)
def test_a_process_that_needs_no_torch_does_not_load_it(module: str) -> None:
    program = f"import sys, {module}; sys.exit('torch' in sys.modules or 'monai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=120).returncode == 0


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
