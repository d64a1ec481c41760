"""The audit trail: what a record holds (PS3.15 A.5), that it is there, and what happens when it cannot be written."""

import base64
import contextlib
import datetime
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pydicom
import pytest

from dicomnode.config.load import load
from dicomnode.config.peers import ClientTls, Tls
from dicomnode.config.sections import Audit
from dicomnode.errors import ConfigError, OutOfResources
from dicomnode.metrics import REGISTRY
from dicomnode.security.audit_message import TRANSFERS, xml
from dicomnode.security.audit_trail import AuditTrail, Event
from tests.support.receiver import Pki, Site, eventually
from tests.support.senders import answered, associated, encoded

SITE = Audit(source="sct-1", site="Hospital")


def records(data: Path) -> list[dict[str, Any]]:
    lines = [line for file in sorted(data.glob("audit/*.jsonl")) for line in file.read_text().splitlines()]
    return [json.loads(line) for line in lines]


def recorded(data: Path, event: Event, **named: Any) -> dict[str, Any]:
    AuditTrail(SITE, data).record(event, **({"by": "node"} | named))
    return records(data)[-1]


@pytest.mark.parametrize("event", Event)
def test_every_record_holds_what_the_standard_wants_of_all(tmp_path: Path, event: Event) -> None:
    record = recorded(tmp_path, event, by="web:jane", address="192.0.2.5", job="j", studies=["1.2"], series=["1.2.3"])
    what = record["EventIdentification"]
    assert what["EventID"]["codeSystemName"] == "DCM"
    assert what["EventActionCode"] in "CRUDE"
    assert what["EventOutcomeIndicator"] == "0"
    age = datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(what["EventDateTime"])
    assert age < datetime.timedelta(minutes=1)
    assert record["AuditSourceIdentification"]["AuditSourceID"] == "sct-1"
    assert record["AuditSourceIdentification"]["AuditEnterpriseSiteID"] == "Hospital"
    assert any(one["UserIsRequestor"] == "true" for one in record["ActiveParticipant"])
    assert all(one["UserID"] or event in TRANSFERS for one in record["ActiveParticipant"])
    assert {one["ParticipantObjectID"] for one in record["ParticipantObjectIdentification"]} >= {"1.2", "j"}


@pytest.mark.parametrize(
    ("event", "named", "roles"),
    [
        (Event.INSTANCES_TRANSFERRED_IN, {"by": "ae:MR1"}, {"110153": "MR1", "110152": "SCTNODE"}),
        (Event.BEGIN_TRANSFERRING, {"by": "ae:MR1"}, {"110153": "MR1", "110152": "SCTNODE"}),
        (Event.INSTANCES_TRANSFERRED_OUT, {"peer": "TPS"}, {"110153": "SCTNODE", "110152": "TPS"}),
        (Event.BEGIN_TRANSFERRING, {"peer": "TPS"}, {"110153": "SCTNODE", "110152": "TPS"}),
    ],
)
def test_a_transfer_has_a_source_and_a_destination(
    tmp_path: Path, event: Event, named: dict[str, str], roles: dict[str, str]
) -> None:
    record = recorded(tmp_path, event, address="192.0.2.7", studies=["1.2"], instances=24, **named)
    found = {one["RoleIDCode"][0]["csd-code"]: one["UserID"] for one in record["ActiveParticipant"]}
    assert found == roles
    (other,) = (one for one in record["ActiveParticipant"] if one["UserID"] != "SCTNODE")
    assert (other["NetworkAccessPointID"], other["NetworkAccessPointTypeCode"]) == ("192.0.2.7", "2")
    (study,) = record["ParticipantObjectIdentification"]
    assert study["ParticipantObjectIDTypeCode"]["csd-code"] == "110180"
    assert study["SOPClass"] == [{"NumberOfInstances": "24"}]


def test_what_failed_says_so_with_its_reason(tmp_path: Path) -> None:
    record = recorded(tmp_path, Event.LOGIN, by="web:jane", failed="wrong password")
    assert record["EventIdentification"]["EventOutcomeIndicator"] == "4"
    assert record["EventIdentification"]["EventOutcomeDescription"] == "wrong password"


