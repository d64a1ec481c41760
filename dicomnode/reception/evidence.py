"""What the files of an arriving series show: which rule takes it, and whether its stack is whole.

Each header is read once, and each set of files is looked at once, while the series arrives.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dicomnode.config.rules import Decision, choose
from pipeline.errors import Unsuitable
from pipeline.series.announced_count import announced
from pipeline.series.series import Instance, Series, read_instance, stack_complete

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path

    from dicomnode.config.load import Config
    from dicomnode.reception.settle import Stack

    Requests = Callable[[Collection[str]], list[frozenset[str]]]
    """SOP Instance UIDs -> the lists of the storage commitment requests that name one of them."""

    Missing = Callable[[Collection[str]], Collection[str]]
    """SOP Instance UIDs -> those that have not come, in whatever series."""


@dataclass
class _Files:
    """What has been read of one series."""

    headers: dict[str, Instance | None] = field(default_factory=dict)
    looked_at: tuple[str, ...] = ()
    stack: Stack = "unknown"


class Evidence:
    """Headers of the series that are arriving, and what they show. Called from one thread."""

    def __init__(self, config: Config, requests: Requests, missing: Missing) -> None:
        self._config = config
        self._requests = requests
        self._missing = missing
        self._files: dict[str, _Files] = {}

    def decision(self, series_uid: str, calling_ae: str, paths: Sequence[Path]) -> Decision:
        """What the rules say of the files of a series that `calling_ae` sent."""
        return choose(self._series(series_uid, paths), calling_ae, self._config)

    def stack(self, series_uid: str, calling_ae: str, paths: Sequence[Path]) -> Stack:
        """Whether the files are a stack without a gap, and all that headers or a commitment request announce."""
        names = tuple(path.name for path in paths)
        series = self._series(series_uid, paths)
        files = self._files[series_uid]
        if files.looked_at != names:
            files.stack = self._shown(files, calling_ae, series, paths)
            files.looked_at = names
        return files.stack if files.stack == "unknown" else self._requested(series, files.stack)

    def forget(self, series_uid: str) -> None:
        """Let go of a series that was handed over."""
        self._files.pop(series_uid, None)

    def _shown(self, files: _Files, calling_ae: str, series: Series, paths: Sequence[Path]) -> Stack:
        """What the headers show of the volume that the series' rule chooses."""
        settings = choose(series, calling_ae, self._config).settings
        damaged = any(files.headers[path.name] is None for path in paths)
        if damaged or not stack_complete(series, settings.volume, settings.stack):
            return "unknown"
        return "whole" if announced(series.instances) is None else "announced"

    def _requested(self, series: Series, stack: Stack) -> Stack:
        """The same in the light of storage commitment requests (PS3.4 J.3.2).

        A request names instances, not series. One that names every instance of this series, and more than one, shows
        that this is all when everything it names is on disk, and that something is missing when not.
        """
        uids = {str(instance.sop_instance_uid) for instance in series.instances}
        whole = [listed for listed in self._requests(uids) if uids <= listed and len(listed) > 1]
        if not whole:
            return stack
        return "announced" if any(not self._missing(listed) for listed in whole) else "unknown"

    def _series(self, series_uid: str, paths: Sequence[Path]) -> Series:
        """The files whose headers can be read."""
        headers = self._files.setdefault(series_uid, _Files()).headers
        for path in paths:
            if path.name not in headers:
                headers[path.name] = _readable(path)
        return Series.of([instance for path in paths if (instance := headers[path.name]) is not None])


def _readable(path: Path) -> Instance | None:
    """The instance, or None where its header is damaged."""
    try:
        return read_instance(path)
    except Unsuitable:
        return None
