"""A Storage SCP (PS3.4 B) that keeps objects in a folder: the destination of `sct-node demo` and of the tests.

    python -m dicomnode.cli.demo_archive FOLDER --port 0 --ae-title ARCHIVE

prints `listening on 127.0.0.1:PORT` and keeps every CT object, or companion of one, that it gets as
FOLDER/<SOPInstanceUID>.dcm, until SIGTERM.
`--answers A700,B000` gives these statuses (PS3.4 Table B.2-1, hexadecimal) to the first requests, so that a test can
see how a sender reacts; an instance whose status is a failure is not kept. It is no archive for patients' data.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.events import Event

from dicomnode.config.peers import Destination
from dicomnode.dimse.presentation_contexts import VERIFICATION
from dicomnode.receipt import outcome
from dicomnode.spool.instance_file import checked_uid
from pipeline.companions.kinds import COMPANIONS
from pipeline.durable_files import write_whole

START_TIMEOUT_S: Final = 30.0


class Archive:
    """The Storage SCP (PS3.4 B) of one folder; `answers` are the first statuses, Success follows."""

    def __init__(
        self, folder: Path, answers: Sequence[int] = (), delay_s: float = 0.0, *, implicit: bool = False
    ) -> None:
        self._folder = folder
        self._answers = list(answers)
        self._delay_s = delay_s
        self._lock = threading.Lock()
        self._syntaxes = [ImplicitVRLittleEndian] if implicit else [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
        folder.mkdir(parents=True, exist_ok=True)

    def listen(self, ae_title: str, bind: str, port: int) -> tuple[AE, int]:
        """Serve in threads; return the application entity (its `shutdown` ends it) and the port."""
        ae = AE(ae_title)
        ae.maximum_associations = 64
        ae.maximum_pdu_size = 0
        ae.add_supported_context(VERIFICATION)
        for sop_class in (CTImageStorage, *(one.sop_class_uid for one in COMPANIONS.values())):
            ae.add_supported_context(sop_class, self._syntaxes)
        server = ae.start_server((bind, port), block=False, evt_handlers=[(evt.EVT_C_STORE, self.answer)])
        assert server is not None
        return ae, int(server.server_address[1])

    def answer(self, event: Event) -> int:
        """Answer a C-STORE request (PS3.4 B.2.3); keep the instance unless the status is a failure."""
        time.sleep(self._delay_s)
        with self._lock:
            status = self._answers.pop(0) if self._answers else 0x0000
        if outcome(status) != "refused":
            uid = checked_uid(str(event.file_meta.MediaStorageSOPInstanceUID), "SOP Instance UID")
            write_whole(self._folder / f"{uid}.dcm", event.encoded_dataset())
        return status


@contextmanager
def serving(folder: Path, *options: str, ae_title: str = "ARCHIVE", port: int = 0) -> Iterator[Destination]:
    """Run an archive in a process of its own while the context lasts, as a destination named `archive`.

    `options` are further command-line options. Raises RuntimeError when it does not start.
    """
    command = [
        sys.executable,
        "-m",
        "dicomnode.cli.demo_archive",
        str(folder),
        "--port",
        str(port),
        "--ae-title",
        ae_title,
    ]
    process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True)  # noqa: S603 - our own module
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.startswith("listening on "):
            raise RuntimeError(f"the archive did not start (exit status {process.wait(START_TIMEOUT_S)})")
        yield Destination("archive", ae_title, "127.0.0.1", int(line.rpartition(":")[2]))
    finally:
        process.terminate()
        process.communicate(timeout=START_TIMEOUT_S)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT."""
    options = command_line().parse_args(arguments)
    archive = Archive(options.folder, options.answers, options.delay_s, implicit=options.implicit)
    ae, port = archive.listen(options.ae_title, options.bind, options.port)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    sys.stdout.write(f"listening on {options.bind}:{port}\n")
    sys.stdout.flush()
    ended.wait()
    ae.shutdown()
    return 0


def command_line() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m dicomnode.cli.demo_archive", description="A folder that speaks C-STORE."
    )
    parser.add_argument("folder", type=Path, help="where the objects are kept")
    parser.add_argument("--bind", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=0, help="TCP port; 0 takes a free one and prints it")
    parser.add_argument("--ae-title", default="ARCHIVE", help="Application Entity title")
    parser.add_argument("--answers", type=statuses, default=[], help="statuses of the first answers, such as A700,B000")
    parser.add_argument("--delay-s", type=float, default=0.0, help="wait before each answer")
    parser.add_argument("--implicit", action="store_true", help="accept Implicit VR Little Endian only (PS3.5 A.1)")
    return parser


def statuses(text: str) -> list[int]:
    """Read hexadecimal statuses, separated by commas."""
    return [int(word, 16) for word in text.split(",") if word]


if __name__ == "__main__":
    raise SystemExit(main())
