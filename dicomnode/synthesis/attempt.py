"""One attempt at a job: its MR instances become the CT series in out/<job>/.

`publish` makes the folder by one rename, and a job whose folder exists is not computed again. So a crash anywhere ends
in one of two places: nothing exists and the next attempt computes, or the folder exists and only the event is missing
from the ledger.

    what went wrong                            reaction
    Unsuitable                                 REJECTED with code and sentence, never tried again
    Implausible: a finding rejects the case    REJECTED with the finding's name and sentence, likewise
    a result that says hold                    held; a person releases or rejects
    the model is missing or not what it says,  held at once: trying again would not cure it
    or the job's settings are unknown
    longer than `synthesize.timeout_s`         the worker ends; tried again, and held, as what follows
    anything else                              tried again, and held with its traceback after `synthesize.tries`

Metrics count the findings of jobs by scanner (PS3.3 C.7.5.1) and Protocol Name (PS3.3 C.7.3.1). Both come from the
images, so their number is bounded here: the first `PAIRS` pairs that this machine counts keep their names, over
restarts; whatever comes later is `other`. A name is shortened to `LONGEST`.
"""

from __future__ import annotations

import dataclasses
import json
import os
import threading
import traceback
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeVar

from dicomnode import log, metrics
from dicomnode.cases.files import REPORT
from dicomnode.config.load import AS_CONFIGURED
from dicomnode.config.rules import JobSettings, settings_of
from dicomnode.engine import executor
from dicomnode.engine.contract import back_off_s, jitter, synthesis_id, together
from dicomnode.engine.executor import CurrentAttempt
from dicomnode.errors import ConfigError, LedgerUnreachable, WrongState
from dicomnode.ledger.states import State
from dicomnode.synthesis.drift import compared
from models.inference.card import BadCard, UnknownModel, find
from models.inference.weights import Model, WrongDigest, load_model
from pipeline.conversion import ConversionOptions, Result, convert
from pipeline.errors import Unsuitable
from pipeline.findings.findings import limits_of
from pipeline.gate import Implausible
from pipeline.preflight.profile import Profile, load_profile
from pipeline.series.series import Series, read_instance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from dicomnode.config.load import Config
    from dicomnode.engine.contract import Queues
    from dicomnode.ledger.ledger import Ledger
    from dicomnode.ledger.rows import JobRow
    from dicomnode.spool.spool import Spool
    from pipeline.companions.kinds import CompanionKind

STAGES: Final = {"read": "volume"}
"""The report's name of a stage -> the metric's, where they differ."""
HUNG: Final = 75
"""Exit status of a worker that ended itself because an attempt hung."""
RETRY_FIRST_S: Final = 2.0
RETRY_MAX_S: Final = 60.0
MODELS_KEPT: Final = 2
"""Models that stay in memory; the one that was not used for longest goes first."""
HELD_AT_ONCE: Final[dict[type[Exception], str]] = {
    WrongDigest: "WRONG_DIGEST",
    UnknownModel: "UNKNOWN_MODEL",
    BadCard: "BAD_CARD",
    ConfigError: "UNKNOWN_SETTINGS",
}
"""Error -> the reason code of the hold."""
DIED: Final = "its process ended at each attempt, as when memory runs out"

Outcome = TypeVar("Outcome")


@dataclass(frozen=True, slots=True)
class PublishedSeries:
    """The CT series in out/<job>/, and the reason (code, sentence) for which it is held, or None."""

    ct_series_uid: str
    instances: int
    hold: tuple[str, str] | None

    @classmethod
    def read(cls, folder: Path) -> PublishedSeries:
        """Read it from the report beside the objects."""
        report = json.loads((folder / REPORT).read_text(encoding="utf-8"))
        held = report["held"]
        hold = None if held is None else (report["held_code"], held)
        return cls(report["ct_series_uid"], len(list(folder.glob("*.dcm"))), hold)


def options_of(
    settings: JobSettings, device: str, profiles: Mapping[str, Profile] = MappingProxyType({})
) -> ConversionOptions:
    """Return the options of a conversion; `device` is where the model runs, `profiles` the destinations' rules."""
    return ConversionOptions(
        accept_lossy=settings.accept_lossy,
        anatomy_check=settings.anatomy_check,
        gate=settings.quality.gate,
        limits=settings.quality.limits,
        device=device,
        grid=settings.grid,
        labels=settings.labels,
        configuration_digest=settings.digest,
        choice=settings.volume,
        tolerances=settings.stack,
        profiles=profiles,
    )


def profiles_of(config: Config, names: Iterable[str]) -> dict[str, Profile]:
    """Return the profiles of destinations by their names; one that is no longer configured has none."""
    return {one.name: load_profile(one.profile) for one in config.destinations if one.name in set(names)}


def companions_of(config: Config, names: Iterable[str]) -> frozenset[CompanionKind]:
    """Return every companion that one of these destinations asks for."""
    wanted = [config.destination(name) for name in names]
    return frozenset(kind for one in wanted if one is not None for kind in one.companions)


