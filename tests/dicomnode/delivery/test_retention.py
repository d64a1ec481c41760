"""Tests of retention: what is deleted, kept and recorded; a kill in the middle and a late resend do no harm."""

import datetime
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dicomnode.config.load import Config
from dicomnode.config.sections import Node as NodeSettings
from dicomnode.config.sections import Retention
from dicomnode.delivery.retention import RetentionSweep as Deleting
from dicomnode.errors import WrongState
from dicomnode.ledger import resending
from dicomnode.ledger.database import database_url, transaction
from dicomnode.ledger.ledger import Ledger
from dicomnode.ledger.rows import Plan
from dicomnode.ledger.states import State
from dicomnode.receipt import Receipt
from dicomnode.security.audit_trail import AuditTrail
from dicomnode.spool.instance_file import Incoming
from dicomnode.spool.spool import Spool

if TYPE_CHECKING:
    import sqlalchemy as sa

SERIES = "1.2.3"
UIDS = ["1.2.3.1", "1.2.3.2"]


class Kept:
    """A delivered job, its series, and the sweep that may delete them."""

    def __init__(self, folder: Path, **settings: object) -> None:
        chosen = {"delivered_after_s": 60.0, **settings}
        self.config = Config(node=NodeSettings(data=folder), retention=Retention(**chosen))  # type: ignore[arg-type]
        folder.mkdir(exist_ok=True)
        self.ledger = Ledger(database_url(self.config))
        self.ledger.create()
        self.spool = Spool(folder)
        self.deleting = Deleting(
            self.config, self.ledger, self.spool, AuditTrail(self.config.audit, folder, self.config.node.ae_title)
        )

    def receive(self, uids: list[str], content: bytes = b"pixels") -> None:
        """Store instances of the series in the spool."""
        for uid in uids:
            self.spool.store(Incoming(SERIES, uid, "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.1.2.1", "MR1", content))

    def deliver(self) -> str:
        """Make a job of the series, and deliver it to the one destination."""
        self.ledger.arrived(SERIES, "MR1", len(UIDS), time.time())
        job, _ = self.ledger.received(SERIES, UIDS, Plan("m", "d", "c"), "complete", nothing)
        self.spool.publish(job, lambda into: (into / "1.dcm").write_bytes(b"ct"))
        self.ledger.synthesized(job, "1.2.9", 1, ["tps"], None, lambda _: None)
        self.ledger.begin(job, "tps")
        self.ledger.answered(job, "tps", [Receipt("1.2.9.1", 0x0000, datetime.datetime.now(datetime.UTC))], 1)
        self.ledger.delivered(job, "tps")
        return job

    def there(self, job: str) -> tuple[int, bool]:
        """Return how many received images are there, and whether the CT is."""
        return len(self.spool.series_files(SERIES)), self.spool.published(job) is not None


def nothing(_connection: "sa.Connection", _job: str) -> None:
    """Write no queue entry."""


@pytest.fixture
def kept(tmp_path: Path) -> Callable[..., Kept]:
    """Give a function that makes a delivered job of two images."""

    def make(**settings: object) -> Kept:
        made = Kept(tmp_path / "data", **settings)
        made.receive(UIDS)
        return made

    return make


def later(monkeypatch: pytest.MonkeyPatch, seconds: float = 3600.0) -> None:
    """Move the clock forward."""
    now = time.time() + seconds
    monkeypatch.setattr("dicomnode.delivery.retention.time.time", lambda: now)


def test_what_is_delivered_is_deleted_when_its_time_has_come_and_not_before(
    kept: Callable[..., Kept], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    k = kept()
    job = k.deliver()
    k.deleting.run()
    assert k.there(job) == (2, True)
    later(monkeypatch)
    k.deleting.run()
    assert k.there(job) == (0, False)
    assert [one.words for one in k.ledger.events(job) if one.event == "deleted"] == [
        "delivered everywhere before 60 s: received images and CT deleted"
    ]
    (trail,) = (tmp_path / "data" / "audit").iterdir()
    assert any(json.loads(line) for line in trail.read_text().splitlines() if job in line)
    k.deleting.run()
    assert len([one for one in k.ledger.events(job) if one.event == "deleted"]) == 1


def test_nothing_is_deleted_by_default(kept: Callable[..., Kept], monkeypatch: pytest.MonkeyPatch) -> None:
    k = kept(delivered_after_s=None)
    job = k.deliver()
    later(monkeypatch, 1e9)
    k.deleting.run()
    assert k.there(job) == (2, True)


def test_what_was_promised_by_storage_commitment_stays(
    kept: Callable[..., Kept], monkeypatch: pytest.MonkeyPatch
) -> None:
    k = kept()
    job = k.deliver()
    k.spool.promise(k.spool.series_files(SERIES)[:1])
    later(monkeypatch)
    k.deleting.run()
    assert k.there(job) == (2, False)
    assert not k.spool.discard_series(SERIES)
    assert k.there(job) == (2, False)


def test_a_promise_is_broken_only_where_the_site_says_so(
    kept: Callable[..., Kept], monkeypatch: pytest.MonkeyPatch
) -> None:
    k = kept(promised=True)
    job = k.deliver()
    k.spool.promise(k.spool.series_files(SERIES))
    later(monkeypatch)
    k.deleting.run()
    assert k.there(job) == (0, False)


def test_images_that_no_delivered_job_is_made_of_stay(
    kept: Callable[..., Kept], monkeypatch: pytest.MonkeyPatch
) -> None:
    k = kept()
    job = k.deliver()
    k.receive(["1.2.3.3"])
    later(monkeypatch)
    k.deleting.run()
    assert k.there(job) == (3, False)


def test_another_content_of_an_image_stays_with_all_of_its_series(
    kept: Callable[..., Kept], monkeypatch: pytest.MonkeyPatch
) -> None:
    k = kept()
    job = k.deliver()
    k.receive(UIDS[:1], b"others")
    later(monkeypatch)
    k.deleting.run()
    assert k.there(job)[0] == 3


def test_a_deletion_that_was_killed_half_way_is_finished_by_the_sweep(kept: Callable[..., Kept]) -> None:
    k = kept()
    folder = k.spool.series_folder(SERIES)
    half = folder.rename(folder.parent / f".{SERIES}.0123456789abcdef-0.part")
    assert half in Spool(k.config.node.data).sweep()
    assert not half.exists()


def test_a_job_whose_ct_is_deleted_cannot_be_sent_once_more(
    kept: Callable[..., Kept], monkeypatch: pytest.MonkeyPatch
) -> None:
    k = kept()
    job = k.deliver()
    later(monkeypatch)
    k.deleting.run()
    with transaction(k.ledger.engine) as connection, pytest.raises(WrongState, match="is deleted"):
        resending.send_again(connection, job, [], "again", "cli:jane", lambda *_: nothing)  # type: ignore[arg-type]
    assert k.ledger.job(job).state is State.DELIVERED
