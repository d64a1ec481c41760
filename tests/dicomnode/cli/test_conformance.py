"""The conformance statement against the presentation contexts that a running node accepts, and those it proposes."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from pathlib import Path

import pydicom
import pytest
from pydicom._uid_dict import UID_dictionary
from pydicom.uid import UID, UncompressedTransferSyntaxes
from pynetdicom import AE, evt
from pynetdicom.events import Event
from pynetdicom.presentation import build_context

from dicomnode.cli.conformance import statement
from dicomnode.commitment.requests import Commitments
from dicomnode.commitment.scp import Provider
from dicomnode.config.load import Config
from dicomnode.config.peers import Destination
from dicomnode.config.sections import Node, Receive
from dicomnode.delivery.storage_scu import send
from dicomnode.ledger.database import connect, database_url
from dicomnode.ledger.ledger import Ledger
from dicomnode.reception.storage_scp import Receiver
from dicomnode.spool.spool import Spool
from pipeline.phantom import thigh

CLASSES = [UID(uid) for uid, entry in UID_dictionary.items() if entry[1] == "SOP Class"]
SYNTAXES = [UID(uid) for uid, entry in UID_dictionary.items() if entry[1] == "Transfer Syntax"]
VERIFICATION = "1.2.840.10008.1.1"
COMMITMENT = "1.2.840.10008.1.20.1"


def uids(text: str, after: str, until: str) -> list[str]:
    """The UIDs in the second column of a table of the statement."""
    part = text.split(after)[1].split(until)[0]
    return re.findall(r"^\| [^|]+ \| ([0-9.]+) \|", part, re.MULTILINE)


def said(config: Config) -> set[tuple[str, str]]:
    """SOP class and transfer syntax of every presentation context that the statement says is accepted."""
    text = statement(config)
    classes = uids(text, "### 2.2 Associations accepted", "Transfer syntaxes for")
    storage = set(product([uid for uid in classes if uid not in (VERIFICATION, COMMITMENT)],
                          uids(text, "Transfer syntaxes for the storage classes", "For Verification")))  # fmt: skip
    others = re.search(r"For Verification and Storage Commitment: (.*?)\.\n", text, re.DOTALL)
    assert others
    names = {" ".join(words.split()) for words in re.split(r",|\band\b", others[1])}
    return storage | set(product((VERIFICATION, COMMITMENT), [uid for uid in SYNTAXES if uid.name in names]))


@contextmanager
def receiving(config: Config) -> Iterator[int]:
    """The receive role's receiver, as node.py builds it; its port."""
    Ledger(database_url(config)).create()
    spool = Spool(config.node.data, 0)
    receiver = Receiver(
        config.node, config.receive, spool, [Provider(config, Commitments(connect(database_url(config))), spool)]
    )
    receiver.start()
    yield receiver.port
    receiver.stop(grace_s=1)


def accepted(port: int, contexts: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    """Which of the presentation contexts are accepted, asked in associations of 128 (PS3.8 7.1.1.13)."""
    found: set[tuple[str, str]] = set()
    asked = list(contexts)
    for some in (asked[first : first + 128] for first in range(0, len(asked), 128)):
        association = AE("PROBE").associate("127.0.0.1", port, [build_context(*one) for one in some])
        found |= {(str(one.abstract_syntax), str(one.transfer_syntax[0])) for one in association.accepted_contexts}
        association.release()
    return found


@pytest.mark.parametrize("receive", [Receive(), Receive(accept_lossy=True)], ids=["default", "lossy"])
def test_what_is_accepted_is_what_the_statement_says(receive: Receive, tmp_path: Path) -> None:
    config = Config(node=Node(data=tmp_path, port=0), receive=receive)
    claimed = said(config)
    with receiving(config) as port:
        own = accepted(port, product(sorted({one for one, _ in claimed}), SYNTAXES))
        other = accepted(port, product(CLASSES, UncompressedTransferSyntaxes[:1]))
    assert own == claimed
    assert other <= claimed


def test_what_is_proposed_to_a_destination_is_what_the_statement_says(tmp_path: Path) -> None:
    text = statement()
    rows = re.findall(r"^\| CT Image Storage \| ([0-9.]+) \| (.*?) \| SCU \|", text, re.MULTILINE)
    claimed = {(uid, name) for uid, names in rows for name in names.split(", ")}
    [path] = phantom_ct(tmp_path)
    with listening() as (port, proposed):
        send([path], replace(HERE, port=port), "SCTNODE", lambda _: None)
    assert {(str(uid), UID(syntax).name) for uid, syntax in proposed} == claimed


HERE = Destination(name="here", ae_title="HERE", host="127.0.0.1", port=1)


def phantom_ct(folder: Path) -> list[Path]:
    """One file of class CT Image Storage."""
    data_set = pydicom.dcmread(
        thigh.write_mr_series(thigh.thigh(thigh.axial_grid((6, 16, 16), (8.0, 10.0, 10.0))).mr, folder)[0]
    )
    data_set.SOPClassUID = data_set.file_meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.2")
    data_set.save_as(folder / "ct.dcm", enforce_file_format=True)
    return [folder / "ct.dcm"]


@contextmanager
def listening() -> Iterator[tuple[int, set[tuple[str, str]]]]:
    """A destination that takes everything and notes what is proposed."""
    proposed: set[tuple[str, str]] = set()

    def requested(event: Event) -> None:
        for context in event.assoc.requestor.requested_contexts:
            proposed.update((str(context.abstract_syntax), str(syntax)) for syntax in context.transfer_syntax)

    ae = AE("HERE")
    ae.add_supported_context("1.2.840.10008.5.1.4.1.1.2", UncompressedTransferSyntaxes)
    handlers: list[evt.EventHandlerType] = [(evt.EVT_REQUESTED, requested), (evt.EVT_C_STORE, lambda _: 0x0000)]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    assert server is not None
    yield server.server_address[1], proposed
    server.shutdown()
