"""The evidence in the files of an arriving series: the rule that takes it, and whether its stack is whole.

Each header is read once, and each set of files is examined once, while the series arrives.
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
    """Takes SOP Instance UIDs; returns the lists of the storage commitment requests that name one of them."""

    Missing = Callable[[Collection[str]], Collection[str]]
    """Takes SOP Instance UIDs; returns those that have not come in any series."""


@dataclass
class _Files:
    """The headers of one series that were read, by file name, and the last result for its stack."""

    headers: dict[str, Instance | None] = field(default_factory=dict)
    examined: tuple[str, ...] = ()
    stack: Stack = "unknown"


class Evidence:
    """Reads the headers of the series that are arriving. Called from one thread."""

    def __init__(self, config: Config, requests: Requests, missing: Missing) -> None:
        self._config = config
        self._requests = requests
        self._missing = missing
        self._files: dict[str, _Files] = {}

    def decision(self, series_uid: str, calling_ae: str, paths: Sequence[Path]) -> Decision:
        """Return the decision of the rules about the files of a series that `calling_ae` sent."""
        return choose(self._series(series_uid, paths), calling_ae, self._config)

    def stack(self, series_uid: str, calling_ae: str, paths: Sequence[Path]) -> Stack:
        """Return whether the files are a stack without a gap, and all that headers or a commitment request announce.

        Only the volume that the series' rule chooses is examined; a damaged header gives `unknown`.
        """
        names = tuple(path.name for path in paths)
        series = self._series(series_uid, paths)
        files = self._files[series_uid]
        if files.examined != names:
            settings = choose(series, calling_ae, self._config).settings
            damaged = any(files.headers[name] is None for name in names)
            if damaged or not stack_complete(series, settings.volume, settings.stack):
                files.stack = "unknown"
            else:
                files.stack = "whole" if announced(series.instances) is None else "announced"
            files.examined = names
        return files.stack if files.stack == "unknown" else self._with_requests(series, files.stack)

    def forget(self, series_uid: str) -> None:
        """Forget the headers of a series that was handed over."""
        self._files.pop(series_uid, None)

    def _with_requests(self, series: Series, stack: Stack) -> Stack:
        """Return the result for a stack after storage commitment requests are considered (PS3.4 J.3.2).

        A request names instances, not series. One that names every instance of this series, and more than one, shows
        that the series is whole when everything it names is on the disk, and that an instance is missing when not.
        """
        uids = {str(instance.sop_instance_uid) for instance in series.instances}
        whole = [listed for listed in self._requests(uids) if uids <= listed and len(listed) > 1]
        if not whole:
            return stack
        return "announced" if any(not self._missing(listed) for listed in whole) else "unknown"

    def _series(self, series_uid: str, paths: Sequence[Path]) -> Series:
        """Return the series of the files whose headers can be read."""
        headers = self._files.setdefault(series_uid, _Files()).headers
        for path in paths:
            if path.name not in headers:
                try:
                    headers[path.name] = read_instance(path)
                except Unsuitable:
                    headers[path.name] = None
        return Series.of([instance for path in paths if (instance := headers[path.name]) is not None])
