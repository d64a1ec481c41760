"""Storage Commitment SCP against requestors that we did not write, bad requests, and senders that come and go."""

import dataclasses
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
import pytest
from highdicom import VolumeGeometry
from pydicom.dataset import Dataset
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MRImageStorage,
    generate_uid,
)
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.pdu import P_DATA_TF

from dicomnode.commitment.push_model import PUSH_MODEL, WELL_KNOWN_INSTANCE
from dicomnode.commitment.requests import Commitments
from dicomnode.commitment.scp import Provider
from dicomnode.config.load import Config
from dicomnode.config.peers import Destination
from dicomnode.config.sections import Commitment, Node, Peer, Receive
from dicomnode.delivery.storage_scu import send
from dicomnode.ledger.ledger import Ledger
from dicomnode.ledger.rows import CommitmentRow
from dicomnode.reception.storage_scp import Receiver
from dicomnode.spool.spool import Spool
from pipeline.phantom import thigh

if TYPE_CHECKING:
    from tests.conftest import Orthanc

PATIENCE = Commitment(wait_s=0.5, timeout_s=5.0, retry_first_s=0.3, retry_max_s=1.0)
REQUESTOR = "SCANNER"


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A small MR series, one file a slice."""
    affine = np.array([[0, 0, 8.0, -60], [0, 8.0, 0, -60], [5.0, 0, 0, 0], [0, 0, 0, 1]])
    geometry = VolumeGeometry(affine=affine, spatial_shape=(6, 16, 16), coordinate_system="PATIENT")
    return thigh.write_mr_series(thigh.thigh(geometry).mr, tmp_path_factory.mktemp("series"))


def referenced(paths: Sequence[Path]) -> dict[str, str]:
    """SOP Instance UID -> SOP Class UID of files."""
    return {str(one.SOPInstanceUID): str(one.SOPClassUID) for one in map(pydicom.dcmread, paths)}


@dataclass
class Site:
    """A node's receiver with storage commitment, in this process."""

    spool: Spool
    ledger: Ledger
    provider: Provider
    receiver: Receiver

    @property
    def port(self) -> int:
        return self.receiver.port

    @property
    def commitments(self) -> Commitments:
        return Commitments(self.ledger.engine)

    def push(self, paths: Sequence[Path]) -> None:
        """Send files to it."""
        send(paths, Destination("node", "SCTNODE", "127.0.0.1", self.port), REQUESTOR, lambda _: None)

    def only(self) -> CommitmentRow:
        """The only request that is known."""
        (row,) = self.commitments.known()
        return row


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """Makes a site whose senders can be called back at `peers`, and starts it."""
    made: list[Site] = []

    def make(*peers: Peer, **settings: Any) -> Site:
        receive = Receive(idle_timeout_s=20.0, disk_reserve_bytes=0, peers=peers)
        data = tmp_path / f"data-{len(made)}"
        patience = dataclasses.replace(PATIENCE, **settings)
        config = Config(node=Node(port=0, data=data), receive=receive, commitment=patience)
        spool, ledger = Spool(data), Ledger(f"sqlite:///{data / 'node.sqlite'}")
        ledger.create()
        provider = Provider(config, Commitments(ledger.engine), spool)
        receiver = Receiver(config.node, receive, spool, [provider])
        receiver.start()
        provider.start()
        made.append(Site(spool, ledger, provider, receiver))
        return made[-1]

    yield make
    for one in made:
        one.provider.stop()
        one.receiver.stop(grace_s=1)
        one.ledger.close()


@dataclass
class Report:
    """An N-EVENT-REPORT as a requestor got it."""

    event_type: int
    transaction_uid: str
    committed: dict[str, str]
    failed: dict[str, int]
    over: Association


