"""A PostgreSQL server of one's own: in a temporary folder, on a free loopback port, without a password.

    python tests/support/postgres.py                     starts one, prints its database's URL, ends with Ctrl-C
    python tests/support/postgres.py -- COMMAND ...      the URL is in the command's SCT_DATABASE

As root the server runs as `nobody`, since PostgreSQL refuses to run as root. `Postgres` is the same for tests.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

UNPRIVILEGED = "nobody"
USER = "sct"


class Missing(Exception):
    """PostgreSQL is not installed."""


class Postgres:
    """One server. `start` after `stop` keeps port and data, so that clients find it again."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder = folder
        self.port = _free_port()
        self._listens = "127.0.0.1"
        self._programs = programs
        if os.geteuid() == 0:
            shutil.chown(folder, UNPRIVILEGED)
        self._run("initdb", "--no-sync", "--auth=trust", f"--username={USER}", "data")

    def start(self) -> None:
        """Start, and wait until it answers. It is as durable as PostgreSQL is by default."""
        options = f"-p {self.port} -k {self.folder} -c listen_addresses={self._listens} -c max_connections=200"
        self._run("pg_ctl", "start", "--wait", "-D", "data", "-l", "log", "-o", options)

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stop; `immediate` is a crash: no checkpoint, every connection cut, recovery at the next start."""
        self._run("pg_ctl", "stop", "--wait", "-D", "data", "-m", mode)

    def admit(self, network: str) -> None:
        """Let machines of another network in too; starts it anew."""
        with (self.folder / "data" / "pg_hba.conf").open("a") as file:
            file.write(f"host all all {network} trust\n")
        self._listens = "*"
        self.stop()
        self.start()

    def url(self, database: str = "postgres", host: str = "127.0.0.1") -> str:
        """The URL of a database, as `database:` of a configuration takes it."""
        return f"postgresql://{USER}@{host}:{self.port}/{database}"

    def new_database(self) -> str:
        """The URL of a new and empty database."""
        name = f"sct_{secrets.token_hex(4)}"
        self.ask(f"CREATE DATABASE {name}")
        return self.url(name)

    def ask(self, sql: str, database: str = "postgres") -> str:
        """What psql prints for a statement, unaligned, without headings."""
        return self._run("psql", "--no-psqlrc", "-v", "ON_ERROR_STOP=1", "-Atc", sql, self.url(database)).strip()

    def dump(self, database: str) -> str:
        """A database as pg_dump writes it, without the random key of each dump."""
        lines = self._run("pg_dump", "--inserts", self.url(database)).splitlines()
        return "\n".join(line for line in lines if not line.startswith(("\\restrict", "\\unrestrict")))

    def _run(self, program: str, *arguments: str) -> str:
        """Run one of PostgreSQL's programs as an unprivileged user; RuntimeError with what it said when it fails."""
        command = [str(self._programs / program), *arguments]
        user = pwd.getpwnam(UNPRIVILEGED) if os.geteuid() == 0 else None
        said = self.folder / "said"  # not a pipe: the server would inherit its other end and keep it open
        with said.open("wb") as file:
            code = subprocess.run(
                command,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env={"PATH": os.defpath, "LC_ALL": "C.UTF-8", "HOME": str(self.folder)},
                timeout=120,
                user=user.pw_uid if user else None,
                group=user.pw_gid if user else None,
                extra_groups=[] if user else None,
            ).returncode
        if code:
            raise RuntimeError(f"{program} failed:\n{said.read_text()}")
        return said.read_text()


@contextmanager
def running() -> Iterator[Postgres]:
    """A server while the context lasts. Raises Missing where PostgreSQL is not installed."""
    programs = _programs()
    with tempfile.TemporaryDirectory(prefix="sct-postgres-", dir="/tmp") as folder:  # a short path: Unix sockets
        server = Postgres(Path(folder), programs)
        server.start()
        try:
            yield server
        finally:
            server.stop("immediate")


def _programs() -> Path:
    """The folder of initdb, pg_ctl and psql: Debian keeps them off the PATH, one folder a version."""
    found = shutil.which("initdb")
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    if not (found or versions):
        raise Missing("PostgreSQL is not installed (Debian package postgresql)")
    return Path(found).resolve().parent if found else versions[-1].parent


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def main(arguments: list[str]) -> int:
    """Run a server with a command, or until Ctrl-C or SIGTERM."""
    command = arguments[1:] if arguments[:1] == ["--"] else arguments
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with running() as server:
            url = server.new_database()
            if command:
                return subprocess.run(command, env={**os.environ, "SCT_DATABASE": url}, check=False).returncode
            sys.stdout.write(url + "\n")
            sys.stdout.flush()
            signal.pause()
    except KeyboardInterrupt:
        pass
    except Missing as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
