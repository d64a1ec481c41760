"""What is tested is what is installed, and all of it is there."""

import os
import tomllib
from importlib.metadata import entry_points, metadata
from importlib.resources import files
from pathlib import Path

import pytest

PACKAGES = ("dicomnode", "pipeline", "models", "config")


def contents(package: Path) -> dict[str, bytes]:
    """Path below the package -> content, of every file that the wheel is to carry."""
    left_out = {"__pycache__", "unshipped", "measured", "README.md"}
    found = (path for path in package.rglob("*") if path.is_file() and left_out.isdisjoint(path.parts))
    return {str(path.relative_to(package)): path.read_bytes() for path in found}


def installed(package: str) -> Path:
    """The folder from which a package is imported; `config` has no Python, so it is found by a file of it."""
    known = {"config": "node.yaml"}.get(package, "__init__.py")
    return Path(str(files(package).joinpath(known))).parent


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_is_installed_with_every_file_of_its_source(package: str, project: Path) -> None:
    assert contents(installed(package)) == contents(project / package)


@pytest.mark.parametrize("package", PACKAGES)
def test_in_ci_a_package_comes_from_the_wheel_and_not_from_its_source(package: str, project: Path) -> None:
    from_source = installed(package) == project / package
    assert not (from_source and os.environ.get("SCT_TEST_INSTALLED") == "1")


@pytest.mark.parametrize("package", ["dicomnode", "pipeline", "models"])
def test_a_package_says_that_it_is_typed(package: str) -> None:
    """PEP 561: type checkers read the annotations of an installed package only where this file is."""
    assert (installed(package) / "py.typed").is_file()


def test_the_metadata_name_the_licences_and_hold_their_texts(project: Path) -> None:
    """PEP 639: an SPDX expression of all that the wheel carries, and the files with the texts."""
    declared = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    said = metadata("sct-node")
    assert said["License-Expression"] == declared["license"]
    assert said.get_all("License-File") == declared["license-files"]
    assert not [one for one in said.get_all("Classifier", []) if one.startswith("License ::")]
    licence, weights = ((project / name).read_text() for name in declared["license-files"])
    assert "Apache License" in licence
    assert "Creative Commons Attribution 4.0 International" in weights


def test_the_command_is_installed() -> None:
    [command] = entry_points(group="console_scripts", name="sct-node")
    assert command.value == "dicomnode.cli.main:main"


def test_every_model_is_shipped_as_weights_of_at_most_10_mb_with_their_card() -> None:
    shipped = sorted((installed("models") / "shipped").iterdir())
    weights = [path for path in shipped if path.suffix == ".safetensors"]
    assert weights
    assert {path.stem for path in weights} == {path.stem for path in shipped if path.suffix == ".json"}
    assert all(path.stat().st_size <= 10_000_000 for path in weights)


def test_weights_that_the_repository_alone_holds_are_not_in_the_wheel(project: Path) -> None:
    from_source = installed("models") == project / "models"
    assert from_source or not (installed("models") / "unshipped").exists()


def test_the_picture_viewer_comes_with_the_wheel_and_with_its_licence() -> None:
    static = installed("dicomnode") / "web" / "static"
    if not (static / "niivue.js").exists() and os.environ.get("SCT_TEST_INSTALLED") != "1":
        pytest.skip("no NiiVue in this checkout: python hatch_build.py")
    assert b"niivue" in (static / "niivue.js").read_bytes()
    notice = (static / "niivue.LICENSE.txt").read_text()
    assert "Copyright (c) 2021, Niivue" in notice
    assert "Brandon Jones" in notice
    for title in ("BSD 2-Clause License", "MIT License", "ISC License"):
        assert f"\n{title}\n" in notice
