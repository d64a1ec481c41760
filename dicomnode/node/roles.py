"""The roles of a node, each a process that opens what it needs and works about every second until it is stopped.

    role         does                                                   imports torch
    receive      C-ECHO, C-STORE, commitment; settles, opens jobs       no
    synthesize   converts jobs, one at a time (one process a GPU)       yes
    deliver      sends CT series to the destinations                    no
    web          the web page; /metrics, /healthz, /readyz             no

Any of them may be killed at any moment: what it had begun is found and done at its next start. `supervisor` runs
them all.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
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
"""Time that a role has to end after SIGTERM; then its process ends all the same, which is safe at any point."""


def prepare_node(config: Config) -> Ledger:
    """Make the folders and tables of a node, one process at a time; return the ledger, open.

    Raises:
        ConfigError: the data folder or a model cannot be used.
        LedgerUnreachable: the database does not answer.
    """
    check_models(config)
    ledger = Ledger(database_url(config))
    try:
        with (run_folder(config) / f"{name_of(config)}-ready.lock").open("w") as lock, reaching():
            fcntl.flock(lock, fcntl.LOCK_EX)  # released by the kernel when its holder ends
            ledger.create()
            prepare(ledger)
    except NodeError:
        ledger.close()
        raise
    return ledger


def check_models(config: Config) -> None:
    """Raise ConfigError when a model that the configuration names is not installed."""
    for path, name in models_of(config).items():
        try:
            find(name)
        except (UnknownModel, BadCard) as error:
            raise ConfigError(path, str(error), "run sct-node models to see what is installed") from error


def run_folder(config: Config) -> Path:
    """Make and return the folder of locks and of the served configuration. Raises ConfigError."""
    folder = config.node.data / "run"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            "node.data", f"{config.node.data} cannot be used: {error.strerror}", "name a folder"
        ) from error
    return folder


def run_role(role: str, config: Config, number: int = 0, *, supervised: bool = False) -> None:
    """Run one role in this process until SIGTERM or SIGINT; then this process ends (it does not return).

    Args:
        role: one of `ROLES`.
        config: the configuration.
        number: tells several processes of one role apart.
        supervised: also end when standard input closes.

    Raises:
        ConfigError, PortTaken, RoleTaken: before anything is started.
    """
    name = role if number == 0 else f"{role}{number}"
    log.start(name, config.log.level)
    run_folder(config)
    stop = stop_on_signals()
    if supervised:
        threading.Thread(target=end_with_parent, name="parent-watch", daemon=True).start()
    tls.check(config)
    executor = Executor(config, role, number)
    metrics.keep_in(metrics_folder(config), name)
    metrics.start_at_zero(role, [one.name for one in config.destinations])
    log.event("role_started", pid=os.getpid())
    trail = AuditTrail(config.audit, config.node.data, config.node.ae_title)
    if not supervised:
        trail.record(Event.APPLICATION_STARTED, by="node", words=name)
        if role != "web":  # no `serve` and no web page serves this role's metrics and health
            from dicomnode.web import health, server

            server.run_beside(health.app(config), config.metrics.bind, config.metrics.port, stop)
    BODIES[role](config, executor, stop)
    if not supervised:
        trail.record(Event.APPLICATION_STOPPED, by="node", words=name)
    trail.close()
    log.event("role_stopped")
    sys.stderr.flush()
    os._exit(0)


def stop_on_signals() -> threading.Event:
    """Return an event that SIGTERM and SIGINT set; the process ends at most GRACE_S later."""
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


def end_with_parent() -> None:
    """Stop when standard input closes: then the supervisor has ended, in whatever way."""
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os._exit(0)


def _open(config: Config, executor: Executor, stop: threading.Event) -> Ledger | None:
    """Open the ledger, and wait for its database as long as it takes; return None when stopped meanwhile."""
    while not stop.is_set():
        try:
            return prepare_node(config)
        except LedgerUnreachable as error:
            log.event("database_awaited", level="error", reason=str(error))
        _alive(executor)
        stop.wait(5.0)
    return None


def receive(config: Config, executor: Executor, stop: threading.Event) -> None:
    """Run the Storage SCP and the Storage Commitment SCP (PS3.4 B, J), and make jobs of the series that came."""
    from dicomnode.commitment.proofs import Proofs
    from dicomnode.commitment.requests import Commitments
    from dicomnode.commitment.scp import Provider
    from dicomnode.commitment.scu import Hearing
    from dicomnode.reception.intake import Intake
    from dicomnode.reception.other_receivers import SharedReceivers, SingleReceiver
    from dicomnode.reception.storage_scp import Receiver, Service

    check_models(config)
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
        receivers: Receivers = SingleReceiver()
        if config.database != "sqlite":
            receivers = SharedReceivers(ledger.engine, executor.id, config.hosts.dead_after_s)
        intake = Intake(config, ledger, open_queues(ledger), spool, receiver, receivers)
        _each_tick(executor, stop, until_done(intake.adopt), intake.tick)
    commitment.stop()
    receiver.stop(GRACE_S / 2)


def synthesize(config: Config, executor: Executor, stop: threading.Event) -> None:
    """Convert jobs, and run the daily constancy check."""
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
    reconcile = _periodically(conversions.reconcile)
    _each_tick(executor, stop, conversions.end_what_hangs, others, reconcile, daily.tick)
    daily.stop()


def deliver(config: Config, executor: Executor, stop: threading.Event) -> None:
    """Send CT series, ask for storage commitment (PS3.4 J), send notices and delete what is due."""
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
    prune = _periodically(lambda: queues.prune(REMEMBERED_S), PRUNE_S)
    trail = AuditTrail(config.audit, config.node.data, config.node.ae_title)
    delete = _periodically(RetentionSweep(config, ledger, spool, trail).run, PRUNE_S)
    notifier = Notifier(config, ledger, spool)
    notify, forget = _periodically(notifier.tick, LOOK_S), _periodically(notifier.forget, PRUNE_S)
    _each_tick(executor, stop, others, _periodically(deliveries.reconcile), asking.tick, notify, prune, delete, forget)


def check_page(config: Config) -> None:
    """Raise ConfigError where the page may not be served as configured, such as to a network without users."""
    from dicomnode.security.users import check_reachable

    check_reachable(config)


def web(config: Config, executor: Executor, stop: threading.Event) -> None:
    """Serve the web page."""
    from dicomnode.web import app

    check_page(config)
    if _open(config, executor, stop) is not None:
        app.serve(config)


BODIES: Final[dict[str, Callable[[Config, Executor, threading.Event], None]]] = {
    "receive": receive,
    "synthesize": synthesize,
    "deliver": deliver,
    "web": web,
}


def _among_others(config: Config, ledger: Ledger, queues: Queues, executor: Executor) -> Callable[[], None]:
    """Return what a worker does about other machines at each tick; on SQLite nothing."""
    if config.database == "sqlite":
        return lambda: None
    return hosts.KnownHosts(ledger, queues, config.hosts.dead_after_s, executor.id).tick


def _each_tick(executor: Executor, stop: threading.Event, *works: Callable[[], object]) -> None:
    """Record that the role is alive and do its works, about every second, until stopped; log a failure."""
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
    """Record a sign of life: for `/readyz`, and for probes that look at the lock file's time."""
    metrics.tick(executor.role)
    executor.touch()


def until_done(work: Callable[[], None]) -> Callable[[], None]:
    """Return a function that does `work` at each call until it has succeeded once."""
    due = [True]

    def maybe() -> None:
        if due[0]:
            work()
            due[0] = False

    return maybe


def _periodically(work: Callable[[], object], every_s: float = RECONCILE_S) -> Callable[[], None]:
    """Return a function that does `work` at its first call, and again when `every_s` have passed."""
    due = [0.0]

    def maybe() -> None:
        if time.monotonic() >= due[0]:
            due[0] = time.monotonic() + every_s
            work()

    return maybe
