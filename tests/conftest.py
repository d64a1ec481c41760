"""What the tests share: the real data, programs to talk to, free ports, and the rule that CI skips nothing.

SCT_DATA      folder of the real data, ../shared/data beside the project unless it is set
SCT_REQUIRE   1 in CI: a run that skips a test fails
SCT_TEST_INSTALLED   1 where the installed wheel is tested: the packages must not come from the source folder
"""

import os
import shutil
import socket
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("SCT_DATA", PROJECT.parent / "shared" / "data")).resolve()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI a run that skipped anything is a failed run: what the skipped test needs was to be installed."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("SCT_REQUIRE") == "1" and reporter and reporter.stats.get("skipped"):
        reporter.write_line("\nSCT_REQUIRE=1: the tests named as SKIPPED below should have run", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def project() -> Path:
    """The root of the source folder."""
    return PROJECT


@pytest.fixture(scope="session")
def sct_data() -> Path:
    """The folder of real data; skips where it is absent."""
    if not DATA.is_dir():
        pytest.skip(f"the real data are not at {DATA} (set SCT_DATA)")
    return DATA


@pytest.fixture(scope="session")
def mr_item(sct_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """An item of the data's mr/ folder by its name, unpacked once a session where it is a .tar.xz."""
    unpacked = tmp_path_factory.mktemp("mr")

    def item(name: str) -> Path:
        plain, archive = sct_data / "mr" / name, sct_data / "mr" / f"{name}.tar.xz"
        if plain.exists():
            return plain
        if not (unpacked / name).exists():
            with tarfile.open(archive) as tar:
                tar.extractall(unpacked, filter="data")
        return unpacked / name

    return item


@pytest.fixture(scope="session")
def program() -> Callable[[str], str]:
    """The path of a program by its name, the venv's before Debian's; skips where it is not installed."""

    def find(name: str) -> str:
        places = [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath), "/usr/sbin"]
        found = shutil.which(name, path=os.pathsep.join(places))
        if found is None:
            pytest.skip(f"{name} is not installed (Debian packages dcmtk, orthanc, prometheus, chromium-driver)")
        return found

    return find


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """Ports of the loopback interface that were free a moment ago."""

    def find() -> int:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            return int(listener.getsockname()[1])

    return find
