"""The errors of the node, sorted by what happens next.

    NodeError
    ├── ConfigError         the configuration is wrong: nothing starts; names the dotted path and what to do
    ├── PortTaken           another process listens there: nothing starts; names address and port
    ├── NotReady            the node is not ready in the time that a person gave it: the command says what is missing
    ├── RoleTaken           this role already runs on this data folder: nothing starts
    ├── OutOfResources      the disk is at its reserve: the sender gets 0xA700 and sends again later (PS3.4 B.2.3)
    │   └── TooLarge        the data set is larger than allowed: the sender gets 0xA701
    ├── NotStorable         the bytes are no storable instance: the sender gets 0xC000 and a comment (PS3.4 B.2.3)
    ├── Damaged             a stored file is not as received: its commitment fails, with an alarm (PS3.3 C.14.1.1)
    ├── Undelivered         a destination is down or refuses: postponed with back-off; holds the receipts it gave
    ├── NotTaken            a mail server or a webhook does not accept a message: tried again, with back-off
    ├── LedgerUnreachable   the database does not answer: pages show it; reception continues, it needs only files
    ├── OldLedger           the tables of the database are of another version and cannot be upgraded: none starts
    ├── NewLedger           a newer version of the node has worked on the database: nothing starts
    ├── UnknownJob          a person asks for a job that the ledger does not have
    ├── UnknownDestination  a person, or an old job, names a destination that is not in the configuration
    ├── UnknownHost         a person names a machine that never worked on the database
    ├── StillAlive          a person wants to take over the work of a machine that was active a moment ago
    ├── Forged              a form does not come from our page: 403, and nothing is done (RFC 9110 15.5.4)
    ├── UsersUnreadable     the file of users exists and cannot be parsed: nobody can sign in
    ├── BadPassword         a new password is too easy to guess: the user is not changed
    ├── UnknownUser         a person names a user who is not in the file
    └── WrongState          TRANSITIONS of the ledger does not allow a step: nothing is written

The pipeline has two more: Unsuitable (`pipeline.errors`) and Implausible (`pipeline.gate`); both end a job as REJECTED,
and it is not tried again. Any other error is a fault of the node: the job is tried again, then held with its traceback
in the ledger, and the queue continues.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from dicomnode.receipt import Receipt


class NodeError(Exception):
    """Base class of the errors of the node; `str(error)` is a sentence for a person."""


class ConfigError(NodeError):
    """A configuration value is wrong.

    Attributes:
        path: the dotted path of the value, such as `destinations[1].port`.
        problem: what is wrong with the value.
        remedy: what to do.
        place: the file and the line of the value, such as `node.yaml, line 3`; "" where they are not known.
    """

    def __init__(self, path: str, problem: str, remedy: str, place: str = "") -> None:
        super().__init__(f"{path}: {problem}; {remedy}{f' ({place})' if place else ''}")
        self.path = path
        self.problem = problem
        self.remedy = remedy
        self.place = place


class PortTaken(NodeError):
    """Another process listens on the address that the configuration names; `key` is its dotted path."""

    def __init__(self, key: str, bind: str, port: int) -> None:
        super().__init__(f"{key}: {bind}:{port} is in use by another process; stop that process or choose another port")
        self.key = key
        self.port = port


class NotReady(NodeError):
    """The node is not ready within the time that was given to it."""


class RoleTaken(NodeError):
    """This role already runs on this data folder; two processes of one name would do the same work twice."""


class OutOfResources(NodeError):
    """The disk has no space to store an instance safely; C-STORE status 0xA700 (PS3.4 Table B.2-1)."""


class TooLarge(OutOfResources):
    """The data set is larger than `receive.max_object_bytes`; C-STORE status 0xA701 (A7xx in PS3.4 Table B.2-1)."""


class NotStorable(NodeError):
    """The bytes cannot be understood as a storable instance; C-STORE status 0xC000 (PS3.4 Table B.2-1)."""


class Damaged(NodeError):
    """A stored file differs from the received bytes; Failure Reason 0x0110 in a commitment (PS3.3 C.14.1.1)."""


class Undelivered(NodeError):
    """A destination did not accept every instance.

    Attributes:
        receipts: the answers that it gave in this attempt, refusals included (PS3.4 Table B.2-1).
        sentence: the reason, for a person.
    """

    def __init__(self, receipts: Iterable[Receipt], sentence: str) -> None:
        super().__init__(sentence)
        self.receipts = tuple(receipts)
        self.sentence = sentence


class NotTaken(NodeError):
    """A mail server or a webhook did not accept a message; the sentence quotes nothing of the message."""


class LedgerUnreachable(NodeError):
    """The database cannot be reached or does not answer; the requested step was not done."""


class OldLedger(NodeError):
    """The tables are of another version of the node, and this version cannot upgrade them."""


class NewLedger(NodeError):
    """The tables are of a newer version of the node."""


class UnknownJob(NodeError):
    """The ledger has no job with this key."""


class UnknownDestination(NodeError):
    """The configuration has no destination of this name."""


class UnknownHost(NodeError):
    """No machine of this name works on the database, and none has left work in it."""


class StillAlive(NodeError):
    """The machine was active a moment ago: after a takeover two machines would do the same work."""


class WrongState(NodeError):
    """The table TRANSITIONS of the ledger does not allow this step from the present state of the job."""


class UsersUnreadable(NodeError):
    """The file of users cannot be read or parsed; the sentence quotes nothing of its content."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path}: {why}; let the node's user read it, or move it away and run sct-node user add")


class BadPassword(NodeError):
    """A password is too short, too long or too simple; the sentence does not quote it."""


class UnknownUser(NodeError):
    """The file of users does not have this name."""


class Forged(NodeError):
    """A request to change something does not come from a form that the page gave to this visitor."""
