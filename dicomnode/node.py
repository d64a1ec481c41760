"""The node: its roles as processes, and `serve`, which runs them all on one machine.

    role         does                                                   imports torch
    receive      C-ECHO, C-STORE, commitment; settles, opens jobs       no
    synthesize   converts jobs, one at a time (one process a GPU)       yes
    deliver      sends CT series to the destinations                    no
    web          the jobs page; /metrics, /healthz, /readyz             no

`serve` starts them in this order and stops them in reverse. One that ends is started again, with a growing delay. When
`serve` itself is killed, its children see their standard input close and end too. Any of them may be killed at any
moment: what they had begun is found and done when they are back.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dicomnode import config as configuration
from dicomnode import engine, hosts, log, metrics, tls
from dicomnode.audit import Event, Trail
from dicomnode.config import Config
from dicomnode.errors import ConfigError, LedgerUnreachable, NodeError, PortTaken, RoleTaken
from dicomnode.ledger import Ledger, connect, database_url
from dicomnode.rules import models_of
from dicomnode.spool import Spool
from dicomnode.steps import reaching
from dicomnode.watchdog import Pulse
from models.card import BadCard, UnknownModel, find

if TYPE_CHECKING:
    from dicomnode.receivers import Receivers

ROLES: Final = ("receive", "synthesize", "deliver", "web")
TICK_S: Final = 1.0
RECONCILE_S: Final = 30.0
PRUNE_S: Final = 3600.0
GRACE_S: Final = 8.0
"""How long a role may take to end after SIGTERM; then it ends all the same, which is safe at any point."""
RESTART_FIRST_S: Final = 0.5
RESTART_MAX_S: Final = 30.0
HEALTHY_S: Final = 60.0


def ready(config: Config) -> Ledger:
    """Folders, tables and model are there; -> the ledger, open.

    Raises ConfigError for a data folder or model that cannot be used, LedgerUnreachable.
    """
    _models_found(config)
    ledger = Ledger(database_url(config))
    try:
        with _alone(_run_folder(config) / f"{hosts.name_of(config)}-ready.lock"), reaching():
            ledger.create()
            engine.prepare(ledger)
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


def _run_folder(config: Config) -> Path:
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
    _run_folder(config)
    stop = _stop_on_signals()
    if supervised:
        threading.Thread(target=_end_with_parent, name="parent-watch", daemon=True).start()
    tls.check(config)
    executor = engine.Executor(config, role, number)
    metrics.keep_in(hosts.metrics_folder(config), name)
    log.event("role started", pid=os.getpid())
    trail = Trail(config.audit, config.node.data, config.node.ae_title)
    if not supervised:
        trail.record(Event.APPLICATION_STARTED, by="node", words=name)
        if role != "web":
            _watched_alone(config, stop)
    _BODIES[role](config, executor, stop)
    if not supervised:
        trail.record(Event.APPLICATION_STOPPED, by="node", words=name)
    trail.close()
    log.event("role stopped")
    sys.stderr.flush()
    os._exit(0)


def _watched_alone(config: Config, stop: threading.Event) -> None:
    """Metrics and health of a role that no `serve` and no web page runs beside."""
    from dicomnode import health, listener

    listener.run_beside(health.app(config), config.metrics.bind, config.metrics.port, stop)


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


def _open(config: Config, executor: engine.Executor, stop: threading.Event) -> Ledger | None:
    """The ledger, waiting for its database as long as it takes; None when stopped meanwhile."""
    while not stop.is_set():
        try:
            return ready(config)
        except LedgerUnreachable as error:
            log.event("waiting for the database", level="error", reason=str(error))
        _alive(executor)
        stop.wait(5.0)
    return None


def _receive(config: Config, executor: engine.Executor, stop: threading.Event) -> None:
    from dicomnode.commitment_ledger import Commitments
    from dicomnode.commitment_scp import Provider
    from dicomnode.commitment_scu import Hearing
    from dicomnode.intake import Intake
    from dicomnode.proof_ledger import Proofs
    from dicomnode.receive import Receiver, Service

    _models_found(config)
    spool = Spool(config.node.data, config.receive.disk_reserve_bytes)
    spool.sweep()
    database = connect(database_url(config))
    commitment = Provider(config, Commitments(database), spool)
    services: list[Service] = [commitment, Hearing(Proofs(database))]
    trail = Trail(config.audit, config.node.data, config.node.ae_title)
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
    log.event("listening for DICOM", ae_title=config.node.ae_title, bind=config.node.bind, port=config.node.port)
    ledger = _open(config, executor, stop)
    if ledger is not None:
        commitment.start()
        receivers = _receivers(config, ledger, executor)
        intake = Intake(config, ledger, engine.Queues(ledger), spool, receiver, receivers)
        _each_tick(executor, stop, _first(intake.adopt), intake.tick)
    commitment.stop()
    receiver.stop(GRACE_S / 2)


def _synthesize(config: Config, executor: engine.Executor, stop: threading.Event) -> None:
    from dicomnode.conversion import Conversions

    ledger = _open(config, executor, stop)
    if ledger is None:
        return
    spool = Spool(config.node.data, config.receive.disk_reserve_bytes)
    spool.sweep()
    queues = engine.Queues(ledger)
    conversions = Conversions(config, ledger, queues, spool)
    engine.work_synthesize(ledger, executor.id, conversions.attempt)
    others = _among_others(config, ledger, queues, executor)
    _each_tick(executor, stop, conversions.end_what_hangs, others, _now_and_then(conversions.reconcile))


def _deliver(config: Config, executor: engine.Executor, stop: threading.Event) -> None:
    from dicomnode.attempt import Deliveries
    from dicomnode.commitment_scu import Asking
    from dicomnode.proof_ledger import Proofs
    from dicomnode.retention import Retention

    ledger = _open(config, executor, stop)
    if ledger is None:
        return
    queues, spool = engine.Queues(ledger), Spool(config.node.data)
    deliveries = Deliveries(config, ledger, queues, spool)
    asking = Asking(config, Proofs(ledger.engine), spool)
    engine.work_deliver(ledger, executor.id, deliveries.attempt)
    others = _among_others(config, ledger, queues, executor)
    prune = _now_and_then(lambda: queues.prune(engine.REMEMBERED_S), PRUNE_S)
    trail = Trail(config.audit, config.node.data, config.node.ae_title)
    delete = _now_and_then(Retention(config, ledger, spool, trail).run, PRUNE_S)
    _each_tick(executor, stop, others, _now_and_then(deliveries.reconcile), asking.tick, prune, delete)


def _check_page(config: Config) -> None:
    from dicomnode.users import check_reachable

    check_reachable(config)


def _web(config: Config, executor: engine.Executor, stop: threading.Event) -> None:
    from dicomnode import web

    _check_page(config)
    if _open(config, executor, stop) is not None:
        web.serve(config)


_BODIES: Final[dict[str, Callable[[Config, engine.Executor, threading.Event], None]]] = {
    "receive": _receive,
    "synthesize": _synthesize,
    "deliver": _deliver,
    "web": _web,
}


def _receivers(config: Config, ledger: Ledger, executor: engine.Executor) -> Receivers:
    """The other receivers on the database; on SQLite there is none."""
    from dicomnode.receivers import NoOther, Others

    return NoOther() if config.database == "sqlite" else Others(ledger.engine, executor.id, config.hosts.dead_after_s)


def _among_others(
    config: Config, ledger: Ledger, queues: engine.Queues, executor: engine.Executor
) -> Callable[[], None]:
    """What a worker does about other machines at each tick; on SQLite nothing."""
    if config.database == "sqlite":
        return lambda: None
    return hosts.Hosts(ledger, queues, config.hosts.dead_after_s, executor.id).tick


def _each_tick(executor: engine.Executor, stop: threading.Event, *works: Callable[[], object]) -> None:
    """Say that the role is alive and do its works, about every second, until stopped; a failure is logged."""
    while not stop.wait(TICK_S):
        _alive(executor)
        for work in works:
            try:
                work()
            except LedgerUnreachable as error:
                log.event("waiting for the database", level="error", reason=str(error))
                break
            except Exception:
                log.LOGGER.exception("tick failed, tried again")


def _alive(executor: engine.Executor) -> None:
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


# All roles


@dataclass
class Child:
    """A role's process under supervision."""

    role: str
    number: int
    process: subprocess.Popen[bytes]
    pulse: Pulse
    started_at: float = field(default_factory=time.monotonic)
    failures: int = 0
    restart_at: float | None = None


