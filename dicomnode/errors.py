"""Everything that may go wrong in the node, sorted by what happens next.

    NodeError
    ├── ConfigError         the configuration is wrong: nothing starts; names the dotted path and what to do
    ├── PortTaken           another process listens there: nothing starts; names address and port
    ├── RoleTaken           this role already runs on this data folder: nothing starts
    ├── OutOfResources      the disk is at its reserve: the sender gets 0xA700 and sends again later (PS3.4 B.2.3)
    │   └── TooLarge        the data set is larger than allowed: the sender gets 0xA701
    ├── NotStorable         the bytes are no storable instance: the sender gets 0xC000 and a comment (PS3.4 B.2.3)
    ├── Damaged             a stored file is not as it came: its commitment fails, with an alarm (PS3.3 C.14.1.1)
    ├── Undelivered         a destination is down or refuses: postponed with back-off; carries the receipts it did give
    ├── NotTaken            a mail server or a webhook does not take a message: tried again, with back-off
    ├── LedgerUnreachable   the database does not answer: pages say so; reception goes on, for files are the truth
    ├── OldLedger           the database's tables are of another version and cannot be brought up: nothing starts
    ├── NewLedger           a newer version of the node has worked on the database: nothing starts
    ├── UnknownJob          a person asked for a job the ledger does not know
    ├── UnknownDestination  a person, or an old job, names a destination the configuration does not have
    ├── UnknownHost         a person names a machine that never worked on the database
    ├── StillAlive          a person wants the work of a machine taken over that was heard of a moment ago
    ├── Forged              a form that is not of our page: 403, nothing is done
    ├── UsersUnreadable     the file of users is there and cannot be understood: nobody is let in
    ├── BadPassword         a password that a user is given is too easy to guess
    ├── UnknownUser         a person names a user whom the file does not have
    └── WrongState          a step that the ledger's TRANSITIONS does not allow: nothing is written

`pipeline.errors` holds the rest: Unsuitable (REJECTED, never retried) and Implausible (a finding rejects it: likewise).
Anything else is our fault: tried again, then held with its traceback in the ledger, and the queue goes on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from dicomnode.receipt import Receipt


class NodeError(Exception):
    """Root of the node's own errors. `str(error)` is a sentence for a person."""


class ConfigError(NodeError):
    """A configuration value is wrong.

    Attributes: `path` (dotted, such as `destinations[1].port`), `problem` (what is wrong with the value),
    `remedy` (what to do). `place` is the file and its line, such as `node.yaml, line 3`, where they are known.
    """

    def __init__(self, path: str, problem: str, remedy: str, place: str = "") -> None:
        super().__init__(f"{path}: {problem}; {remedy}{f' ({place})' if place else ''}")
        self.path = path
        self.problem = problem
        self.remedy = remedy
        self.place = place


class PortTaken(NodeError):
    """Something else listens on the address that the configuration names (`key` is its dotted path)."""

    def __init__(self, key: str, bind: str, port: int) -> None:
        super().__init__(f"{key}: {bind}:{port} is in use by another process; stop that process or choose another port")
        self.key = key
        self.port = port


class RoleTaken(NodeError):
    """This role runs already on this data folder; two processes of one name would do each other's work."""


class OutOfResources(NodeError):
    """No room to keep an instance safely; C-STORE status 0xA700 (PS3.4 Table B.2-1)."""


class TooLarge(OutOfResources):
    """The data set is larger than `receive.max_object_bytes`; C-STORE status 0xA701 (PS3.4 Table B.2-1: A7xx)."""


class NotStorable(NodeError):
    """The bytes cannot be understood as a storable instance; C-STORE status 0xC000 (PS3.4 Table B.2-1)."""


class Damaged(NodeError):
    """The bytes of a stored file are not those that came; Failure Reason 0x0110 in a commitment (PS3.3 C.14.1.1)."""


class Undelivered(NodeError):
    """A destination took not every instance.

    Attributes: `receipts` (the answers it did give in this attempt, refusals included), `sentence` (why, for a person).
    """

    def __init__(self, receipts: Iterable[Receipt], sentence: str) -> None:
        super().__init__(sentence)
        self.receipts = tuple(receipts)
        self.sentence = sentence


class NotTaken(NodeError):
    """A mail server or a webhook did not take a message; the sentence holds nothing of what it says."""


class LedgerUnreachable(NodeError):
    """The database cannot be reached or does not answer; what was asked was not done."""


class OldLedger(NodeError):
    """The tables are of another version of the node, and this one cannot bring them to its own."""


class NewLedger(NodeError):
    """The tables are of a newer version of the node."""


class UnknownJob(NodeError):
    """The ledger has no such job."""


class UnknownDestination(NodeError):
    """The configuration has no destination of that name."""


class UnknownHost(NodeError):
    """No such machine works on the database, or has left anything there."""


class StillAlive(NodeError):
    """The machine was heard of a moment ago; taking its work over would have two do it."""


class WrongState(NodeError):
    """The ledger's TRANSITIONS table does not allow this step from the job's present state."""


class UsersUnreadable(NodeError):
    """The file of users cannot be read or is none; its content is not repeated."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path}: {why}; let the node's user read it, or move it away and run sct-node user add")


class BadPassword(NodeError):
    """A password that is too short, too long, too plain; it is not repeated."""


class UnknownUser(NodeError):
    """The file of users has no such name."""


class Forged(NodeError):
    """A request to change something does not come from a form that the page gave to this visitor."""
