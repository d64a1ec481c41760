"""Visits to peers, in threads of their own: one at a time to each, and so many in all."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Visits:
    """Begins visits while fewer than `at_once` are under way."""

    def __init__(self, at_once: int, thread_name: str) -> None:
        self._at_once = at_once
        self._thread_name = thread_name
        self._busy: set[str] = set()
        self._lock = threading.Lock()

    def begin(self, peer: str, visit: Callable[[], None]) -> None:
        """Call `visit` in a thread, unless the peer is being visited or too many are; it must catch its errors."""
        with self._lock:
            if peer in self._busy or len(self._busy) >= self._at_once:
                return
            self._busy.add(peer)

        def run() -> None:
            try:
                visit()
            finally:
                with self._lock:
                    self._busy.discard(peer)

        threading.Thread(target=run, name=self._thread_name, daemon=True).start()
