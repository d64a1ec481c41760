"""The constancy check sends a phantom through the whole chain and compares it with a reference that a person accepted.

    sct-node constancy            one run, now, in this process
    sct-node constancy --accept   the same, and what comes out is the reference from now on
    constancy.at                  each synthesize worker, once a day, with each model that the configuration uses

A reference belongs to a model's weights and a device, since arithmetic differs between devices. It lies in
node.data/constancy/. Within a worker patients go first: a run begins while no attempt is at work, and the next attempt
waits for it. A run that hangs, or takes its process down, has failed and is not begun again before the next day.
"""

from __future__ import annotations

import datetime
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
    """Runs a function with an installed model, by its name, while the worker does nothing else."""

NO_REFERENCE: Final = "there is no reference of these weights on this device yet: sct-node constancy --accept"
DIED: Final = "the process ended before the phantom was through, as when memory runs out"


def due(now: datetime.datetime, at: str, last: datetime.datetime | None) -> bool:
    """Return whether a day's run is due: `at` (HH:MM) has passed, and no run has begun since.

    `now` and the begin of the `last` run are in local time, both aware or both naive.
    """
    hours, minutes = map(int, at.split(":"))
    today = now.replace(hour=hours, minute=minutes, second=0, microsecond=0)
    before = today if today <= now else today - datetime.timedelta(days=1)
    return last is None or last < before


def check(model: Model, config: Config) -> Outcome:
    """Do one run and compare it with its reference. Raises OSError where nothing can be written."""
    began = time.monotonic()
    try:
        measured = _measured(model, config)
    except PipelineError as error:
        return Outcome(False, f"the phantom was refused, {error}", device=model.device_name)
    device, seconds = model.device_name, round(time.monotonic() - began, 3)
    path = reference_path(config, model)
    reference = read_reference(path)
    if measured.complaints:
        sentence = f"its CT breaks rules: {'; '.join(measured.complaints)}"
    elif reference is None:
        sentence = f"{path.name} is no reference; accept it anew" if path.exists() else NO_REFERENCE
    else:
        return compare(measured, reference, config, device, seconds)
    return Outcome(False, sentence, None, None, measured.as_json(), device, seconds)


def accept(model: Model, config: Config, by: str) -> Outcome:
    """Do one run and make it the reference from now on. Raises OSError."""
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
    """Return the path of the reference of a model's weights on its device."""
    device = "".join(character if character.isalnum() else "-" for character in model.device_name)
    return config.node.data / "constancy" / f"{model.card.name}-{model.card.digest[:12]}-{device}.json"


def _measured(model: Model, config: Config) -> Measured:
    """Send the phantom through the chain as this node is configured, in a folder that is deleted afterwards."""
    options = options_of(settings_of(config, AS_CONFIGURED), config.device)
    with tempfile.TemporaryDirectory(prefix="sct-constancy-") as folder:
        return run_phantom(model, Path(folder), options)


def read_reference(path: Path) -> Measured | None:
    """Return the accepted measurement; None where there is none, or the file cannot be read."""
    try:
        return Measured.read(json.dumps(json.loads(path.read_text(encoding="utf-8"))["measured"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def compare(measured: Measured, reference: Measured, config: Config, device: str, seconds: float) -> Outcome:
    """Return whether a run lies within `constancy.hu` (HU) and `constancy.mm` of its reference, and why not."""
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
    """The daily runs of a synthesize worker: `tick` begins a run in a thread when it is due, and ends a hanging one."""

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
        """Begin the runs that are due; end this process when one takes longer than `synthesize.timeout_s`.

        Runs that an earlier process of this worker left unfinished have failed. Raises LedgerUnreachable.
        """
        at = self._config.constancy.at
        if at is None:
            return
        if not self._looked:
            for number in constancy_runs.running(self._engine, self._executor):
                constancy_runs.end(self._engine, number, Outcome(False, DIED))
            last_at = constancy_runs.last_begun(self._engine, self._executor)
            self._last = None if last_at is None else datetime.datetime.fromtimestamp(last_at).astimezone()
            self._looked = True
        now = datetime.datetime.now().astimezone()
        if self._thread is not None and self._thread.is_alive():
            limit_s = self._config.synthesize.timeout_s
            hanging = self._at_work.longer_than(limit_s)
            if hanging is not None:
                sentence = f"the phantom took longer than {limit_s:g} s (synthesize.timeout_s)"
                self._end("", hanging, Outcome(False, sentence))
                os._exit(HUNG)
        elif due(now, at, self._last):
            numbers = {}
            for name in sorted(set(models_of(self._config).values())):
                card = find(name)
                numbers[name] = constancy_runs.begin(self._engine, self._executor, card.name, card.digest)
            self._last = now
            self._thread = threading.Thread(target=self.run, args=(numbers,), name="constancy", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Withdraw a run that has not ended, since the worker is stopped: its next start makes up for it."""
        if self._thread is not None and self._thread.is_alive():
            try:
                constancy_runs.withdraw(self._engine, self._executor)
            except LedgerUnreachable as error:
                log.event("constancy_not_withdrawn", level="warning", reason=str(error))

    def run(self, numbers: dict[str, int]) -> None:
        """Do the runs of a day: model -> number of its run. A run that raises an error has failed."""
        for name, number in numbers.items():

            def checked(model: Model, number: int = number) -> Outcome:
                with self._at_work.on(number):
                    return check(model, self._config)

            try:
                outcome = self._aside(name, checked)
            except Exception as error:
                log.exception("constancy_failed", model=name)
                outcome = Outcome(False, f"the check itself failed, {type(error).__name__}: {error}")
            self._end(name, number, outcome)

    def _end(self, name: str, number: int, outcome: Outcome) -> None:
        """Log the outcome of a run, and write it into the ledger."""
        level = "info" if outcome.passed else "error"
        log.event("constancy_measured", level=level, model=name, passed=outcome.passed, reason=outcome.sentence)
        try:
            constancy_runs.end(self._engine, number, outcome)
        except LedgerUnreachable as error:
            log.event("constancy_not_noted", level="warning", reason=str(error))