def serve(config: Config) -> None:
    """Run every role until SIGTERM or SIGINT.

    Raises ConfigError, PortTaken, RoleTaken before anything is started.
    """
    log.start("serve", config.log.level)
    stop = _stop_requested()
    _run_folder(config)
    _check_page(config)
    lock = engine.Executor(config, "serve", 0)
    ready(config).close()
    wait_for_orphans(config)
    check_ports(config)
    tls.check(config)
    metrics.keep_in(hosts.metrics_folder(config), "serve")
    trail = Trail(config.audit, config.node.data, config.node.ae_title)
    trail.record(Event.APPLICATION_STARTED, by="node")
    path = _serving_file(config)
    children = [_started(role, number, config, path) for role, number in _wanted(config)]
    log.event("node started", data=str(config.node.data), destinations=len(config.destinations))
    while not stop.wait(0.2):
        for child in children:
            _watch(child, config, path)
    _end(children)
    trail.record(Event.APPLICATION_STOPPED, by="node")
    trail.close()
    log.event("node stopped")
    lock.close()


def _stop_requested() -> threading.Event:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


def _wanted(config: Config) -> list[tuple[str, int]]:
    """Every process: role and number, in the order of start."""
    counts = {"synthesize": config.synthesize.workers}
    return [(role, number) for role in ROLES for number in range(counts.get(role, 1))]