def write_report(result: Result, into: Path) -> None:
    """Write `report.json` beside the objects: what was made, from what, how, and what was found."""
    hold = result.hold
    held = {"held": result.held, "held_code": hold.code if hold else None}
    report = {"ct_series_uid": result.ct_series_uid, **held, **result.report}
    (into / REPORT).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


class Conversions:
    """Makes attempts at jobs, one at a time, and keeps the models that it used last."""

    def __init__(self, config: Config, ledger: Ledger, queues: Queues, spool: Spool) -> None:
        self._config = config
        self._ledger = ledger
        self._queues = queues
        self._spool = spool
        self._cases = Cases(executor.metrics_folder(config))
        self._models: dict[tuple[str, str], Model] = {}
        self._at_work: CurrentAttempt[JobRow] = CurrentAttempt()
        self._alone = threading.Lock()

    def run_exclusively(self, name: str, work: Callable[[Model], Outcome]) -> Outcome:
        """Do other work with an installed model, by its name, while no attempt is at work; the next one waits."""
        with self._alone:
            return work(self.loaded(name, find(name).digest))

    def attempt(self, job: str, attempt: int) -> None:
        """Convert, and record the event. Nothing happens when this attempt is not due (any more)."""
        with self._alone:
            row = self._ledger.job(job)
            if row.state is not State.RECEIVED or row.held is not None or row.attempt != attempt:
                return
            try:
                with self._at_work.on(row):
                    self.attempt_at(row)
            except WrongState as error:
                log.event("attempt_outdated", level="warning", job=job, attempt=attempt, reason=str(error))

    def attempt_at(self, row: JobRow) -> None:
        """Convert, and record the event. Raises WrongState when the job was superseded, held or ended meanwhile."""
        try:
            made = self.published(row)
        except (Unsuitable, Implausible) as error:
            self._ledger.rejected(row.job, error.code, error.sentence)
            metrics.JOBS.labels(state=State.REJECTED).inc()
            metrics.REJECTED.labels(reason=error.code).inc()
            for finding in error.findings if isinstance(error, Implausible) else ():
                count_finding(finding.name, finding.verdict)
            log.event("series_rejected", job=row.job, series=row.series_instance_uid, reason=error.code)
        except tuple(HELD_AT_ONCE) as error:
            self._hold(row, HELD_AT_ONCE[type(error)], str(error))
        except (LedgerUnreachable, WrongState):
            raise
        except Exception as error:
            log.exception("synthesis_failed", job=row.job, series=row.series_instance_uid, attempt=row.attempt)
            self._failed(row, f"{type(error).__name__}: {error}", traceback.format_exc())
        else:
            names = self._destinations(row)
            sending = together(self._queues.deliver(row.job, name, 1) for name in names)
            self._ledger.synthesized(row.job, made.ct_series_uid, made.instances, names, made.hold, sending)
            metrics.JOBS.labels(state=State.SYNTHESIZED).inc()
            if made.hold is not None:
                metrics.HELD.labels(reason=made.hold[0]).inc()
            log.event("series_synthesized", job=row.job, series=row.series_instance_uid, held=made.hold is not None)

    def end_what_hangs(self) -> None:
        """End this process when an attempt takes longer than `synthesize.timeout_s`; the attempt counts as failed."""
        limit_s = self._config.synthesize.timeout_s
        row = self._at_work.longer_than(limit_s)
        if row is None:
            return
        sentence = f"the attempt took longer than {limit_s:g} s (synthesize.timeout_s); its process was ended"
        log.event("synthesis_hangs", level="error", job=row.job, attempt=row.attempt, limit_s=limit_s)
        try:
            self._failed(row, sentence, "")
        except (WrongState, LedgerUnreachable) as error:
            log.event("hanging_attempt_not_noted", level="warning", job=row.job, reason=str(error))
        os._exit(HUNG)

    def reconcile(self) -> None:
        """Try again what the ledger says is due and the engine does not know, or has ended without progress."""
        due = {synthesis_id(one.job, one.attempt): one for one in self._ledger.to_synthesize()}
        for name, ending in self._queues.endings(due).items():
            if ending == "waiting":
                continue
            try:
                row = due[name]
                log.event("synthesis_requeued", level="warning", job=row.job, workflow=ending)
                if ending == "died":
                    self._hold(row, "PROCESS_DIED", DIED)
                else:
                    self._failed(row, f"the attempt's workflow is {ending}", "")
            except WrongState:
                continue  # it moved on meanwhile

    def published(self, row: JobRow) -> PublishedSeries:
        """Return the CT series in out/<job>/: it is there already, or converted now."""
        return PublishedSeries.read(self._spool.publish(row.job, partial(self.convert_into, row)))

    def convert_into(self, row: JobRow, into: Path) -> None:
        """Convert exactly the job's instances, whatever came since, and write CT series and report.

        Raises WrongState when the job has ended meanwhile.
        """
        folder = self._spool.series_folder(row.series_instance_uid)
        series = Series.of([read_instance(folder / f"{uid}.dcm") for uid in row.sop_instance_uids])
        names = self._destinations(row)
        # a job that is older than rules goes by the configuration
        settings = settings_of(self._config, AS_CONFIGURED) if row.settings is None else JobSettings.read(row.settings)
        options = options_of(settings, self._config.device, profiles_of(self._config, names))
        options = dataclasses.replace(options, replaces=row.replaces, companions=companions_of(self._config, names))
        model = self.loaded(row.model, row.model_digest)
        result = convert(series, model, into, options)
        limits = limits_of(model.card, options.limits)
        result = compared(self._ledger.engine, row, result, limits, settings.quality)
        write_report(result, into)
        if self._ledger.job(row.job).state is not State.RECEIVED:
            raise WrongState(f"job {row.job[:12]} was superseded while it was computed")
        for stage, seconds in result.report["seconds"].items():
            metrics.STAGE_SECONDS.labels(stage=STAGES.get(stage, stage)).observe(seconds)
        self._cases.count(result.report)

    def loaded(self, name: str, digest: str) -> Model:
        """Return the job's model, loaded when first needed; of several the last MODELS_KEPT stay in memory.

        Raises WrongDigest when what is installed under its name is another by now.
        """
        key = (name, digest)
        if key not in self._models:
            while len(self._models) >= MODELS_KEPT:
                self._models.pop(next(iter(self._models)))
            model = load_model(name, self._config.device)
            if model.card.digest != digest:
                raise WrongDigest(name, digest, model.card.digest)
            self._models[key] = model
        self._models[key] = self._models.pop(key)
        return self._models[key]

    def _destinations(self, row: JobRow) -> tuple[str, ...]:
        """Return where the job's CT goes: what was decided, or every destination for a job older than rules."""
        every = tuple(destination.name for destination in self._config.destinations)
        return every if row.destinations is None else row.destinations

    def _hold(self, row: JobRow, code: str, sentence: str, detail: str = "") -> None:
        self._ledger.held(row.job, code, sentence, detail)
        metrics.HELD.labels(reason=code).inc()
        log.event("job_held", level="warning", job=row.job, series=row.series_instance_uid, reason=code)

    def _failed(self, row: JobRow, sentence: str, detail: str) -> None:
        """Record that an attempt failed: it is tried again after a while, or held when that was the last try."""
        if row.failures + 1 >= self._config.synthesize.tries:
            self._hold(row, "FAILED", sentence, detail)
            return
        delay_s = back_off_s(row.failures + 1, RETRY_FIRST_S, RETRY_MAX_S, jitter())
        following = self._queues.synthesize(row.job, row.attempt + 1, delay_s)
        self._ledger.failed(row.job, row.attempt, sentence, detail, following)


