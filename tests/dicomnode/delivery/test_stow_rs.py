"""Tests of STOW-RS with Orthanc and a password, and with a server, also over TLS, whose answers the test chooses."""

from __future__ import annotations

import base64
import json
import socket
import ssl
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from highdicom import VolumeGeometry
from pydicom.uid import CTImageStorage

from dicomnode.config.load import dump, load
from dicomnode.config.peers import ClientTls, Destination, Secret, Stow
from dicomnode.delivery import attempt
from dicomnode.errors import ConfigError, Undelivered
from dicomnode.receipt import Receipt
from dicomnode.spool.instance_file import parcel
from pipeline.companions.kinds import COMPANIONS
from pipeline.companions.report_objects import write_report_object
from pipeline.companions.write import Content, write_companions
from pipeline.ct.write import write_ct
from pipeline.phantom import thigh
from pipeline.report.case_report import Case
from pipeline.series.series import Series, read_instance
from tests.support.authority import Authority
from tests.support.provenance import PROVENANCE

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


@pytest.fixture(scope="module")
def ct(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Write five files of class CT Image Storage."""
    affine = np.array([[0, 0, 8.0, -60], [0, 8.0, 0, -60], [5.0, 0, 0, 0], [0, 0, 0, 1]])
    geometry = VolumeGeometry(affine=affine, spatial_shape=(5, 16, 16), coordinate_system="PATIENT")
    paths = thigh.write_mr_series(thigh.thigh(geometry).mr, tmp_path_factory.mktemp("ct"))
    for path in paths:
        data_set = pydicom.dcmread(path)
        data_set.SOPClassUID = data_set.file_meta.MediaStorageSOPClassUID = CTImageStorage
        data_set.Modality = "CT"
        data_set.save_as(path, enforce_file_format=True)
    return paths


def sent(destination: Destination, paths: list[Path], already: tuple[str, ...] = ()) -> list[Receipt]:
    return attempt.send(paths, destination, "SCTNODE", lambda _: None, already)


def refused_by(destination: Destination, paths: list[Path]) -> Undelivered:
    with pytest.raises(Undelivered) as caught:
        sent(destination, paths)
    assert destination.where in caught.value.sentence
    return caught.value


def unreached(destination: Destination) -> str:
    """Return why a destination does not answer; empty when it does."""
    try:
        attempt.reach(destination, "SCTNODE")
    except Undelivered as error:
        return error.sentence
    return ""


@dataclass(frozen=True)
class Archive:
    """Start Orthanc with its DICOMweb plugin, for the user `node` with a password."""

    destination: Destination
    url: str

    def instances(self) -> dict[str, bytes]:
        """Return the files that it holds, by SOP Instance UID."""

        def ask(path: str) -> bytes:
            secret = base64.b64encode(b"node:swordfish").decode()
            request = urllib.request.Request(self.url + path, headers={"Authorization": f"Basic {secret}"})
            with urllib.request.urlopen(request) as answer:
                return bytes(answer.read())

        found = json.loads(ask("/instances?expand"))
        return {one["MainDicomTags"]["SOPInstanceUID"]: ask(f"/instances/{one['ID']}/file") for one in found}


@pytest.fixture(scope="module")
def archive(
    program: Callable[[str], str], free_port: Callable[[], int], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Archive]:
    if not PLUGIN.exists():
        pytest.skip("Orthanc's DICOMweb plugin is not installed (Debian package orthanc-dicomweb)")
    folder, port = tmp_path_factory.mktemp("archive"), free_port()
    configuration = {
        "StorageDirectory": str(folder / "store"),
        "IndexDirectory": str(folder / "store"),
        "DicomServerEnabled": False,
        "HttpPort": port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": True,
        "RegisteredUsers": {"node": "swordfish"},
        "HttpsCACertificates": "",
        "Plugins": [str(PLUGIN)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    (folder / "orthanc.json").write_text(json.dumps(configuration))
    (folder / "password").write_text("swordfish\n")
    (folder / "password").chmod(0o600)
    stow = Stow(f"http://127.0.0.1:{port}/dicom-web/", "node", Secret(file=folder / "password"))
    destination = Destination("archive", stow=stow, timeout_s=20)
    with (folder / "log").open("wb") as said:
        process = subprocess.Popen([program("Orthanc"), str(folder / "orthanc.json")], stdout=said, stderr=said)
    try:
        deadline = time.monotonic() + 15
        while (why := unreached(destination)) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert not why, f"{why}\n{(folder / 'log').read_text()[-2000:]}"
        yield Archive(destination, f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        process.wait(30)


def test_orthanc_gets_every_instance_byte_for_byte_and_takes_it_twice(archive: Archive, ct: list[Path]) -> None:
    for _ in range(2):
        receipts = sent(archive.destination, ct)
        assert [one.sop_instance_uid for one in receipts] == [parcel(path).sop_instance_uid for path in ct]
        assert all(one.stored and not one.warning for one in receipts)
    assert archive.instances() == {parcel(path).sop_instance_uid: path.read_bytes() for path in ct}
    assert sent(archive.destination, ct, tuple(parcel(path).sop_instance_uid for path in ct)) == []


def test_orthanc_gets_companions_of_every_kind_byte_for_byte(archive: Archive, tmp_path: Path) -> None:
    grid = thigh.axial_grid((3, 20, 24), (5.0, 6.0, 6.0), (-60.0, -60.0, 0.0))
    made = thigh.thigh(grid)
    mr = Series.of(map(read_instance, thigh.write_mr_series(made.mr, tmp_path / "mr")))
    slices = write_ct(made.hu, mr, PROVENANCE, tmp_path)
    hu = made.hu.array
    write_companions(COMPANIONS.keys(), Content(hu, hu > -300, np.ones_like(hu)), slices, tmp_path)
    for kind in COMPANIONS:
        if COMPANIONS[kind].decided:
            write_report_object(
                kind, Case("ab" * 32, "SYNTHESIZED", {}, "1.2"), slices, tmp_path / kind, datetime.now(UTC)
            )
    files = {parcel(path).sop_instance_uid: path.read_bytes() for path in tmp_path.glob("*/*.dcm")}
    companions = [path for path in sorted(tmp_path.glob("*/*.dcm")) if path.parent.name != "mr"]
    assert len(companions) == len(COMPANIONS)
    assert all(one.stored and not one.warning for one in sent(archive.destination, companions))
    held = archive.instances()
    assert all(held[uid] == files[uid] for uid in (parcel(path).sop_instance_uid for path in companions))


def test_a_wrong_password_and_none_are_undelivered(
    archive: Archive, ct: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WRONG", "herring")
    stow = archive.destination.stow
    assert stow is not None
    wrong = replace(archive.destination, stow=replace(stow, password=Secret(environment="WRONG")))
    assert "answered 401 Unauthorized" in refused_by(wrong, ct).sentence
    absent = replace(archive.destination, stow=replace(stow, password=Secret(environment="ABSENT")))
    assert "the environment variable ABSENT holds nothing" in refused_by(absent, ct).sentence


# A server whose answers the test chooses


@dataclass
class ServiceAnswer:
    """The answer of a server: status, headers, body; `asked` are the paths and Authorization headers that it saw."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    delay_s: float = 0.0
    asked: list[tuple[str, str]] = field(default_factory=list)


@pytest.fixture
def service() -> Iterator[Callable[..., tuple[ServiceAnswer, Destination]]]:
    """Give a function that starts a service whose answers the test chooses."""
    servers = []

    def start(context: ssl.SSLContext | None = None, **given: Any) -> tuple[ServiceAnswer, Destination]:
        answers = ServiceAnswer(**given)

        class Answering(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                answers.asked.append((self.path, self.headers.get("Authorization", "")))
                time.sleep(answers.delay_s)
                self.send_response(answers.status)
                for key, value in {**answers.headers, "Content-Length": str(len(answers.body))}.items():
                    self.send_header(key, value)
                self.end_headers()
                self.wfile.write(answers.body)

            def log_message(self, *_: object) -> None:
                pass

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Answering))
        if context is not None:
            servers[-1].socket = context.wrap_socket(servers[-1].socket, True, do_handshake_on_connect=False)
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        stow = Stow(f"http{'s' if context else ''}://127.0.0.1:{servers[-1].server_port}/dw")
        return answers, Destination("archive", stow=stow, timeout_s=2)

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def module(path: Path, **tags: list[int]) -> bytes:
    """Return a Store Instances Response Module about one file: `failed` or `referenced` with a reason (PS3.18 I.1)."""
    uid = {"00081155": {"vr": "UI", "Value": [parcel(path).sop_instance_uid]}}
    key, reason = {"failed": ("00081198", "00081197"), "referenced": ("00081199", "00081196")}[next(iter(tags))]
    item = uid | {reason: {"vr": "US", "Value": next(iter(tags.values()))}}
    return json.dumps({key: {"vr": "SQ", "Value": [item]}}).encode()