def test_patients_are_named_only_where_the_site_wants_it(tmp_path: Path) -> None:
    for patients, expected in ((False, []), (True, ["4711"])):
        data = tmp_path / str(patients)
        AuditTrail(Audit(patients=patients), data).record(
            Event.ACCESSED, by="web:jane", studies=["1.2"], patients=["4711"]
        )
        objects = records(data)[0]["ParticipantObjectIdentification"]
        assert [one["ParticipantObjectID"] for one in objects if one["ParticipantObjectTypeCode"] == "1"] == expected


def test_the_xml_has_the_order_of_the_schema_and_no_control_characters(tmp_path: Path) -> None:
    record = recorded(tmp_path, Event.ALERT, by="ae:X\x1b\n<a>", failed="wrong\x00", studies=["1.2"], series=["1.2.3"])
    document = xml(record)
    assert document.isprintable()
    root = ElementTree.fromstring(document)
    assert [child.tag for child in root][:2] == ["EventIdentification", "ActiveParticipant"]
    assert [child.tag for child in root][-1] == "ParticipantObjectIdentification"
    detail = root.find("ParticipantObjectIdentification/ParticipantObjectDetail")
    assert detail is not None
    assert base64.b64decode(detail.attrib["value"]) == b"1.2.3"


# Who sent what


def test_a_push_is_recorded_by_study_when_it_begins_and_when_it_ends(
    receiver_site: Callable[..., Site], dcmtk: Callable[..., int], images: list[Path]
) -> None:
    here = receiver_site()
    for _ in range(2):
        assert dcmtk("storescu", here.receiver.port, "+sd", images[0].parent) == 0
    assert eventually(lambda: len(here.trail()) == 4)
    begun, done = here.trail()[:2]
    assert begun["EventIdentification"]["EventID"]["csd-code"] == "110102"
    assert done["EventIdentification"]["EventID"]["csd-code"] == "110104"
    assert done["EventIdentification"]["EventOutcomeIndicator"] == "0"
    image = pydicom.dcmread(images[0])
    (study,) = done["ParticipantObjectIdentification"]
    assert study["ParticipantObjectID"] == image.StudyInstanceUID
    assert study["ParticipantObjectDetail"] == [{"type": "SeriesInstanceUID", "value": image.SeriesInstanceUID}]
    assert study["SOPClass"] == [{"NumberOfInstances": str(len(images))}]
    everything = "".join(file.read_text() for file in here.data.glob("audit/*"))
    assert str(image.PatientID) not in everything
    assert str(image.PatientName) not in everything


def test_a_sender_is_on_record_before_its_first_image_is_acknowledged(
    receiver_site: Callable[..., Site], images: list[Path]
) -> None:
    here = receiver_site()
    association = associated(here.receiver.port)
    image = pydicom.dcmread(images[0])
    assert answered(association, 1, (image.SOPClassUID, image.SOPInstanceUID), encoded(image)) == 0x0000
    begun = here.trail()
    association.abort()
    assert [one["EventIdentification"]["EventID"]["csd-code"] for one in begun] == ["110102"]
    assert eventually(lambda: len(here.trail()) == 2)
    assert here.trail()[1]["EventIdentification"]["EventOutcomeDescription"] == "the association was aborted"


# Files


def test_lines_of_many_writers_are_never_torn(tmp_path: Path) -> None:
    def write(number: int) -> None:
        trail = AuditTrail(SITE, tmp_path)
        for count in range(20):
            trail.record(Event.ACCESSED, by=f"web:{number}", studies=[f"1.{count}"] * 50)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(records(tmp_path)) == 160
    (file,) = tmp_path.glob("audit/*")
    assert oct(file.stat().st_mode & 0o777) in ("0o640", "0o600")


def failures(where: str) -> float:
    return REGISTRY.get_sample_value("sct_node_audit_failures_total", {"where": where}) or 0.0


def test_a_trail_that_cannot_be_written_stops_reception_only_where_it_is_required(
    receiver_site: Callable[..., Site], dcmtk: Callable[..., int], images: list[Path]
) -> None:
    before = failures("file")
    for required, taken in ((False, True), (True, False)):
        here = receiver_site(audit=Audit(required=required))
        folder = here.data / "audit"
        folder.write_text("not a folder")
        assert (dcmtk("storescu", here.receiver.port, images[0]) == 0) == taken or required
        assert (dcmtk("storescu", here.receiver.port, images[1]) == 0) == taken
        folder.unlink()
        assert dcmtk("storescu", here.receiver.port, images[2]) == 0
    assert failures("file") > before


