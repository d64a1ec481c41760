"""Storage commitment that the node asks of a destination: reports over the same, the next and a new association."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
import pytest
from highdicom import VolumeGeometry
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage
from pynetdicom import AE, evt
from pynetdicom.presentation import build_role

from dicomnode.cases.wording import delivery_sentence, proof_sentence, whole
from dicomnode.commitment.proofs import Proofs
from dicomnode.commitment.push_model import PUSH_MODEL, WELL_KNOWN_INSTANCE, report_of
from dicomnode.commitment.scu import Asking, Hearing
from dicomnode.config.load import Config
from dicomnode.config.peers import Destination, Proof
from dicomnode.config.sections import Node, Receive
from dicomnode.delivery.storage_scu import send
from dicomnode.ledger.ledger import Ledger
from dicomnode.ledger.rows import Plan, ProofRow
from dicomnode.metrics import REGISTRY
from dicomnode.receipt import Receipt
from dicomnode.reception.storage_scp import Receiver
from dicomnode.spool.instance_file import parcel
from dicomnode.spool.spool import Spool
from pipeline.phantom import thigh

if TYPE_CHECKING:
    from tests.conftest import Orthanc

QUICK = Proof(wait_s=0.0, linger_s=1.0)
NOT_THERE = 0x0112


@pytest.fixture(scope="module")
def ct(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Five files of class CT Image Storage."""
    affine = np.array([[0, 0, 8.0, -60], [0, 8.0, 0, -60], [5.0, 0, 0, 0], [0, 0, 0, 1]])
    geometry = VolumeGeometry(affine=affine, spatial_shape=(5, 16, 16), coordinate_system="PATIENT")
    paths = thigh.write_mr_series(thigh.thigh(geometry).mr, tmp_path_factory.mktemp("ct"))
    for path in paths:
        data_set = pydicom.dcmread(path)
        data_set.SOPClassUID = data_set.file_meta.MediaStorageSOPClassUID = CTImageStorage
        data_set.Modality = "CT"
        data_set.save_as(path, enforce_file_format=True)
    return paths


def until(true: Callable[[], Any]) -> Any:
    """What `true()` gives once it gives something."""
    deadline = time.monotonic() + 30
    while not (found := true()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


@dataclass
class Archive:
    """A commitment SCP by pynetdicom: it keeps all but the instances in `lost`, and reports in one `way`.

    same    over the association of the request, as soon as that is answered
    next    over the next association that comes
    new     over an association of its own to `report_to`
    never   not at all
    """

    way: str = "same"
    status: int = 0x0000
    lost: set[str] = field(default_factory=set)
    report_to: int = 0
    asked: list[Dataset] = field(default_factory=list)
    owed: list[Dataset] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    visits: int = 0

    def up(self) -> Any:
        ae = AE("ARCHIVE")
        ae.add_supported_context(PUSH_MODEL, scu_role=True, scp_role=True)
        handlers: list[evt.EventHandlerType] = [(evt.EVT_N_ACTION, self._asked), (evt.EVT_ACCEPTED, self._accepted)]
        return ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)

    def _asked(self, event: Any) -> tuple[int, None]:
        if self.status == 0x0000:
            self.asked.append(event.action_information)
            self.owed.append(event.action_information)
            if self.way == "same":
                threading.Timer(0.2, self._report, [event.assoc]).start()
            if self.way == "new":
                threading.Thread(target=self.call).start()
        return self.status, None

    def _accepted(self, event: Any) -> None:
        self.visits += 1
        if self.way == "next" and self.owed:
            threading.Timer(0.2, self._report, [event.assoc]).start()

    def call(self) -> None:
        ae = AE("ARCHIVE")
        ae.add_requested_context(PUSH_MODEL)
        association = ae.associate("127.0.0.1", self.report_to, ext_neg=[build_role(PUSH_MODEL, scp_role=True)])
        assert association.is_established
        self._report(association)
        association.release()

    def _report(self, association: Any) -> None:
        while self.owed:
            asked = self.owed.pop(0)
            told = Dataset()
            told.TransactionUID = asked.TransactionUID
            kept = [one for one in asked.ReferencedSOPSequence if one.ReferencedSOPInstanceUID not in self.lost]
            failed = [one for one in asked.ReferencedSOPSequence if one.ReferencedSOPInstanceUID in self.lost]
            if kept:
                told.ReferencedSOPSequence = kept
            if failed:
                told.FailedSOPSequence = failed
                for item in failed:
                    item.FailureReason = NOT_THERE
            sent = association.send_n_event_report(told, 2 if failed else 1, PUSH_MODEL, WELL_KNOWN_INSTANCE)
            self.answers.append(sent[0].get("Status", -1))