JSON = {"Content-Type": "application/dicom+json; charset=utf-8"}


@pytest.mark.parametrize(
    ("http", "part", "reason", "status", "outcome"),
    [
        (200, "referenced", 0xB007, 0xB007, "warning"),
        (202, "referenced", 0x0123, 0xB000, "warning"),
        (409, "failed", 0xA700, 0xA700, "refused"),
        (202, "failed", 0x0111, 0x0111, "duplicate"),
        (200, "failed", 0x0000, 0x0110, "refused"),
    ],
)
def test_what_a_service_says_of_an_instance_is_its_receipt(
    service: Callable[..., tuple[ServiceAnswer, Destination]],
    ct: list[Path],
    http: int,
    part: str,
    reason: int,
    status: int,
    outcome: str,
) -> None:
    _, destination = service(status=http, headers=JSON, body=module(ct[0], **{part: [reason]}))
    try:
        (receipt,) = sent(destination, ct[:1])
    except Undelivered as error:
        (receipt,) = error.receipts
    assert (receipt.status, receipt.outcome) == (status, outcome)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"status": 202}, "answered 202, and did not say what became of the instance"),
        ({"status": 503}, "answered 503 Service Unavailable"),
        ({"status": 301, "headers": {"Location": "http://127.0.0.1:9/"}}, "redirects, which is not followed"),
        ({"headers": JSON, "body": b"{"}, "with what cannot be read"),
        ({"headers": {"Content-Type": "application/dicom+xml"}, "body": b"<"}, "with what cannot be read"),
        ({"delay_s": 3.0}, "gave no answer within 2 s"),
    ],
)
def test_an_answer_that_says_nothing_of_the_instance_is_undelivered(
    service: Callable[..., tuple[ServiceAnswer, Destination]], ct: list[Path], given: dict[str, object], sentence: str
) -> None:
    there, destination = service(**given)
    error = refused_by(destination, ct)
    assert sentence in error.sentence
    assert (error.receipts, len(there.asked)) == ((), 1)