class Scanner:
    """A requestor that asks, and hears reports on its own associations and on its port.

    `answers` are the statuses that the first reports get.
    """

    def __init__(self, answers: Sequence[int] = ()) -> None:
        self.reports: list[Report] = []
        self._unanswered: dict[Association, Report] = {}
        self.roles: list[tuple[bool, bool] | None] = []
        self._answers = list(answers)
        self.ae = AE(REQUESTOR)
        self.ae.dimse_timeout = self.ae.acse_timeout = self.ae.network_timeout = 20
        self.ae.add_supported_context(PUSH_MODEL, scu_role=True, scp_role=True)

    def listen(self, port: int) -> Peer:
        """Take reports at a port."""
        handlers = [*self._hearing(), (evt.EVT_ACCEPTED, self._role)]
        self.ae.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
        return Peer(REQUESTOR, "127.0.0.1", port)

    def associated(self, site: Site, syntax: str = ImplicitVRLittleEndian) -> Association:
        """An association for storage and commitment."""
        self.ae.requested_contexts = []
        self.ae.add_requested_context(PUSH_MODEL, syntax)
        self.ae.add_requested_context(MRImageStorage, ExplicitVRLittleEndian)
        made = self.ae.associate("127.0.0.1", site.port, ae_title="SCTNODE", evt_handlers=self._hearing())
        assert made.is_established
        return made

    def ask(self, site: Site, references: dict[str, str], transaction: str | None = None) -> str:
        """Ask over an association that is released as soon as the answer is there; -> Transaction UID."""
        association = self.associated(site)
        transaction = ask(association, references, transaction)
        association.release()
        return transaction

    def hears(self, number: int = 1, limit_s: float = 15.0) -> Report:
        """The newest report once there are `number` of them."""
        assert eventually(lambda: len(self.reports) >= number, limit_s), [len(self.reports)]
        assert len(self.reports) == number
        return self.reports[-1]

    def _hearing(self) -> list[evt.EventHandlerType]:
        return [(evt.EVT_N_EVENT_REPORT, self._hear), (evt.EVT_PDU_SENT, self._answered)]

    def _hear(self, event: evt.Event) -> tuple[int, None]:
        said = event.event_information
        kept, lost = said.get("ReferencedSOPSequence", []), said.get("FailedSOPSequence", [])
        committed = {one.ReferencedSOPInstanceUID: one.ReferencedSOPClassUID for one in kept}
        failed = {one.ReferencedSOPInstanceUID: one.FailureReason for one in lost}
        report = Report(event.event_type or 0, said.TransactionUID, committed, failed, event.assoc)
        self._unanswered[event.assoc] = report
        return (self._answers.pop(0) if self._answers else 0x0000), None

    def _answered(self, event: evt.Event) -> None:
        """Only now may a test release: a response after a release is an error of pynetdicom's, in a thread."""
        if isinstance(event.pdu, P_DATA_TF) and (report := self._unanswered.pop(event.assoc, None)):
            self.reports.append(report)

    def _role(self, event: evt.Event) -> None:
        role = event.assoc.requestor.role_selection.get(PUSH_MODEL)
        self.roles.append(None if role is None else (bool(role.scu_role), bool(role.scp_role)))


@pytest.fixture
def scanner() -> Iterator[Scanner]:
    made = Scanner()
    yield made
    made.ae.shutdown()


def action(transaction: str | None, references: dict[str, str]) -> Dataset:
    """Action Information of a request (PS3.4 Table J.3-1)."""
    asked = Dataset()
    if transaction is not None:
        put(asked, TransactionUID=transaction)
    asked.ReferencedSOPSequence = []
    for instance, sop_class in references.items():
        item = Dataset()
        put(item, ReferencedSOPClassUID=sop_class, ReferencedSOPInstanceUID=instance)
        asked.ReferencedSOPSequence.append(item)
    return asked


def put(data_set: Dataset, **uids: str) -> None:
    """Set elements of VR UI, whatever their values."""
    for keyword, value in uids.items():
        data_set[keyword] = pydicom.DataElement(keyword, "UI", value, validation_mode=pydicom.config.IGNORE)


def ask(association: Association, references: dict[str, str], transaction: str | None = None) -> str:
    """Ask for commitment; the answer must be Success."""
    transaction = transaction or generate_uid()
    status, _ = association.send_n_action(action(transaction, references), 1, PUSH_MODEL, WELL_KNOWN_INSTANCE)
    assert status.Status == 0x0000
    return transaction


def eventually(true: Callable[[], Any], limit_s: float = 10.0) -> bool:
    """Whether something becomes true in time."""
    deadline = time.monotonic() + limit_s
    while not true() and time.monotonic() < deadline:
        time.sleep(0.02)
    return bool(true())


# A requestor that we did not write


def test_orthanc_hears_that_every_image_it_pushed_is_committed_and_that_another_is_not(
    site: Callable[..., Site], orthanc: "Orthanc", series: list[Path]
) -> None:
    running = site(Peer(orthanc.ae_title, "127.0.0.1", orthanc.port))
    orthanc.know("sct", "SCTNODE", running.port)
    ids = [orthanc.upload(path) for path in series]
    asked = posted(orthanc, "store", {"Resources": ids, "Synchronous": True, "StorageCommitment": True})
    pushed = commitment_of(orthanc, asked["StorageCommitmentTransactionUID"])
    assert pushed == ("Success", set(referenced(series)), {})

    missing = generate_uid()
    there = next(iter(referenced(series)))
    pairs = [[str(MRImageStorage), missing], [str(MRImageStorage), there]]
    asked = posted(orthanc, "storage-commitment", {"DicomInstances": pairs})
    status, committed, failed = commitment_of(orthanc, asked["ID"])
    assert (status, committed) == ("Failure", {there})
    assert failed == {missing: 0x0112}