@dataclass
class Site:
    """The parts of a node that ask and hear, and one job delivered to `archive`."""

    ledger: Ledger
    spool: Spool
    config: Config
    job: str

    @property
    def proofs(self) -> Proofs:
        return Proofs(self.ledger.engine)

    def asking(self) -> Asking:
        """As after a restart of the deliver process."""
        return Asking(self.config, self.proofs, self.spool)

    def reported(self, number: int = 1) -> list[int | None]:
        """What has been reported of each instance, once that is known of `number` of them; asks as the node does."""
        asking, deadline = self.asking(), time.monotonic() + 30
        while time.monotonic() < deadline:
            asking.tick()
            found = [one.commitment for one in self.ledger.receipts(self.job)]
            if sum(one is not None for one in found) >= number:
                return found
            time.sleep(0.05)
        raise AssertionError(self.proofs.of(self.job))

    def rows(self, true: Callable[[list[ProofRow]], bool]) -> list[ProofRow]:
        """The proofs once this is true of them; asks as the node does."""
        asking, deadline = self.asking(), time.monotonic() + 30
        while time.monotonic() < deadline:
            asking.tick()
            if true(rows := self.proofs.of(self.job)):
                return rows
            time.sleep(0.05)
        raise AssertionError(self.proofs.of(self.job))

    def facts(self) -> list[str]:
        return [one.event for one in self.ledger.events(self.job)][3:]


@pytest.fixture
def site(tmp_path: Path, ct: list[Path]) -> Iterator[Callable[..., Site]]:
    """Makes a site whose job's CT has been sent to the destination on a port: `site(port, **settings of Proof)`."""
    made: list[Site] = []

    def make(port: int, ae_title: str = "ARCHIVE", **settings: Any) -> Site:
        where = Destination("archive", ae_title, "127.0.0.1", port, timeout_s=5, retry_first_s=0.2, retry_max_s=0.5)
        where = dataclasses.replace(where, commitment=dataclasses.replace(QUICK, **settings))
        config = Config(node=Node(port=0, data=tmp_path / f"data-{len(made)}"), destinations=(where,))
        spool = Spool(config.node.data)
        ledger = Ledger(f"sqlite:///{config.node.data / 'node.sqlite'}")
        ledger.create()
        ledger.arrived("1.2", "MR", 1, time.time())
        job, _ = ledger.received("1.2", ["1"], Plan("tiny", "a" * 64, "b" * 64), "test", lambda *_: None)
        spool.publish(job, lambda into: [(into / path.name).write_bytes(path.read_bytes()) for path in ct])
        ledger.synthesized(job, "1.3", len(ct), ["archive"], None, lambda _: None)
        made.append(Site(ledger, spool, config, job))
        deliver(made[-1], ct)
        return made[-1]

    yield make
    for one in made:
        one.ledger.close()


def deliver(site: Site, ct: list[Path], attempt: int = 1) -> None:
    """As after a delivery that the destination took."""
    now = site.ledger.events(site.job)[0].at
    receipts = [Receipt(parcel(path).sop_instance_uid, 0, now) for path in ct]
    site.ledger.answered(site.job, "archive", receipts, attempt)
    proof = site.config.destinations[0].commitment
    assert proof is not None
    site.ledger.delivered(site.job, "archive", site.proofs.wanted(site.job, "archive", proof.wait_s))


@pytest.fixture
def archive() -> Iterator[Callable[..., tuple[Archive, int]]]:
    """Makes an archive that reports in some way; -> it and its port."""
    servers: list[Any] = []

    def make(**how: Any) -> tuple[Archive, int]:
        made = Archive(**how)
        servers.append(made.up())
        return made, servers[-1].server_address[1]

    yield make
    for server in servers:
        server.shutdown()


