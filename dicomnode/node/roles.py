"""The roles of a node, each a process: what it opens, and what it does about every second until it is stopped.

    role         does                                                   imports torch
    receive      C-ECHO, C-STORE, commitment; settles, opens jobs       no
    synthesize   converts jobs, one at a time (one process a GPU)       yes
    deliver      sends CT series to the destinations                    no
    web          the web page; /metrics, /healthz, /readyz             no

Any of them may be killed at any moment: what it had begun is found and done when it is back. `supervisor` runs
them all.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dicomnode import log, metrics
from dicomnode.config.load import Config
from dicomnode.config.rules import models_of
from dicomnode.engine import hosts
from dicomnode.engine.contract import REMEMBERED_S, Queues
from dicomnode.engine.executor import Executor, metrics_folder, name_of
from dicomnode.engine.queues import open_queues, prepare, work_deliver, work_synthesize
from dicomnode.errors import ConfigError, LedgerUnreachable, NodeError
from dicomnode.ledger.database import connect, database_url, reaching
from dicomnode.ledger.ledger import Ledger
from dicomnode.security import tls
from dicomnode.security.audit_trail import AuditTrail, Event
from dicomnode.spool.spool import Spool
from models.inference.card import BadCard, UnknownModel, find

if TYPE_CHECKING:
    from dicomnode.reception.other_receivers import Receivers

ROLES: Final = ("receive", "synthesize", "deliver", "web")
TICK_S: Final = 1.0
RECONCILE_S: Final = 30.0
PRUNE_S: Final = 3600.0
GRACE_S: Final = 8.0
"""How long a role may take to end after SIGTERM; then it ends all the same, which is safe at any point."""


def ready(config: Config) -> Ledger:
    """Folders, tables and model are there; -> the ledger, open.

    Raises ConfigError for a data folder or model that cannot be used, LedgerUnreachable.
    """
    _models_found(config)
    ledger = Ledger(database_url(config))
    try:
        with _alone(run_folder(config) / f"{name_of(config)}-ready.lock"), reaching():
            ledger.create()
            prepare(ledger)
    except NodeError:
        ledger.close()
        raise
    return ledger


def _models_found(config: Config) -> None:
    for path, name in models_of(config).items():
        try:
            find(name)
        except (UnknownModel, BadCard) as error:
            raise ConfigError(path, str(error), "run sct-node models to see what is installed") from error


def run_folder(config: Config) -> Path:
    """The folder of locks and of what is served now, made. Raises ConfigError."""
    folder = config.node.data / "run"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            "node.data", f"{config.node.data} cannot be used: {error.strerror}", "name a folder"
        ) from error
    return folder


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One process at a time; the kernel lets the lock go when its holder ends."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


# Roles


def run_role(role: str, config: Config, number: int = 0, *, supervised: bool = False) -> None:
    """Run one role in this process until SIGTERM or SIGINT; then this process ends (it does not return).

    `number` tells several synthesize processes apart. `supervised`: also end when standard input closes.
    Raises ConfigError, PortTaken, RoleTaken before anything is started.
    """
    name = role if number == 0 else f"{role}{number}"
    log.start(name, config.log.level)
    run_folder(config)
    stop = _stop_on_signals()
    if supervised:
        threading.Thread(target=_end_with_parent, name="parent-watch", daemon=True).start()
    tls.check(config)
    executor = Executor(config, role, number)
    metrics.keep_in(metrics_folder(config), name)
    metrics.start_at_zero(role, [one.name for one in config.destinations])
    log.event("role_started", pid=os.getpid())
    trail = AuditTrail(config.audit, config.node.data, config.node.ae_title)
    if not supervised:
        trail.record(Event.APPLICATION_STARTED, by="node", words=name)
        if role != "web":
            _watched_alone(config, stop)
    _BODIES[role](config, executor, stop)
    if not supervised:
        trail.record(Event.APPLICATION_STOPPED, by="node", words=name)
    trail.close()
    log.event("role_stopped")
    sys.stderr.flush()
    os._exit(0)


def _watched_alone(config: Config, stop: threading.Event) -> None:
    """Metrics and health of a role that no `serve` and no web page runs beside."""
    from dicomnode.web import health, server

    server.run_beside(health.app(config), config.metrics.bind, config.metrics.port, stop)


def _stop_on_signals() -> threading.Event:
    """An event that SIGTERM and SIGINT set; from then on the process has GRACE_S."""
    stop = threading.Event()

    def handle(_number: int, _frame: object) -> None:
        if not stop.is_set():
            stop.set()
            last = threading.Timer(GRACE_S, os._exit, (0,))
            last.daemon = True
            last.start()

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)
    return stop


def _end_with_parent() -> None:
    """Wait until the supervisor's end of our standard input is closed, however it ended; then stop."""
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os._exit(0)


def _open(config: Config, executor: Executor, stop: threading.Event) -> Ledger | None:
    """The ledger, waiting for its database as long as it takes; None when stopped meanwhile."""
    while not stop.is_set():
        try:
            return ready(config)
        except LedgerUnreachable as error:
            log.event("database_awaited", level="error", reason=str(error))
        _alive(executor)
        stop.wait(5.0)
    return None