def posted(orthanc: "Orthanc", what: str, body: dict[str, Any]) -> Any:
    """Have Orthanc do something with the node; -> its answer."""
    return json.loads(orthanc.rest("POST", f"/modalities/sct/{what}", json.dumps(body).encode()))


def commitment_of(orthanc: "Orthanc", transaction: str) -> tuple[str, set[str], dict[str, int]]:
    """Status, committed instances and Failure Reasons of Orthanc's report, once it is no longer pending."""

    def report() -> dict[str, Any]:
        return dict(json.loads(orthanc.rest("GET", f"/storage-commitment/{transaction}")))

    assert eventually(lambda: report()["Status"] != "Pending", 20)
    said = report()
    committed = {one["SOPInstanceUID"] for one in said["Success"]}
    return said["Status"], committed, {one["SOPInstanceUID"]: one["FailureReason"] for one in said["Failures"]}


# Over which association the report comes


def test_a_requestor_that_keeps_its_association_hears_the_report_over_it(
    site: Callable[..., Site], scanner: Scanner, series: list[Path], free_port: Callable[[], int]
) -> None:
    running = site(scanner.listen(free_port()))
    running.push(series)
    association = scanner.associated(running)
    transaction = ask(association, referenced(series))
    report = scanner.hears()
    assert (report.event_type, report.transaction_uid, report.over) == (1, transaction, association)
    assert (report.committed, report.failed) == (referenced(series), {})
    assert eventually(lambda: running.only().failed == {})
    association.release()


def test_a_requestor_that_has_gone_is_called_back_and_the_node_proposes_to_be_the_provider(
    site: Callable[..., Site], scanner: Scanner, series: list[Path], free_port: Callable[[], int]
) -> None:
    running = site(scanner.listen(free_port()))
    running.push(series)
    transaction = scanner.ask(running, referenced(series))
    report = scanner.hears()
    assert (report.event_type, report.transaction_uid) == (1, transaction)
    assert report.over.is_acceptor
    assert scanner.roles == [(False, True)]


def test_a_requestor_without_an_address_hears_the_report_over_its_next_association(
    site: Callable[..., Site], scanner: Scanner, series: list[Path]
) -> None:
    running = site()
    running.push(series)
    transaction = scanner.ask(running, referenced(series))
    assert not eventually(lambda: scanner.reports, 2.0)
    association = scanner.associated(running)
    report = scanner.hears()
    assert (report.transaction_uid, report.over) == (transaction, association)
    association.release()


@pytest.mark.parametrize(
    "syntax",
    [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian],
)
def test_the_report_is_in_the_syntax_that_was_negotiated(
    site: Callable[..., Site], scanner: Scanner, series: list[Path], syntax: str
) -> None:
    running = site()
    running.push(series)
    association = scanner.associated(running, syntax)
    ask(association, referenced(series))
    assert scanner.hears().committed == referenced(series)
    association.release()


def test_a_requestor_may_store_while_its_answer_to_the_report_is_awaited(
    site: Callable[..., Site], scanner: Scanner, series: list[Path]
) -> None:
    """The next request over the association is no answer to the report, and must not be lost."""
    running = site()
    running.push(series[:3])
    stored: list[int] = []
    association = scanner.associated(running)

    def store(event: evt.Event) -> tuple[int, None]:
        stored.extend(int(association.send_c_store(path).Status) for path in series[3:])
        return 0x0000, None

    association.unbind(evt.EVT_N_EVENT_REPORT, scanner._hear)
    association.bind(evt.EVT_N_EVENT_REPORT, store)
    ask(association, referenced(series[:3]))
    assert eventually(lambda: running.only().failed == {})
    assert stored == [0x0000] * 3
    association.release()
    assert association.is_released


def test_a_requestor_that_releases_instead_of_answering_is_let_go_at_once_and_called_back(
    site: Callable[..., Site], scanner: Scanner, series: list[Path], free_port: Callable[[], int]
) -> None:
    running = site(scanner.listen(free_port()))
    running.push(series)
    association = scanner.associated(running)
    held = threading.Event()

    def never(event: evt.Event) -> tuple[int, None]:
        held.set()
        time.sleep(4)
        return 0x0000, None

    association.unbind(evt.EVT_N_EVENT_REPORT, scanner._hear)
    association.bind(evt.EVT_N_EVENT_REPORT, never)
    ask(association, referenced(series))
    assert held.wait(10)
    begun = time.monotonic()
    association.release()
    assert association.is_released
    assert time.monotonic() - begun < 2
    assert scanner.hears(limit_s=4).over.is_acceptor