@pytest.fixture
def hearing(tmp_path: Path) -> Iterator[Callable[[Site], int]]:
    """Starts the receiver of a site; -> its port."""
    made: list[Receiver] = []

    def start(site: Site) -> int:
        made.append(Receiver(site.config.node, Receive(disk_reserve_bytes=0), site.spool, [Hearing(site.proofs)]))
        made[-1].start()
        return made[-1].port

    yield start
    for one in made:
        one.stop(1.0)


@pytest.mark.parametrize("way", ["same", "next"])
def test_a_report_over_an_association_of_ours_proves_every_instance(
    site: Callable[..., Site], archive: Callable[..., tuple[Archive, int]], way: str, ct: list[Path]
) -> None:
    there, port = archive(way=way)
    s = site(port)
    assert s.reported(5) == [0] * 5
    assert until(lambda: there.answers) == [0x0000]
    assert len(there.asked) == 1
    assert (there.visits > 1) == (way == "next")
    assert {
        one.ReferencedSOPInstanceUID: one.ReferencedSOPClassUID for one in there.asked[0].ReferencedSOPSequence
    } == {parcel(path).sop_instance_uid: CTImageStorage for path in ct}
    (row,) = s.proofs.of(s.job)
    assert row.ended_at is not None
    assert s.facts() == ["delivered", "committed"]
    visits = there.visits
    s.asking().tick()
    time.sleep(0.3)
    assert there.visits == visits


def test_a_report_over_an_association_of_the_archive_s_own_proves_every_instance(
    site: Callable[..., Site], archive: Callable[..., tuple[Archive, int]], hearing: Callable[[Site], int]
) -> None:
    there, port = archive(way="new")
    s = site(port, linger_s=0.0)
    there.report_to = hearing(s)
    assert s.reported(5) == [0] * 5
    assert until(lambda: there.answers) == [0x0000]
    assert s.facts() == ["delivered", "committed"]


def test_orthanc_reports_what_it_has_and_what_it_has_lost_over_an_association_of_its_own(
    site: Callable[..., Site], hearing: Callable[[Site], int], orthanc: Orthanc, ct: list[Path]
) -> None:
    s = site(orthanc.port, orthanc.ae_title)
    orthanc.know("sctnode", "SCTNODE", hearing(s))
    send(ct[1:], s.config.destinations[0], "SCTNODE", lambda _: None)
    s.reported(5)
    reported = {one.sop_instance_uid: one.commitment for one in s.ledger.receipts(s.job)}
    lost = parcel(ct[0]).sop_instance_uid
    assert {uid: bool(why) for uid, why in reported.items()} == {
        parcel(path).sop_instance_uid: path == ct[0] for path in ct
    }
    assert reported[lost] == NOT_THERE
    assert s.facts() == ["delivered", "commitment_failed"]
    assert s.ledger.events(s.job)[-1].words == "archive does not keep 1 of 5 instances"
    shown = whole(s.ledger, s.ledger.job(s.job))
    assert [one["sentence"] for one in shown["proofs"]] == ["1 of 5 instances are LOST THERE"]
    [(delivery, receipts)] = [(one, s.ledger.receipts(s.job)) for one in s.ledger.deliveries(s.job)]
    assert delivery_sentence(delivery, receipts, 5) == "archive: 5 of 5, 4 proved to be kept, 1 LOST THERE"


def test_what_was_asked_for_survives_a_restart_and_unproven_is_not_failed(
    site: Callable[..., Site], archive: Callable[..., tuple[Archive, int]], hearing: Callable[[Site], int]
) -> None:
    there, port = archive(way="never")
    s = site(port, linger_s=0.2)
    (row,) = s.rows(lambda rows: rows[0].attempt > 2)
    assert row.sentence == "no report has come yet"
    assert len(there.asked) == 1
    assert [one.commitment for one in s.ledger.receipts(s.job)] == [None] * 5
    assert s.facts() == ["delivered"]
    there.report_to = hearing(s)  # a process that knows nothing of the one that asked
    there.call()
    assert there.answers == [0x0000]
    assert s.facts() == ["delivered", "committed"]
    there.owed = list(there.asked)
    there.call()
    assert there.answers == [0x0000] * 2
    assert s.facts() == ["delivered", "committed"]