def wait_for_orphans(config: Config) -> None:
    """Give the children of a killed predecessor the time to end. Raises RoleTaken when one stays."""
    deadline = time.monotonic() + 2 * GRACE_S
    for role, number in _wanted(config):
        while True:
            try:
                engine.Executor(config, role, number).close()
                break
            except RoleTaken:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)


def _wanted_ports(config: Config) -> Iterator[tuple[str, str, int]]:
    """Every TCP port that the node listens on: its key, address and number."""
    if config.tls.plain:
        yield "node.port", config.node.bind, config.node.port
    if config.tls.port is not None:
        yield "tls.port", config.node.bind, config.tls.port
    yield "web.port", config.web.bind, config.web.port
    yield "metrics.port", config.metrics.bind, config.metrics.port


def check_ports(config: Config) -> None:
    """Raise PortTaken, or ConfigError for an address that is not this machine's, before anything is started."""
    for key, bind, port in _wanted_ports(config):
        with socket.socket(socket.AF_INET6 if ":" in bind else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((bind, port))
            except PermissionError as error:
                raise ConfigError(key, f"port {port} needs more rights", "choose a port above 1023") from error
            except socket.gaierror as error:
                raise ConfigError(
                    key.replace("port", "bind"), f"{bind!r} is no address", "use 0.0.0.0 for all"
                ) from error
            except OSError as error:
                if error.errno == 98:
                    raise PortTaken(key, bind, port) from error
                raise ConfigError(key.replace("port", "bind"), f"{bind!r}: {error.strerror}", "use 0.0.0.0") from error


def _serving_file(config: Config) -> Path:
    """The configuration as this run of the node uses it, whatever happens to the file it came from."""
    path = _run_folder(config) / f"{hosts.name_of(config)}-serving.yaml"
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(configuration.dump(config))
    return path


def _started(role: str, number: int, config: Config, config_path: Path) -> Child:
    """A new process; its standard input is a pipe whose only other end is ours."""
    command = [sys.executable, "-m", "dicomnode.cli", role, "--config", str(config_path), "--supervised"]
    if role == "synthesize":
        command += ["--number", str(number)]
    pulse = Pulse(engine.lock_file(config, role, number))
    return Child(role, number, subprocess.Popen(command, stdin=subprocess.PIPE), pulse)  # noqa: S603, our own command


def _kill_if_hanging(child: Child, limit_s: float) -> None:
    """SIGKILL for a child that ticks no more; it is found ended at the next look."""
    silent_s = child.pulse.silent_s()
    if silent_s > limit_s:
        log.event("role hangs, killed", level="error", hanging=child.role, silent_s=round(silent_s))
        child.process.kill()
        child.process.wait()


def _watch(child: Child, config: Config, config_path: Path) -> None:
    """Start a child that has ended again, after a delay that grows while it keeps ending; kill one that hangs."""
    if child.restart_at is None:
        code = child.process.poll()
        if code is None:
            _kill_if_hanging(child, config.node.hang_timeout_s)
            return
        lived_s = time.monotonic() - child.started_at
        child.failures = 1 if lived_s > HEALTHY_S else child.failures + 1
        delay_s = engine.back_off_s(child.failures, RESTART_FIRST_S, RESTART_MAX_S, 0.5)
        child.restart_at = time.monotonic() + delay_s
        metrics.ROLE_RESTARTS.labels(role=child.role).inc()
        log.event("role ended, started again", level="error", ended=child.role, code=code, after_s=round(delay_s, 1))
    elif time.monotonic() >= child.restart_at:
        fresh = _started(child.role, child.number, config, config_path)
        child.process, child.started_at, child.restart_at = fresh.process, fresh.started_at, None
        child.pulse = fresh.pulse


def _end(children: list[Child]) -> None:
    """SIGTERM in reverse order, a grace, then SIGKILL: safe at any point, only less polite."""
    for child in reversed(children):
        child.process.terminate()
    deadline = time.monotonic() + GRACE_S + 2
    for child in reversed(children):
        try:
            child.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.process.kill()
            child.process.wait()
        if child.process.stdin is not None:
            child.process.stdin.close()