# What is found


def test_what_is_missing_damaged_or_of_another_class_fails_with_its_reason_and_the_rest_is_committed(
    site: Callable[..., Site], scanner: Scanner, series: list[Path]
) -> None:
    running = site(wait_s=0.0)
    running.push(series)
    asked = referenced(series)
    good, damaged, other_class, cut, *rest = list(asked)
    flip(running.spool.find([damaged])[damaged][0], -1000)
    truncate(running.spool.find([cut])[cut][0], 200)
    missing, unknown = generate_uid(), generate_uid()
    asked |= {other_class: CTImageStorage, missing: MRImageStorage, unknown: CTImageStorage}
    association = scanner.associated(running)
    ask(association, asked)
    report = scanner.hears()
    association.release()
    assert report.event_type == 2
    assert report.failed == {damaged: 0x0110, cut: 0x0110, other_class: 0x0119, missing: 0x0112, unknown: 0x0122}
    assert set(report.committed) == {good, *rest}


def flip(path: Path, at: int) -> None:
    """Change one bit of a file."""
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def truncate(path: Path, to: int) -> None:
    """Leave only the beginning of a file."""
    path.write_bytes(path.read_bytes()[:to])


def test_images_that_come_after_the_request_are_waited_for(
    site: Callable[..., Site], scanner: Scanner, series: list[Path]
) -> None:
    running = site(wait_s=8.0)
    running.push(series[:3])
    association = scanner.associated(running)
    ask(association, referenced(series))
    assert not eventually(lambda: scanner.reports, 2.0)
    running.push(series[3:])
    assert scanner.hears().event_type == 1
    association.release()


def test_both_versions_of_an_image_with_two_contents_are_looked_at(
    site: Callable[..., Site], scanner: Scanner, series: list[Path], tmp_path: Path
) -> None:
    other = pydicom.dcmread(series[0])
    other.SeriesDescription = "another content"
    other.save_as(tmp_path / "other.dcm")
    running = site(wait_s=0.0)
    running.push([series[0]])
    running.push([tmp_path / "other.dcm"])
    association = scanner.associated(running)
    ask(association, referenced(series[:1]))
    assert scanner.hears().event_type == 1
    (paths,) = running.spool.find(referenced(series[:1])).values()
    assert len(paths) == 2
    flip(paths[1], -1000)
    ask(association, referenced(series[:1]))
    assert list(scanner.hears(2).failed.values()) == [0x0110]
    association.release()


def test_a_request_says_what_is_to_come(site: Callable[..., Site], scanner: Scanner, series: list[Path]) -> None:
    running = site(wait_s=30.0)
    uids = list(referenced(series))
    scanner.ask(running, referenced(series))
    scanner.ask(running, {generate_uid(): MRImageStorage})
    assert running.commitments.requests(uids[:1]) == [frozenset(uids)]
    assert running.commitments.requests([generate_uid()]) == []


# Again, later, never


def test_a_transaction_that_is_repeated_is_harmless_and_reported_again(
    site: Callable[..., Site], scanner: Scanner, series: list[Path]
) -> None:
    running = site()
    running.push(series)
    association = scanner.associated(running)
    transaction = ask(association, referenced(series))
    scanner.hears(1)
    ask(association, referenced(series), transaction)
    again = scanner.hears(2)
    assert (again.transaction_uid, again.committed) == (transaction, referenced(series))
    ask(association, referenced(series[:2]), transaction)
    assert scanner.hears(3).committed == referenced(series[:2])
    association.release()
    assert running.only().transaction_uid == transaction


def test_two_requestors_may_use_one_transaction_uid(site: Callable[..., Site], series: list[Path]) -> None:
    running = site()
    running.push(series)
    transaction = generate_uid()
    for name, some in (("CT1", series[:2]), ("MR1", series[2:])):
        scanner = Scanner()
        scanner.ae.ae_title = name
        association = scanner.associated(running)
        ask(association, referenced(some), transaction)
        assert scanner.hears().committed == referenced(some)
        association.release()


