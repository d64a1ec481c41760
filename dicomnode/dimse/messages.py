"""DIMSE messages from a peer, with limits: what one may hold, what all may hold together, how slow one may be.

    what                                  limit                         then
    data set                              receive.max_object_bytes      thrown away, answered with 0xA701
    data sets of all unfinished messages  receive.max_receiving_bytes   thrown away, answered with 0xA700
    command set                           LONGEST_COMMAND               the association is aborted
    message slower than                   receive.min_bytes_per_s       the association is aborted

A data set that is thrown away is still read to its end, for only then can the request be answered (PS3.7 9.3.1).
"""

from __future__ import annotations

import io
import threading
import time
from typing import TYPE_CHECKING, Final

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
"""Bytes of a command set (PS3.7 6.3); the longest that the standard knows have a few hundred."""


class ReceiveBuffer:
    """Memory for the data sets of unfinished messages of all associations. Thread-safe."""

    def __init__(self, most_bytes: int) -> None:
        self._left = most_bytes
        self._lock = threading.Lock()

    def take(self, count: int) -> bool:
        """Whether there was room for so many bytes more; then it is taken."""
        with self._lock:
            if count > self._left:
                return False
            self._left -= count
            return True

    def give_back(self, count: int) -> None:
        """So many bytes are not needed any more."""
        with self._lock:
            self._left += count


class DataSet(io.BytesIO):
    """An encoded data set while it comes; one that breaks a limit is empty, and says so when asked to `check`."""

    def __init__(self, longest: int, room: ReceiveBuffer) -> None:
        super().__init__()
        self._longest = longest
        self._room = room
        self._taken = 0
        self._refusal: OutOfResources | None = None

    def write(self, piece: bytes) -> int:  # type: ignore[override]  # of the buffers that BytesIO takes, bytes come
        """Add a piece, or nothing once a limit is broken; -> its length either way."""
        if self._refusal is None and self._taken + len(piece) > self._longest:
            self._refuse(TooLarge(f"The data set has more than {self._longest} bytes"))
        elif self._refusal is None and not self._room.take(len(piece)):
            self._refuse(OutOfResources("Too many instances are being received at once"))
        if self._refusal is None:
            self._taken += len(piece)
            super().write(piece)
        return len(piece)

    def check(self) -> None:
        """Raise OutOfResources when a limit was broken."""
        if self._refusal is not None:
            raise self._refusal

    def close(self) -> None:
        """Keep nothing."""
        self._room.give_back(self._taken)
        self._taken = 0
        super().close()

    def __del__(self) -> None:
        self.close()

    def _refuse(self, refusal: OutOfResources) -> None:
        """Throw away what is there, and take no more."""
        metrics.LIMITS.labels(limit="object" if isinstance(refusal, TooLarge) else "receiving").inc()
        self._refusal = refusal
        self.seek(0)
        self.truncate()
        self._room.give_back(self._taken)
        self._taken = 0


class MessageLimitExceeded(Exception):
    """A message for which its association ends."""


class Messages(DIMSEServiceProvider):
    """The messages of an association that a peer asks for."""

    def __init__(self, association: Association, limits: Receive, room: ReceiveBuffer) -> None:
        super().__init__(association)
        self._limits = limits
        self._room = room
        self._begun_at = 0.0
        self._come = 0
        self._stirred = threading.Event()

    def get_msg(self, block: bool = False) -> _QueueItem:
        """The next message. Without `block` the association's thread asks, over and over: in silence it rests first.

        It takes nothing when meanwhile another thread has begun to wait for an answer: the message may be that one.
        """
        if block:
            return super().get_msg(block)
        dul = self.dul
        assert isinstance(dul, IdleAwareDUL)
        self._stirred.wait(dul.rest_s - SHORTEST_REST_S)
        self._stirred.clear()
        paused = not self.assoc._reactor_checkpoint.is_set()  # noqa: SLF001, pynetdicom has no other name for it
        return (None, None) if paused else super().get_msg()

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take in a fragment; one that makes no sense, or breaks a limit, ends the association with an A-ABORT."""
        if self.message is None:
            self.message = DIMSEMessage()
            self.message.data_set = DataSet(self._limits.max_object_bytes, self._room)
            self._begun_at, self._come = time.monotonic(), 0
        try:
            self._come += sum(len(data) for _, data in primitive.presentation_data_value_list)
            self._check(self.message)
            super().receive_primitive(primitive)
        except Exception:  # pydicom and pynetdicom raise whatever the garbage leads them into
            log.exception("message_not_understood", level="warning", address=self.assoc.requestor.address)
            metrics.LIMITS.labels(limit="message").inc()
            self.message = None
            self.dul.event_queue.put("Evt19")
        self._stirred.set()

    def _check(self, message: DIMSEMessage) -> None:
        """Raise Unbearable when the message breaks a limit for which its association ends."""
        if message.encoded_command_set.tell() > LONGEST_COMMAND:
            raise MessageLimitExceeded("the command set is too long")
        lasts_s = time.monotonic() - self._begun_at
        if lasts_s > self._limits.idle_timeout_s and self._come < self._limits.min_bytes_per_s * lasts_s:
            raise MessageLimitExceeded("the message comes too slowly")
