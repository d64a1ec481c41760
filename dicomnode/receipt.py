"""What a destination answered for one instance: C-STORE statuses and the receipts kept of them.

status                    outcome     what it means (PS3.4 Table B.2-1, PS3.7 Annex C)
0x0000                    accepted    the destination has it
0x0111                    duplicate   it had it already: sending twice is harmless
0xB..., 0x0001, 0x0107,   warning     it has it and complains: shown, never silently success
0x0116
anything else             refused     it has it not
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Final

ACCEPTED: Final = 0x0000
DUPLICATE: Final = 0x0111
_WARNINGS: Final = (0x0001, 0x0107, 0x0116)


def outcome(status: int) -> str:
    """`accepted`, `duplicate`, `warning` or `refused`, after a C-STORE status."""
    if status in (ACCEPTED, DUPLICATE):
        return "accepted" if status == ACCEPTED else "duplicate"
    return "warning" if status in _WARNINGS or status & 0xF000 == 0xB000 else "refused"


@dataclass(frozen=True, slots=True)
class Receipt:
    """A destination's answer for one instance: C-STORE status, Error Comment, and when (UTC)."""

    sop_instance_uid: str
    status: int
    at: datetime.datetime
    comment: str = ""

    @property
    def outcome(self) -> str:
        """`accepted`, `duplicate`, `warning` or `refused`."""
        return outcome(self.status)

    @property
    def warning(self) -> bool:
        """The destination has it and complains."""
        return self.outcome == "warning"

    @property
    def stored(self) -> bool:
        """The destination has it: no need to send it again."""
        return self.outcome != "refused"