def test_what_an_archive_lost_is_sent_once_more_and_proved_and_an_old_report_counts_no_more(
    site: Callable[..., Site],
    archive: Callable[..., tuple[Archive, int]],
    hearing: Callable[[Site], int],
    ct: list[Path],
) -> None:
    lost = parcel(ct[2]).sop_instance_uid
    there, port = archive(lost={lost})
    s = site(port)
    assert sorted(s.reported(5), key=lambda why: why or 0) == [0, 0, 0, 0, NOT_THERE]
    from dicomnode.engine import queues, review

    queues.prepare(s.ledger)
    review.resend(s.ledger, queues.open_queues(s.ledger), s.job, by="cli:jane", reason="lost there")
    deliver(s, ct, attempt=2)
    assert {one.commitment for one in s.ledger.receipts(s.job)} == {None}
    there.owed, there.report_to = [there.asked[0]], hearing(s)
    there.call()
    assert {one.commitment for one in s.ledger.receipts(s.job)} == {None}
    there.lost = set()
    assert s.reported(5) == [0] * 5
    assert s.facts() == ["delivered", "commitment_failed", "resent", "accepted", "delivered", "committed"]


def test_an_archive_that_cannot_be_asked_is_asked_until_it_can_and_there_is_one_alarm(
    site: Callable[..., Site], archive: Callable[..., tuple[Archive, int]]
) -> None:
    def alarms() -> float:
        labels = {"destination": "archive", "what": "unproven"}
        return REGISTRY.get_sample_value("sct_node_destination_alarms_total", labels) or 0.0

    before = alarms()
    there, port = archive(status=0x0110)
    s = site(port, alarm_after_s=1.0)
    (row,) = s.rows(lambda rows: rows[0].alarmed_at is not None and rows[0].attempt > 3)
    assert row.sentence == "ARCHIVE answered the request with status 0x0110"
    assert row.asked_at is None
    assert proof_sentence(row).startswith(f"ALARM, unproven: {row.sentence}; next visit at 20")
    there.status = 0x0000
    assert s.reported(5) == [0] * 5
    assert s.facts() == ["delivered", "alarmed", "committed"]
    assert alarms() == before + 1


def test_what_is_not_reported_for_too_long_is_asked_for_anew_and_the_first_report_still_counts(
    site: Callable[..., Site], archive: Callable[..., tuple[Archive, int]], hearing: Callable[[Site], int]
) -> None:
    there, port = archive(way="never")
    s = site(port, linger_s=0.1, ask_again_s=1.0)
    rows = s.rows(lambda _: len(there.asked) > 1)
    assert rows[0].ended_at is not None
    assert rows[0].transaction_uid != rows[1].transaction_uid
    there.owed, there.report_to = [there.asked[0]], hearing(s)
    there.call()
    assert [one.commitment for one in s.ledger.receipts(s.job)] == [0] * 5
    assert s.facts() == ["delivered", "committed"]


def test_a_report_of_what_nobody_asked_for_or_that_cannot_be_read_is_refused(
    site: Callable[..., Site], archive: Callable[..., tuple[Archive, int]], hearing: Callable[[Site], int]
) -> None:
    there, port = archive(way="never")
    s = site(port)
    there.report_to = hearing(s)
    s.rows(lambda _: bool(there.asked))
    for transaction_uid in ("1.2.3", "no UID", ""):
        there.owed = [Dataset()]
        there.owed[0].TransactionUID = transaction_uid
        there.owed[0].ReferencedSOPSequence = there.asked[0].ReferencedSOPSequence
        there.call()
    assert there.answers == [0x0115] * 3
    assert [one.commitment for one in s.ledger.receipts(s.job)] == [None] * 5


def test_an_instance_that_is_reported_both_kept_and_failed_is_failed() -> None:
    told = Dataset()
    told.TransactionUID = "1.2.3"
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID, item.FailureReason = CTImageStorage, "1.2", NOT_THERE
    told.ReferencedSOPSequence = told.FailedSOPSequence = [item]
    report = report_of(2, told)
    assert (report.committed, report.failed) == (frozenset(), {"1.2": NOT_THERE})