def test_a_report_is_repeated_until_the_requestor_takes_it(
    site: Callable[..., Site], series: list[Path], free_port: Callable[[], int]
) -> None:
    scanner, port = Scanner([0x0110, 0x0213]), free_port()
    running = site(Peer(REQUESTOR, "127.0.0.1", port), timeout_s=1.0)
    running.push(series)
    scanner.ask(running, referenced(series))
    assert eventually(lambda: "cannot be reached" in running.only().sentence)
    scanner.listen(port)
    assert eventually(lambda: len(scanner.reports) == 3)
    assert eventually(lambda: running.only().failed == {})
    scanner.ae.shutdown()
    assert len({report.transaction_uid for report in scanner.reports}) == 1


def test_a_report_that_nobody_takes_is_given_up_with_a_sentence(
    site: Callable[..., Site], scanner: Scanner, series: list[Path], free_port: Callable[[], int]
) -> None:
    running = site(Peer(REQUESTOR, "127.0.0.1", free_port()), give_up_after_s=2.5)
    running.push(series)
    scanner.ask(running, referenced(series))
    assert eventually(lambda: running.only().ended_at)
    row = running.only()
    assert row.failed is None
    assert "cannot be reached" in row.sentence


def test_a_sender_that_cannot_be_reached_delays_no_other(
    site: Callable[..., Site], scanner: Scanner, series: list[Path], free_port: Callable[[], int]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        dead = Peer("DEAD", "127.0.0.1", mute.getsockname()[1])
        running = site(dead, scanner.listen(free_port()))
        running.push(series)
        lost = Scanner()
        lost.ae.ae_title = "DEAD"
        lost.ask(running, referenced(series))
        time.sleep(1.0)
        begun = time.monotonic()
        scanner.ask(running, referenced(series))
        scanner.hears()
        assert time.monotonic() - begun < PATIENCE.timeout_s - 1


# What is refused

BAD: list[tuple[str, int, Dataset | None, str, int]] = [
    ("no Action Information", 1, None, WELL_KNOWN_INSTANCE, 0x0115),
    ("no Transaction UID", 1, action(None, {"1.2": MRImageStorage}), WELL_KNOWN_INSTANCE, 0x0115),
    ("no references", 1, action("1.2.3", {}), WELL_KNOWN_INSTANCE, 0x0115),
    ("a path as UID", 1, action("1.2.3", {"../../etc/passwd": MRImageStorage}), WELL_KNOWN_INSTANCE, 0x0115),
    ("a path as transaction", 1, action("../1", {"1.2": MRImageStorage}), WELL_KNOWN_INSTANCE, 0x0115),
    ("a class that is no UID", 1, action("1.2.3", {"1.2": "MR"}), WELL_KNOWN_INSTANCE, 0x0115),
    ("another action", 2, action("1.2.3", {"1.2": MRImageStorage}), WELL_KNOWN_INSTANCE, 0x0123),
    ("another instance", 1, action("1.2.3", {"1.2": MRImageStorage}), "1.2.840.10008.1.20.1.2", 0x0112),
]


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_malformed_requests_are_refused_by_their_status_and_the_association_goes_on(
    site: Callable[..., Site], scanner: Scanner, series: list[Path]
) -> None:
    running = site()
    running.push(series)
    association = scanner.associated(running)
    for what, action_type, information, instance, status in BAD:
        said, _ = association.send_n_action(information, action_type, PUSH_MODEL, instance)
        assert (what, said.Status) == (what, status)
    assert running.commitments.known() == []
    ask(association, referenced(series))
    assert scanner.hears().event_type == 1
    association.release()


def test_garbage_as_action_information_is_refused(site: Callable[..., Site], scanner: Scanner) -> None:
    running = site()
    association = scanner.associated(running)
    garbage = Dataset()
    garbage.add_new("ReferencedSOPSequence", "OB", b"\xff" * 100)
    garbage.add_new("TransactionUID", "OB", b"\xfe\xff" * 9)
    said, _ = association.send_n_action(garbage, 1, PUSH_MODEL, WELL_KNOWN_INSTANCE)
    assert said.Status == 0x0115
    association.release()


def test_a_request_is_not_taken_while_the_database_does_not_answer_and_images_are(
    site: Callable[..., Site], scanner: Scanner, series: list[Path]
) -> None:
    running = site()
    with running.ledger.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE commitments")
    running.push(series)
    association = scanner.associated(running)
    said, _ = association.send_n_action(action(generate_uid(), referenced(series)), 1, PUSH_MODEL, WELL_KNOWN_INSTANCE)
    assert (said.Status, said.ErrorComment) == (0x0213, "The database does not answer")
    association.release()
    assert len(running.spool.find(referenced(series))) == len(series)