def test_a_success_without_details_is_taken_and_nothing_of_the_environment_is_shown(
    service: Callable[..., tuple[ServiceAnswer, Destination]],
    ct: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password mine\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("TOKEN", "abc")
    there, destination = service()
    assert [one.comment for one in sent(destination, ct[:2])] == ["no details were given"] * 2
    assert there.asked == [("/dw/studies", "")] * 2
    assert destination.stow is not None
    sent(replace(destination, stow=replace(destination.stow, token=Secret(environment="TOKEN"))), ct[:1])
    assert there.asked[-1] == ("/dw/studies", "Bearer abc")


@pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning")
def test_over_tls_a_service_must_show_the_right_certificate_and_so_must_the_node(
    service: Callable[..., tuple[ServiceAnswer, Destination]], ct: list[Path], tmp_path: Path
) -> None:
    hospital, stranger = Authority(tmp_path / "hospital"), Authority(tmp_path / "stranger")
    shown, own = hospital.sign("archive"), hospital.sign("node")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(shown.certificate, shown.key)
    context.load_verify_locations(hospital.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    there, plain = service(context)
    right = ClientTls(ca=hospital.ca, certificate=own.certificate, key=own.key)
    assert all(one.stored for one in sent(replace(plain, tls=right), ct))
    assert len(there.asked) == 5
    wrong = {
        "stranger": replace(right, ca=stranger.ca),
        "name": replace(right, name="archive.hospital"),
        "nothing shown": ClientTls(ca=hospital.ca),
        "public CAs": None,
    }
    for why, tls in wrong.items():
        assert refused_by(replace(plain, tls=tls), ct).receipts == (), why
    assert len(there.asked) == 5
    assert all(
        one.stored for one in sent(replace(plain, tls=replace(right, name="archive.hospital", check_name=False)), ct)
    )


def test_a_service_that_is_not_there_is_undelivered(ct: list[Path], free_port: Callable[[], int]) -> None:
    nobody = Destination("archive", stow=Stow(f"http://127.0.0.1:{free_port()}/dw"), timeout_s=2)
    assert "cannot be reached (Connection refused); 0 of 5 arrived" in refused_by(nobody, ct).sentence
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hanging = replace(nobody, stow=Stow(f"http://127.0.0.1:{silent.getsockname()[1]}/dw"), timeout_s=1)
        assert "gave no answer within 1 s" in refused_by(hanging, ct).sentence


@pytest.mark.parametrize(
    ("entry", "path", "problem"),
    [
        ("ae_title: A, stow: {url: 'https://a/'}", "destinations[0].ae_title", "says nothing beside stow"),
        ("host: h, port: 104", "destinations[0].ae_title", "is missing"),
        ("stow: {url: 'ftp://a/'}", "destinations[0].stow.url", "must be a URL"),
        ("stow: {url: 'https://me:mine@a/'}", "destinations[0].stow.url", "without user"),
        ("stow: {url: 'http://a/', token: {file: t}}", "destinations[0].stow", "in clear"),
        ("stow: {url: 'https://a/', user: me}", "destinations[0].stow", "user and password"),
        ("stow: {url: 'https://a/'}, commitment: {}", "destinations[0].commitment", "cannot be asked"),
    ],
)
def test_a_destination_is_an_application_entity_or_a_service(
    tmp_path: Path, entry: str, path: str, problem: str
) -> None:
    file = tmp_path / "node.yaml"
    file.write_text(f"destinations: [{{name: a, {entry}}}]\n")
    with pytest.raises(ConfigError, match=problem) as caught:
        load(file)
    assert caught.value.path == path


def test_a_configuration_with_a_service_is_written_and_read_again(tmp_path: Path) -> None:
    file = tmp_path / "node.yaml"
    file.write_text("destinations: [{name: a, stow: {url: 'https://a.example/dicom-web', token: {file: t}}}]\n")
    config = load(file)
    file.write_text(dump(config))
    assert load(file) == config
