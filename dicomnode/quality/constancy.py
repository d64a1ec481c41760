"""The constancy check: the phantom through the whole chain, compared with a reference that a person accepted.

    sct-node constancy            one run, now, in this process
    sct-node constancy --accept   the same, and what comes out is the reference from now on
    constancy.at                  each synthesize worker, once a day, with each model that the configuration uses

A reference belongs to a model's weights and a device, for arithmetic differs between devices. It lies in
node.data/constancy/. Within a worker patients go first: a run begins while no attempt is at work, and the next attempt
waits for it; a run that hangs, or takes its process down, has failed and is not begun again before the next day.
"""

from __future__ import annotations

import datetime
import functools
import json
import os
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dicomnode import log
from dicomnode.config.load import AS_CONFIGURED
from dicomnode.config.rules import models_of, settings_of
from dicomnode.engine.executor import CurrentAttempt
from dicomnode.errors import LedgerUnreachable
from dicomnode.quality import constancy_runs
from dicomnode.quality.constancy_runs import Outcome
from dicomnode.synthesis.attempt import HUNG, options_of
from models.inference.card import find
from pipeline.durable_files import write_whole
from pipeline.errors import PipelineError
from pipeline.phantom.constancy import Measured, difference, run_phantom

if TYPE_CHECKING:
    from collections.abc import Callable

    from dicomnode.config.load import Config
    from dicomnode.ledger.ledger import Ledger
    from models.inference.weights import Model

    Aside = Callable[[str, Callable[[Model], Outcome]], Outcome]
    """Runs something with an installed model, by its name, while the worker does nothing else."""

NO_REFERENCE: Final = "there is no reference of these weights on this device yet: sct-node constancy --accept"
DIED: Final = "the process ended before the phantom was through, as when memory runs out"


def due(now: datetime.datetime, at: str, last: datetime.datetime | None) -> bool:
    """Whether a day's run is due: the last time that it was `at` o'clock is over, and nothing has been begun since.

    `now` and `last` in local time, both aware or both naive.
    """
    hours, minutes = map(int, at.split(":"))
    today = now.replace(hour=hours, minute=minutes, second=0, microsecond=0)
    before = today if today <= now else today - datetime.timedelta(days=1)
    return last is None or last < before


def check(model: Model, config: Config) -> Outcome:
    """One run, compared with its reference. Raises OSError where nothing can be written."""
    began = time.monotonic()
    try:
        measured = _measured(model, config)
    except PipelineError as error:
        return Outcome(False, f"the phantom was refused, {error}", device=model.device_name)
    device, seconds = model.device_name, round(time.monotonic() - began, 3)
    path = reference_path(config, model)
    reference = _reference(path)
    if measured.complaints:
        sentence = f"its CT breaks rules: {'; '.join(measured.complaints)}"
    elif reference is None:
        sentence = f"{path.name} is no reference; accept it anew" if path.exists() else NO_REFERENCE
    else:
        return _compared(measured, reference, config, device, seconds)
    return Outcome(False, sentence, None, None, measured.as_json(), device, seconds)


def accept(model: Model, config: Config, by: str) -> Outcome:
    """One run, which is the reference from now on. Raises OSError."""
    began = time.monotonic()
    measured = _measured(model, config)
    path = reference_path(config, model)
    path.parent.mkdir(parents=True, exist_ok=True)
    card = model.card
    kept = {"model": card.name, "digest": card.digest, "device": model.device_name, "by": by}
    kept |= {"at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")}
    text = json.dumps({**kept, "measured": json.loads(measured.as_json())}, indent=2)
    write_whole(path, f"{text}\n".encode())
    log.event("constancy_reference_accepted", model=card.name, device=model.device_name)
    sentence = f"accepted as the reference by {by}"
    seconds = round(time.monotonic() - began, 3)
    return Outcome(True, sentence, 0.0, 0.0, measured.as_json(), model.device_name, seconds)


def reference_path(config: Config, model: Model) -> Path:
    """Where the reference of a model's weights on its device lies."""
    device = "".join(character if character.isalnum() else "-" for character in model.device_name)
    return config.node.data / "constancy" / f"{model.card.name}-{model.card.digest[:12]}-{device}.json"


def _measured(model: Model, config: Config) -> Measured:
    """The phantom through the chain as this node is configured, in a folder that is gone afterwards."""
    options = options_of(settings_of(config, AS_CONFIGURED), config.device)
    with tempfile.TemporaryDirectory(prefix="sct-constancy-") as folder:
        return run_phantom(model, Path(folder), options)


