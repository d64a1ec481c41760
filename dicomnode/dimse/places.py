"""Associations at once: how many in all, and how many a sender (PS3.8 9.3.4)."""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Final, Literal

from pynetdicom import evt

if TYPE_CHECKING:
    from pynetdicom.association import Association

Limit = Literal["associations", "ae"]

LIMIT_EXCEEDED: Final = (0x02, 0x03, 0x02)
"""Result, source and reason of a refusal (PS3.8 Table 9-21): transient, presentation service, local limit exceeded."""


class Places:
    """Who has a place; an association gives its own back by ending. Thread-safe."""

    def __init__(self, most: int, most_of_one: int) -> None:
        self._most = most
        self._most_of_one = most_of_one
        self._taken: weakref.WeakKeyDictionary[Association, str] = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()

    def take(self, association: Association, calling_ae: str, most_of_it: int | None = None) -> Limit | None:
        """Take a place; the limit that stands in the way, or None. `most_of_it`: a limit of this AE's own."""
        with self._lock:
            here = [ae for one, ae in self._taken.items() if _lasts(one)]
            if len(here) >= self._most:
                return "associations"
            if here.count(calling_ae) >= (most_of_it or self._most_of_one):
                return "ae"
            self._taken[association] = calling_ae
            return None


def _lasts(association: Association) -> bool:
    """Whether an association is there, or being negotiated."""
    return association.is_alive() and not (association.is_released or association.is_aborted or association.is_rejected)


def refuse(association: Association, result: int, source: int, reason: int) -> None:
    """Answer the request of an association with A-ASSOCIATE-RJ (PS3.8 Table 9-21); it ends."""
    association.acse.send_reject(result, source, reason)
    evt.trigger(association, evt.EVT_REJECTED, {})
    association.kill()