def test_a_line_that_was_cut_short_is_ended_before_the_next(tmp_path: Path) -> None:
    trail = AuditTrail(SITE, tmp_path)
    trail.record(Event.LOGIN, by="web:a")
    (file,) = tmp_path.glob("audit/*")
    with file.open("ab") as torn:
        torn.write(b'{"EventIdenti')
    trail.record(Event.LOGIN, by="web:b")
    assert len(file.read_text().splitlines()) == 3
    assert json.loads(file.read_text().splitlines()[-1])["ActiveParticipant"][1]["UserID"] == "b"


def test_the_check_of_a_required_trail_recovers_by_itself(tmp_path: Path) -> None:
    (tmp_path / "audit").write_text("")
    trail = AuditTrail(Audit(required=True), tmp_path)
    trail.record(Event.LOGIN, by="web:a")
    with pytest.raises(OutOfResources, match="audit trail"):
        trail.check()
    (tmp_path / "audit").unlink()
    trail.check()


# Syslog


@pytest.mark.parametrize("family", ["udp", "unix"])
def test_a_syslog_server_gets_each_record(tmp_path: Path, family: str) -> None:
    kind = socket.AF_UNIX if family == "unix" else socket.AF_INET
    with socket.socket(kind, socket.SOCK_DGRAM) as server:
        server.settimeout(10)
        server.bind(str(tmp_path / "log") if family == "unix" else ("127.0.0.1", 0))
        address = f"unix://{tmp_path}/log" if family == "unix" else f"udp://127.0.0.1:{server.getsockname()[1]}"
        AuditTrail(Audit(syslog=address), tmp_path).record(Event.RELEASED, by="cli:jane", job="j1", words="it is fine")
        said = server.recv(65536)
    header, _, document = said.partition(b"\xef\xbb\xbf")
    assert header.split()[0] == b"<85>1"
    assert header.split()[-2:] == [b"DICOM+RFC3881", b"-"]
    root = ElementTree.fromstring(document)
    assert root.find("EventIdentification/EventOutcomeDescription").text == "it is fine"  # type: ignore[union-attr]


@contextlib.contextmanager
def tls_server(pki: Pki) -> Iterator[tuple[int, list[bytes]]]:
    """A syslog server over TLS that closes its first connection after one message."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki.kinds["right"].certificate, pki.kinds["right"].key)
    context.load_verify_locations(pki.hospital.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    got: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                plain, _ = listener.accept()
                with context.wrap_socket(plain, server_side=True) as connection:
                    got.append(connection.recv(65536))
                    if len(got) > 1:
                        while more := connection.recv(65536):
                            got.append(more)

    threading.Thread(target=serve, daemon=True).start()
    yield listener.getsockname()[1], got
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def test_a_syslog_server_over_tls_gets_each_record_and_is_called_again_when_it_hangs_up(
    pki: Pki, tmp_path: Path
) -> None:
    own = Tls(certificate=pki.node.certificate, key=pki.node.key, ca=pki.hospital.ca)
    with tls_server(pki) as (port, got):
        settings = Audit(syslog=f"tls://127.0.0.1:{port}", syslog_tls=ClientTls().completed(own))
        trail = AuditTrail(settings, tmp_path)
        for number in range(3):
            trail.record(Event.LOGIN, by=f"web:{number}")
            trail.close()
            assert eventually(lambda: len(b"".join(got).split(b"<85>1")) == number + 2)  # noqa: B023, called at once
            time.sleep(0.1)
    length, _, message = got[0].partition(b" ")
    assert int(length) == len(message)


def test_a_syslog_server_that_is_not_there_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dicomnode.security.syslog.QUEUED", 5)
    before = failures("syslog")
    trail = AuditTrail(Audit(syslog=f"unix://{tmp_path}/nobody"), tmp_path)
    for _ in range(10):
        trail.record(Event.LOGIN, by="web:jane")
    assert len(records(tmp_path)) == 10
    assert failures("syslog") >= before + 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("audit: {syslog: 'tcp://192.0.2.1:514'}", "must be udp://"),
        ("audit: {syslog: 'udp://192.0.2.1'}", "must be udp://"),
        ("audit: {syslog: 'tls://192.0.2.1:6514'}", "audit.syslog_tls: no CA is named"),
    ],
)
def test_a_mistake_of_the_configuration_is_named(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "node.yaml").write_text(text)
    with pytest.raises(ConfigError, match=words):
        load(tmp_path / "node.yaml")
