"""`sct-node serve`: every role of a node on one machine, each a process that is started again when it ends or hangs.

Roles start in the order of `roles.ROLES` and stop in reverse. One that ends is started again, with a growing delay.
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
from dicomnode.node.roles import GRACE_S, ROLES, check_page, prepare_node, run_folder
from dicomnode.security import tls
from dicomnode.security.audit_trail import AuditTrail, Event

RESTART_FIRST_S: Final = 0.5
RESTART_MAX_S: Final = 30.0
HEALTHY_S: Final = 60.0
NOTIFIED_AT: Final = 3
"""After so many ends in a row, each within HEALTHY_S of the start, people get one notice of the failure."""


@dataclass
class Child:
    """The process of a role under supervision."""

    role: str
    number: int
    process: subprocess.Popen[bytes]
    pulse: Heartbeat
    started_at: float = field(default_factory=time.monotonic)
    failures: int = 0
    restart_at: float | None = None


def serve(config: Config) -> None:
    """Run every role until SIGTERM or SIGINT.

    Raises:
        ConfigError, PortTaken, RoleTaken: before anything is started.
    """
    log.start("serve", config.log.level)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    run_folder(config)
    check_page(config)
    lock = executor.Executor(config, "serve", 0)
    prepare_node(config).close()
    wait_for_orphans(config)
    check_ports(config)
    tls.check(config)
    metrics.keep_in(executor.metrics_folder(config), "serve")
    metrics.start_at_zero("serve", ())
    trail = AuditTrail(config.audit, config.node.data, config.node.ae_title)
    trail.record(Event.APPLICATION_STARTED, by="node")
    path = write_serving_file(config)
    children = [_started(role, number, config, path) for role, number in _wanted(config)]
    log.event("node_started", data=str(config.node.data), destinations=len(config.destinations))
    while not stop.wait(0.2):
        for child in children:
            watch(child, config, path)
    end(children)
    trail.record(Event.APPLICATION_STOPPED, by="node")
    trail.close()
    log.event("node_stopped")
    lock.close()


def _wanted(config: Config) -> list[tuple[str, int]]:
    """Return every process, role and number, in the order of start."""
    counts = {"synthesize": config.synthesize.workers}
    return [(role, number) for role in ROLES for number in range(counts.get(role, 1))]


def wait_for_orphans(config: Config) -> None:
    """Give the children of a killed predecessor the time to end. Raises RoleTaken when one stays."""
    deadline = time.monotonic() + 2 * GRACE_S
    waiting = _wanted(config)
    while waiting:
        try:
            executor.Executor(config, *waiting[0]).close()
            waiting.pop(0)
        except RoleTaken:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def listening_ports(config: Config) -> Iterator[tuple[str, str, int]]:
    """Yield every TCP port that the node listens on (DICOM: PS3.8 9.1): its key, address and number."""
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
            with socket.socket(socket.AF_INET6 if ":" in bind else socket.AF_INET) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((bind, port))
        except PermissionError as error:
            raise ConfigError(key, f"port {port} needs more rights", "choose a port above 1023") from error
        except socket.gaierror as error:
            raise ConfigError(address, f"{bind!r} is no address", "use 0.0.0.0 for all") from error
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise PortTaken(key, bind, port) from error
            raise ConfigError(address, f"{bind!r}: {error.strerror}", "use 0.0.0.0") from error


def write_serving_file(config: Config) -> Path:
    """Write the configuration of this run, which no later change of the original file reaches; return its path."""
    path = run_folder(config) / f"{executor.name_of(config)}-serving.yaml"
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(dump(config))
    return path


def _started(role: str, number: int, config: Config, config_path: Path) -> Child:
    """Start a process; its standard input is a pipe whose only other end is ours."""
    command = [sys.executable, "-m", "dicomnode.cli.main", role, "--config", str(config_path), "--supervised"]
    if role == "synthesize":
        command += ["--number", str(number)]
    pulse = Heartbeat(executor.lock_file(config, role, number))
    return Child(role, number, subprocess.Popen(command, stdin=subprocess.PIPE), pulse)  # noqa: S603, our own command


def notify_failure(config: Config, code: str, words: str) -> None:
    """Put a failure of the node into the queue of notices to people.

    It is done in a thread of its own: a database that does not answer delays no restart.
    """

    def note() -> None:
        ledger = Ledger(database_url(config))
        try:
            with transaction(ledger.engine) as connection:
                notices.put(connection, Kind.FAILURE, code, words)
        except LedgerUnreachable as error:
            log.event("notice_not_written", level="error", code=code, reason=str(error))
        finally:
            ledger.close()

    threading.Thread(target=note, name="notify-failure", daemon=True).start()


def watch(child: Child, config: Config, config_path: Path) -> None:
    """Start a child that has ended again, after a delay that grows while it keeps ending; kill one that hangs.

    A killed child is found ended at the next look.
    """
    if child.restart_at is not None:
        if time.monotonic() >= child.restart_at:
            fresh = _started(child.role, child.number, config, config_path)
            child.process, child.started_at, child.restart_at = fresh.process, fresh.started_at, None
            child.pulse = fresh.pulse
        return
    code = child.process.poll()
    if code is not None:
        lived_s = time.monotonic() - child.started_at
        child.failures = 1 if lived_s > HEALTHY_S else child.failures + 1
        delay_s = back_off_s(child.failures, RESTART_FIRST_S, RESTART_MAX_S, 0.5)
        child.restart_at = time.monotonic() + delay_s
        metrics.ROLE_RESTARTS.labels(role=child.role).inc()
        log.event("role_restarted", level="error", ended=child.role, code=code, after_s=round(delay_s, 1))
        if child.failures == NOTIFIED_AT:
            words = f"the {child.role} process ended {NOTIFIED_AT} times, last with code {code}"
            notify_failure(config, "ROLE_KEEPS_ENDING", words)
        return
    silent_s = child.pulse.silent_s()
    if silent_s > config.node.hang_timeout_s:
        log.event("role_killed", level="error", hanging=child.role, silent_s=round(silent_s))
        child.process.kill()
        child.process.wait()
        words = f"the {child.role} process showed no sign of life for {silent_s:.0f} s"
        notify_failure(config, "ROLE_HANGS", words)


def end(children: list[Child]) -> None:
    """End all children: SIGTERM in reverse order and, 2 s after GRACE_S, SIGKILL, which is safe at any point."""
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