def _receive(config: Config, executor: Executor, stop: threading.Event) -> None:
    from dicomnode.commitment.proofs import Proofs
    from dicomnode.commitment.requests import Commitments
    from dicomnode.commitment.scp import Provider
    from dicomnode.commitment.scu import Hearing
    from dicomnode.reception.intake import Intake
    from dicomnode.reception.storage_scp import Receiver, Service

    _models_found(config)
    spool = Spool(config.node.data, config.receive.disk_reserve_bytes)
    spool.sweep()
    database = connect(database_url(config))
    commitment = Provider(config, Commitments(database), spool)
    services: list[Service] = [commitment, Hearing(Proofs(database))]
    trail = AuditTrail(config.audit, config.node.data, config.node.ae_title)
    receiver = Receiver(
        config.node,
        config.receive,
        spool,
        services,
        admission=config.admission,
        tls=config.tls,
        trail=trail,
    )
    receiver.start()
    log.event("dicom_listening", ae_title=config.node.ae_title, bind=config.node.bind, port=config.node.port)
    ledger = _open(config, executor, stop)
    if ledger is not None:
        commitment.start()
        receivers = _receivers(config, ledger, executor)
        intake = Intake(config, ledger, open_queues(ledger), spool, receiver, receivers)
        _each_tick(executor, stop, _first(intake.adopt), intake.tick)
    commitment.stop()
    receiver.stop(GRACE_S / 2)


def _synthesize(config: Config, executor: Executor, stop: threading.Event) -> None:
    from dicomnode.quality.constancy import Daily
    from dicomnode.synthesis.attempt import Conversions

    ledger = _open(config, executor, stop)
    if ledger is None:
        return
    spool = Spool(config.node.data, config.receive.disk_reserve_bytes)
    spool.sweep()
    queues = open_queues(ledger)
    conversions = Conversions(config, ledger, queues, spool)
    work_synthesize(ledger, executor.id, conversions.attempt)
    others = _among_others(config, ledger, queues, executor)
    daily = Daily(config, ledger, executor.id, conversions.run_exclusively)
    reconcile = _now_and_then(conversions.reconcile)
    _each_tick(executor, stop, conversions.end_what_hangs, others, reconcile, daily.tick)
    daily.stop()


def _deliver(config: Config, executor: Executor, stop: threading.Event) -> None:
    from dicomnode.commitment.proofs import Proofs
    from dicomnode.commitment.scu import Asking
    from dicomnode.delivery.attempt import Deliveries
    from dicomnode.delivery.retention import RetentionSweep
    from dicomnode.notify.notifier import TICK_S as LOOK_S
    from dicomnode.notify.notifier import Notifier

    ledger = _open(config, executor, stop)
    if ledger is None:
        return
    queues, spool = open_queues(ledger), Spool(config.node.data)
    deliveries = Deliveries(config, ledger, queues, spool)
    asking = Asking(config, Proofs(ledger.engine), spool)
    work_deliver(ledger, executor.id, deliveries.attempt)
    others = _among_others(config, ledger, queues, executor)
    prune = _now_and_then(lambda: queues.prune(REMEMBERED_S), PRUNE_S)
    trail = AuditTrail(config.audit, config.node.data, config.node.ae_title)
    delete = _now_and_then(RetentionSweep(config, ledger, spool, trail).run, PRUNE_S)
    notifier = Notifier(config, ledger, spool)
    notify, forget = _now_and_then(notifier.tick, LOOK_S), _now_and_then(notifier.forget, PRUNE_S)
    _each_tick(executor, stop, others, _now_and_then(deliveries.reconcile), asking.tick, notify, prune, delete, forget)


def check_page(config: Config) -> None:
    """The page may be served where it is asked to be. Raises ConfigError."""
    from dicomnode.security.users import check_reachable

    check_reachable(config)


def _web(config: Config, executor: Executor, stop: threading.Event) -> None:
    from dicomnode.web import app

    check_page(config)
    if _open(config, executor, stop) is not None:
        app.serve(config)


_BODIES: Final[dict[str, Callable[[Config, Executor, threading.Event], None]]] = {
    "receive": _receive,
    "synthesize": _synthesize,
    "deliver": _deliver,
    "web": _web,
}


def _receivers(config: Config, ledger: Ledger, executor: Executor) -> Receivers:
    """The other receivers on the database; on SQLite there is none."""
    from dicomnode.reception.other_receivers import SharedReceivers, SingleReceiver

    return (
        SingleReceiver()
        if config.database == "sqlite"
        else SharedReceivers(ledger.engine, executor.id, config.hosts.dead_after_s)
    )


def _among_others(config: Config, ledger: Ledger, queues: Queues, executor: Executor) -> Callable[[], None]:
    """What a worker does about other machines at each tick; on SQLite nothing."""
    if config.database == "sqlite":
        return lambda: None
    return hosts.KnownHosts(ledger, queues, config.hosts.dead_after_s, executor.id).tick


def _each_tick(executor: Executor, stop: threading.Event, *works: Callable[[], object]) -> None:
    """Say that the role is alive and do its works, about every second, until stopped; a failure is logged."""
    while not stop.wait(TICK_S):
        _alive(executor)
        for work in works:
            try:
                work()
            except LedgerUnreachable as error:
                log.event("database_awaited", level="error", reason=str(error))
                break
            except Exception:
                log.exception("tick_failed")


def _alive(executor: Executor) -> None:
    """For `/healthz`, and for probes that look at the lock file's time."""
    metrics.tick(executor.role)
    executor.touch()


def _first(work: Callable[[], None]) -> Callable[[], None]:
    """`work` until it has succeeded once."""
    due = [True]

    def maybe() -> None:
        if due[0]:
            work()
            due[0] = False

    return maybe


def _now_and_then(work: Callable[[], object], every_s: float = RECONCILE_S) -> Callable[[], None]:
    """`work` at the first call, and again when `every_s` have passed."""
    due = [0.0]

    def maybe() -> None:
        if time.monotonic() >= due[0]:
            due[0] = time.monotonic() + every_s
            work()

    return maybe
