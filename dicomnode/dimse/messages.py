"""DIMSE messages from a peer (PS3.7 6.3), with limits on their size and on the time that they take.

    limited                               limit                         reaction
    data set                              receive.max_object_bytes      discarded, answered with 0xA701 (PS3.4 B.2.3)
    data sets of all unfinished messages  receive.max_receiving_bytes   discarded, answered with 0xA700 (PS3.4 B.2.3)
    command set                           LONGEST_COMMAND               the association is aborted (PS3.8 9.3.8)
    rate of a message                     receive.min_bytes_per_s       the association is aborted (PS3.8 9.3.8)

A data set that is discarded is still read to its end, because the request can be answered only then (PS3.7 9.3.1).
"""

from __future__ import annotations

import io
import threading
import time
from typing import TYPE_CHECKING, Final

from pydicom.dataset import Dataset
from pynetdicom.dimse import DIMSEServiceProvider, _QueueItem
from pynetdicom.dimse_messages import DIMSEMessage

from dicomnode import log, metrics
from dicomnode.dimse.upper_layer import SHORTEST_REST_S, IdleAwareDUL
from dicomnode.errors import OutOfResources, TooLarge

if TYPE_CHECKING:
    from pynetdicom.association import Association
    from pynetdicom.pdu_primitives import P_DATA

    from dicomnode.config.sections import Receive

LONGEST_COMMAND: Final = 65_536
"""Bytes of a command set (PS3.7 6.3.1); the longest in the standard have a few hundred."""


class ReceiveBuffer:
    """Counts the memory of unfinished data sets over all associations. Thread-safe."""

    def __init__(self, limit_bytes: int) -> None:
        self._left = limit_bytes
        self._lock = threading.Lock()

    def take(self, count: int) -> bool:
        """Reserve so many bytes; return False, and reserve none, when fewer are left."""
        with self._lock:
            if count > self._left:
                return False
            self._left -= count
            return True

    def give_back(self, count: int) -> None:
        """Release so many bytes."""
        with self._lock:
            self._left += count


class LimitedDataSet(io.BytesIO):
    """An encoded data set that is being received; when it exceeds a limit it becomes empty, and `check` raises."""

    def __init__(self, limit_bytes: int, memory: ReceiveBuffer) -> None:
        super().__init__()
        self._limit_bytes = limit_bytes
        self._memory = memory
        self._taken = 0
        self._refusal: OutOfResources | None = None

    def write(self, piece: bytes) -> int:  # type: ignore[override]  # pynetdicom writes bytes only
        """Append a piece, or nothing after a limit was exceeded; return its length in both cases."""
        if self._refusal is None and self._taken + len(piece) > self._limit_bytes:
            self._refuse(TooLarge(f"The data set has more than {self._limit_bytes} bytes"))
        elif self._refusal is None and not self._memory.take(len(piece)):
            self._refuse(OutOfResources("Too many instances are being received at once"))
        if self._refusal is None:
            self._taken += len(piece)
            super().write(piece)
        return len(piece)

    def check(self) -> None:
        """Raise OutOfResources (TooLarge) when a limit was exceeded."""
        if self._refusal is not None:
            raise self._refusal

    def close(self) -> None:
        """Discard the bytes and release their memory."""
        self._memory.give_back(self._taken)
        self._taken = 0
        super().close()

    def __del__(self) -> None:
        self.close()

    def _refuse(self, refusal: OutOfResources) -> None:
        """Discard the bytes, and accept no more."""
        metrics.LIMITS.labels(limit="object" if isinstance(refusal, TooLarge) else "receiving").inc()
        self._refusal = refusal
        self.seek(0)
        self.truncate()
        self._memory.give_back(self._taken)
        self._taken = 0


class MessageLimitExceeded(Exception):
    """A message exceeds a limit for which its association is aborted."""


class Messages(DIMSEServiceProvider):
    """The DIMSE messages of an association that a peer asked for."""

    def __init__(self, association: Association, limits: Receive, memory: ReceiveBuffer) -> None:
        super().__init__(association)
        self._limits = limits
        self._memory = memory
        self._begun_at = 0.0
        self._received_bytes = 0
        self._active = threading.Event()

    def get_msg(self, block: bool = False) -> _QueueItem:
        """Return the next message; without `block`, the association's thread asks in a loop and rests in silence.

        It then returns no message while another thread waits for a response: the message may be that response.
        """
        if block:
            return super().get_msg(block)
        dul = self.dul
        assert isinstance(dul, IdleAwareDUL)
        self._active.wait(dul.rest_s - SHORTEST_REST_S)
        self._active.clear()
        paused = not self.assoc._reactor_checkpoint.is_set()  # noqa: SLF001, pynetdicom has no other name for it
        return (None, None) if paused else super().get_msg()

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Receive a fragment (PS3.8 E.1); one that is malformed or exceeds a limit aborts the association."""
        if self.message is None:
            self.message = DIMSEMessage()
            self.message.data_set = LimitedDataSet(self._limits.max_object_bytes, self._memory)
            self._begun_at, self._received_bytes = time.monotonic(), 0
        try:
            self._received_bytes += sum(len(data) for _, data in primitive.presentation_data_value_list)
            self._check_limits(self.message)
            super().receive_primitive(primitive)
        except Exception:  # malformed input can raise any error in pydicom and pynetdicom
            log.exception("message_not_understood", level="warning", address=self.assoc.requestor.address)
            metrics.LIMITS.labels(limit="message").inc()
            self.message = None
            self.dul.event_queue.put("Evt19")  # invalid PDU: A-ABORT (PS3.8 9.2.3, table 9-10)
        self._active.set()

    def _check_limits(self, message: DIMSEMessage) -> None:
        """Raise MessageLimitExceeded when the command set is too long or the message comes too slowly."""
        if message.encoded_command_set.tell() > LONGEST_COMMAND:
            raise MessageLimitExceeded("the command set is too long")
        lasts_s = time.monotonic() - self._begun_at
        if lasts_s > self._limits.idle_timeout_s and self._received_bytes < self._limits.min_bytes_per_s * lasts_s:
            raise MessageLimitExceeded("the message comes too slowly")


def status_of(code: int, comment: str = "") -> Dataset:
    """Return a response's Status (0000,0900) with its Error Comment, which holds 64 characters (PS3.7 C)."""
    status = Dataset()
    status.Status = code
    if comment:
        status.ErrorComment = comment[:64]
    return status
