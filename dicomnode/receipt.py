"""The answer of a destination for one instance: C-STORE statuses and the receipts kept of them.

status                    outcome     meaning (PS3.4 Table B.2-1, PS3.7 Annex C)
0x0000                    accepted    the destination has the instance
0x0111                    duplicate   it had the instance before: sending twice is harmless
0xB..., 0x0001, 0x0107,   warning     it has the instance and complains: shown, never counted as plain success
0x0116
anything else             refused     it does not have the instance
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Final

ACCEPTED: Final = 0x0000
DUPLICATE: Final = 0x0111
_WARNINGS: Final = (0x0001, 0x0107, 0x0116)


def outcome(status: int) -> str:
    """Return `accepted`, `duplicate`, `warning` or `refused` for a C-STORE status (PS3.4 B.2.3)."""
    if status in (ACCEPTED, DUPLICATE):
        return "accepted" if status == ACCEPTED else "duplicate"
    return "warning" if status in _WARNINGS or status & 0xF000 == 0xB000 else "refused"


@dataclass(frozen=True, slots=True)
class Receipt:
    """The answer of a destination for one instance: C-STORE status, Error Comment (0000,0902), and time (UTC)."""

    sop_instance_uid: str
    status: int
    at: datetime.datetime
    comment: str = ""

    @property
    def outcome(self) -> str:
        """Return `accepted`, `duplicate`, `warning` or `refused`."""
        return outcome(self.status)

    @property
    def warning(self) -> bool:
        """Return whether the destination has the instance and complains."""
        return self.outcome == "warning"

    @property
    def stored(self) -> bool:
        """Return whether the destination has the instance, so that it need not be sent again."""
        return self.outcome != "refused"