PAIRS: Final = 20
LONGEST: Final = 40
OTHER: Final = ("other", "other")
NOT_NAMED: Final = "not named"


class Cases:
    """Counts jobs as metrics; `folder` is where the processes of this machine keep their metrics."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._named: set[tuple[str, str]] = set()

    def count(self, report: Mapping[str, Any]) -> None:
        """Count a job by its report: the scanner, the protocol, and its findings."""
        scanner, protocol = self.label_pair(_label(report.get("scanner")), _label(report.get("protocol")))
        metrics.CASES.labels(scanner=scanner, protocol=protocol).inc()
        for one in report["findings"]:
            count_finding(one["name"], one["verdict"])
            gauge, factor = metrics.FINDING_BY_UNIT.get(one["unit"], (None, 0.0))
            if gauge is not None and isinstance(one["value"], int | float):
                labels = {"finding": one["name"], "scanner": scanner, "protocol": protocol}
                gauge.labels(**labels).set(one["value"] * factor)

    def label_pair(self, scanner: str, protocol: str) -> tuple[str, str]:
        """Return the pair as the metrics may show it: a new one only while fewer than PAIRS are known."""
        pair = (scanner, protocol)
        if pair not in self._named:
            seen = metrics.label_values(self._folder, "sct_node_cases", ("scanner", "protocol")) - {OTHER}
            self._named |= {(known[0], known[1]) for known in seen}
            if pair not in self._named and len(self._named) >= PAIRS:
                return OTHER
            self._named.add(pair)
        return pair


def count_finding(finding: str, verdict: str) -> None:
    """Count a check of a job, also of one of which there will be no CT."""
    metrics.FINDINGS.labels(finding=finding, verdict=verdict).inc()


def _label(text: object) -> str:
    """Return a name as a metric's label may hold it: printable, on one line, not too long."""
    plain = "".join(one if one.isprintable() else " " for one in text) if isinstance(text, str) else ""
    return " ".join(plain.split())[:LONGEST].strip() or NOT_NAMED