def _reference(path: Path) -> Measured | None:
    """What was accepted; None where nothing was, or the file is none."""
    try:
        return Measured.read(json.dumps(json.loads(path.read_text(encoding="utf-8"))["measured"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _compared(measured: Measured, reference: Measured, config: Config, device: str, seconds: float) -> Outcome:
    found, limits = difference(measured, reference), config.constancy
    wrong = []
    if found.hu > limits.hu:
        wrong.append(f"{found.of_hu} is {found.hu:.3g} HU from the reference; {limits.hu:g} are allowed")
    if found.mm > limits.mm:
        wrong.append(f"{found.of_mm} is {found.mm:.3g} mm from the reference; {limits.mm:g} are allowed")
    wrong += [f"{what} is there only in one of the two" for what in found.lost]
    good = f"{found.hu:.3g} HU ({found.of_hu}) and {found.mm:.3g} mm ({found.of_mm}) from the reference at most"
    return Outcome(not wrong, "; ".join(wrong) or good, found.hu, found.mm, measured.as_json(), device, seconds)


class Daily:
    """The runs of a synthesize worker: `tick` begins one in a thread of its own when it is due, and ends what hangs."""

    def __init__(self, config: Config, ledger: Ledger, executor: str, aside: Aside) -> None:
        self._config = config
        self._engine = ledger.engine
        self._executor = executor
        self._aside = aside
        self._at_work: CurrentAttempt[int] = CurrentAttempt()
        self._thread: threading.Thread | None = None
        self._last: datetime.datetime | None = None
        self._looked = False

    def tick(self) -> None:
        """Begin what is due. Raises LedgerUnreachable."""
        if self._config.constancy.at is None:
            return
        if not self._looked:
            self._look_back()
        if self._thread is None or not self._thread.is_alive():
            self._begin_if_due(self._config.constancy.at)
        else:
            self._end_what_hangs()

    def stop(self) -> None:
        """The worker is stopped in order: a run that has not ended is made up for at its next start."""
        if self._thread is not None and self._thread.is_alive():
            try:
                constancy_runs.withdraw(self._engine, self._executor)
            except LedgerUnreachable as error:
                log.event("constancy_not_withdrawn", level="warning", reason=str(error))

    def _look_back(self) -> None:
        """When the last run was begun, by this process or an earlier one of this worker; that one's have failed."""
        for number in constancy_runs.running(self._engine, self._executor):
            constancy_runs.end(self._engine, number, Outcome(False, DIED))
        last_at = constancy_runs.last_begun(self._engine, self._executor)
        self._last = None if last_at is None else datetime.datetime.fromtimestamp(last_at).astimezone()
        self._looked = True

    def _begin_if_due(self, at: str) -> None:
        now = datetime.datetime.now().astimezone()
        if due(now, at, self._last):
            names = sorted(set(models_of(self._config).values()))
            numbers = {name: self._begun(name) for name in names}
            self._last = now
            self._thread = threading.Thread(target=self._run, args=(numbers,), name="constancy", daemon=True)
            self._thread.start()

    def _begun(self, name: str) -> int:
        card = find(name)
        return constancy_runs.begin(self._engine, self._executor, card.name, card.digest)

    def _run(self, numbers: dict[str, int]) -> None:
        for name, number in numbers.items():
            try:
                outcome = self._aside(name, functools.partial(self._checked, number))
            except Exception as error:
                log.exception("constancy_failed", model=name)
                outcome = Outcome(False, f"the check itself failed, {type(error).__name__}: {error}")
            self._ended(name, number, outcome)

    def _checked(self, number: int, model: Model) -> Outcome:
        with self._at_work.on(number):
            return check(model, self._config)

    def _ended(self, name: str, number: int, outcome: Outcome) -> None:
        level = "info" if outcome.passed else "error"
        log.event("constancy_measured", level=level, model=name, passed=outcome.passed, reason=outcome.sentence)
        try:
            constancy_runs.end(self._engine, number, outcome)
        except LedgerUnreachable as error:
            log.event("constancy_not_noted", level="warning", reason=str(error))

    def _end_what_hangs(self) -> None:
        """End this process when a run takes longer than `synthesize.timeout_s`."""
        limit_s = self._config.synthesize.timeout_s
        number = self._at_work.longer_than(limit_s)
        if number is None:
            return
        self._ended("", number, Outcome(False, f"the phantom took longer than {limit_s:g} s (synthesize.timeout_s)"))
        os._exit(HUNG)
