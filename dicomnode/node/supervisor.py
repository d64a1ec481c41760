"""`sct-node serve`: every role of a node on one machine, each a process that is started again when it ends or hangs.

Roles start in the order of `node.ROLES` and stop in reverse. One that ends is started again, with a growing delay.
When the supervisor itself is killed, its children see their standard input close and end too.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from dicomnode import log, metrics
from dicomnode.config.load import Config, dump
from dicomnode.config.sections import Kind
from dicomnode.engine import executor
from dicomnode.engine.contract import back_off_s
from dicomnode.engine.executor import Heartbeat
from dicomnode.errors import ConfigError, LedgerUnreachable, PortTaken, RoleTaken
from dicomnode.ledger import notices
from dicomnode.ledger.database import database_url, transaction
from dicomnode.ledger.ledger import Ledger
from dicomnode.node.roles import GRACE_S, ROLES, check_page, ready, run_folder
from dicomnode.security import tls
from dicomnode.security.audit_trail import AuditTrail, Event

RESTART_FIRST_S: Final = 0.5
RESTART_MAX_S: Final = 30.0
HEALTHY_S: Final = 60.0
TOLD_AT: Final = 3
"""A process that has ended so often, each time within HEALTHY_S, is a failure that people are told of, once."""


@dataclass
class Child:
    """A role's process under supervision."""

    role: str
    number: int
    process: subprocess.Popen[bytes]
    pulse: Heartbeat
    started_at: float = field(default_factory=time.monotonic)
    failures: int = 0
    restart_at: float | None = None


def serve(config: Config) -> None:
    """Run every role until SIGTERM or SIGINT.

    Raises ConfigError, PortTaken, RoleTaken before anything is started.
    """
    log.start("serve", config.log.level)
    stop = _stop_requested()
    run_folder(config)
    check_page(config)
    lock = executor.Executor(config, "serve", 0)
    ready(config).close()
    wait_for_orphans(config)
    check_ports(config)
    tls.check(config)
    metrics.keep_in(executor.metrics_folder(config), "serve")
    metrics.start_at_zero("serve", ())
    trail = AuditTrail(config.audit, config.node.data, config.node.ae_title)
    trail.record(Event.APPLICATION_STARTED, by="node")
    path = _serving_file(config)
    children = [_started(role, number, config, path) for role, number in _wanted(config)]
    log.event("node_started", data=str(config.node.data), destinations=len(config.destinations))
    while not stop.wait(0.2):
        for child in children:
            _watch(child, config, path)
    _end(children)
    trail.record(Event.APPLICATION_STOPPED, by="node")
    trail.close()
    log.event("node_stopped")
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
        while not _free(config, role, number, deadline):
            time.sleep(0.1)


def _free(config: Config, role: str, number: int, deadline: float) -> bool:
    """Whether no process has the role. Raises RoleTaken when one has it beyond the deadline."""
    try:
        executor.Executor(config, role, number).close()
    except RoleTaken:
        if time.monotonic() > deadline:
            raise
        return False
    return True


def listening_ports(config: Config) -> Iterator[tuple[str, str, int]]:
    """Every TCP port that the node listens on: its key, address and number."""
    if config.tls.plain:
        yield "node.port", config.node.bind, config.node.port
    if config.tls.port is not None:
        yield "tls.port", config.node.bind, config.tls.port
    yield "web.port", config.web.bind, config.web.port
    yield "metrics.port", config.metrics.bind, config.metrics.port


def check_ports(config: Config) -> None:
    """Raise PortTaken, or ConfigError for an address that is not this machine's, before anything is started."""
    for key, bind, port in listening_ports(config):
        address = key.replace("port", "bind")
        try:
            _try_port(bind, port)
        except PermissionError as error:
            raise ConfigError(key, f"port {port} needs more rights", "choose a port above 1023") from error
        except socket.gaierror as error:
            raise ConfigError(address, f"{bind!r} is no address", "use 0.0.0.0 for all") from error
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise PortTaken(key, bind, port) from error
            raise ConfigError(address, f"{bind!r}: {error.strerror}", "use 0.0.0.0") from error


def _try_port(bind: str, port: int) -> None:
    """Bind the port, and let it go. Raises OSError."""
    with socket.socket(socket.AF_INET6 if ":" in bind else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((bind, port))


def _serving_file(config: Config) -> Path:
    """The configuration as this run of the node uses it, whatever happens to the file it came from."""
    path = run_folder(config) / f"{executor.name_of(config)}-serving.yaml"
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(dump(config))
    return path


def _started(role: str, number: int, config: Config, config_path: Path) -> Child:
    """A new process; its standard input is a pipe whose only other end is ours."""
    command = [sys.executable, "-m", "dicomnode.cli.main", role, "--config", str(config_path), "--supervised"]
    if role == "synthesize":
        command += ["--number", str(number)]
    pulse = Heartbeat(executor.lock_file(config, role, number))
    return Child(role, number, subprocess.Popen(command, stdin=subprocess.PIPE), pulse)  # noqa: S603, our own command


def _kill_if_hanging(child: Child, config: Config) -> None:
    """SIGKILL for a child that ticks no more; it is found ended at the next look."""
    silent_s = child.pulse.silent_s()
    if silent_s > config.node.hang_timeout_s:
        log.event("role_killed", level="error", hanging=child.role, silent_s=round(silent_s))
        child.process.kill()
        child.process.wait()
        _tell(config, "ROLE_HANGS", f"the {child.role} process showed no sign of life for {silent_s:.0f} s")


def _tell(config: Config, code: str, words: str) -> None:
    """Have people told, from a thread of its own: a database that does not answer delays no restart."""
    threading.Thread(target=_note, args=(config, code, words), name="tell", daemon=True).start()


def _note(config: Config, code: str, words: str) -> None:
    """Put a failure of the node into the queue of notices; a database that cannot be reached is logged."""
    ledger = Ledger(database_url(config))
    try:
        with transaction(ledger.engine) as connection:
            notices.put(connection, Kind.FAILURE, code, words)
    except LedgerUnreachable as error:
        log.event("notice_not_written", level="error", code=code, reason=str(error))
    finally:
        ledger.close()


def _watch(child: Child, config: Config, config_path: Path) -> None:
    """Start a child that has ended again, after a delay that grows while it keeps ending; kill one that hangs."""
    if child.restart_at is None:
        code = child.process.poll()
        if code is None:
            _kill_if_hanging(child, config)
            return
        lived_s = time.monotonic() - child.started_at
        child.failures = 1 if lived_s > HEALTHY_S else child.failures + 1
        delay_s = back_off_s(child.failures, RESTART_FIRST_S, RESTART_MAX_S, 0.5)
        child.restart_at = time.monotonic() + delay_s
        metrics.ROLE_RESTARTS.labels(role=child.role).inc()
        log.event("role_restarted", level="error", ended=child.role, code=code, after_s=round(delay_s, 1))
        if child.failures == TOLD_AT:
            _tell(config, "ROLE_KEEPS_ENDING", f"the {child.role} process ended {TOLD_AT} times, last with code {code}")
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
