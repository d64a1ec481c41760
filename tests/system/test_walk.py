"""The walk that README shows, in a real browser beside a real node: a case is held, looked at and released.

SCT_RECORDING=FOLDER makes the pictures of README there: the shipped model takes the place of one that nobody trained,
and the phantom is that of the demo.
"""

import io
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import tiny
from PIL import Image, ImageChops

from dicomnode.config import load as config
from dicomnode.config.load import Config
from dicomnode.config.peers import Destination
from dicomnode.config.sections import Metrics, Node, Quality, Receive, Web
from dicomnode.ledger.database import database_url
from dicomnode.ledger.ledger import Ledger
from dicomnode.ledger.states import State
from dicomnode.security.users import Role, Users
from pipeline.phantom.mr_series import write_mr_series
from pipeline.phantom.thigh import axial_grid, thigh

RECORDING = os.environ.get("SCT_RECORDING", "")
PUBLISHED = {"held": 2, "case": 6, "delivered": 8}
"""Picture of README -> which of the recording it is."""
WIDTH = 960
"""Of README's pictures, in pixels."""
PASSWORD = "correct horse battery"
WORDS = "outline and bone lie where the MR has them"
WAIT_S = 120.0


@dataclass(frozen=True)
class Walked:
    """A node that runs, its ledger, its page, and where its planning system keeps what it gets."""

    config: Config
    ledger: Ledger
    url: str
    received: Path


@dataclass
class Recording:
    """What a browser shows, picture by picture."""

    browser: Any
    pictures: list[Image.Image] = field(default_factory=list)

    def take(self) -> None:
        """One picture more, once the page looks other than in the last one: a slow machine draws late."""
        self.pictures.append(until(self._other, "another picture"))

    def _other(self) -> Image.Image | None:
        seen = Image.open(io.BytesIO(self.browser.screenshot())).convert("RGB")
        same = self.pictures and ImageChops.difference(seen, self.pictures[-1]).getbbox() is None
        return None if same else seen

    def keep(self, path: Path) -> None:
        """As one file that plays: 2.5 s a picture, the last one longer."""
        lasts = [2500] * (len(self.pictures) - 1) + [5000]
        self.pictures[0].save(path, save_all=True, append_images=self.pictures[1:], duration=lasts, loop=0)

    def publish(self, folder: Path) -> None:
        """README's pictures: small, of 64 colours, without the empty part below the page."""
        for name, number in PUBLISHED.items():
            whole = self.pictures[number]
            ground = Image.new("RGB", whole.size, whole.getpixel((0, whole.height - 1)))
            bottom = (ImageChops.difference(whole, ground).getbbox() or (0, 0, 0, whole.height))[3]
            cut = whole.crop((0, 0, whole.width, min(bottom + 8, whole.height)))
            small = cut.resize((WIDTH, cut.height * WIDTH // cut.width), Image.Resampling.LANCZOS)
            small.quantize(64).save(folder / f"{name}.png", optimize=True)


@contextmanager
def started(command: list[str], log: Path, port: int) -> Iterator[None]:
    """A program that listens on a port, until it is left."""
    with log.open("wb") as said, subprocess.Popen(command, stdout=said, stderr=said) as process:
        try:
            until(lambda: listens(port) or process.poll() is not None, log.name)
            assert process.poll() is None, log.read_text()[-3000:]
            yield
        finally:
            process.terminate()
            process.wait(30)


def listens(port: int) -> bool:
    """Whether something accepts connections there."""
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def until(true: Callable[[], Any], what: str) -> Any:
    """What `true()` returns once it is true."""
    deadline = time.monotonic() + WAIT_S
    while not (found := true()):
        assert time.monotonic() < deadline, what
        time.sleep(0.1)
    return found


@pytest.fixture
def walked(tmp_path: Path, program: Callable[[str], str], free_port: Callable[[], int]) -> Iterator[Walked]:
    received, port = tmp_path / "received", free_port()
    received.mkdir()
    chosen = Config(
        node=Node(port=free_port(), data=tmp_path / "data"),
        web=Web(port=free_port()),
        metrics=Metrics(port=free_port()),
        receive=Receive(disk_reserve_bytes=0),
        model="limb-t1-ldm" if RECORDING else str(tiny.write_model(tmp_path / "model")),
        device="cpu",
        quality=Quality(gate="always_hold"),
        destinations=(Destination("planning", "TPS", "127.0.0.1", port, timeout_s=20.0),),
    )
    (tmp_path / "data").mkdir()
    (tmp_path / "node.yaml").write_text(config.dump(chosen))
    Users(tmp_path / "data" / "users.json").add("jane", Role.PHYSICIST, PASSWORD)
    serve = [sys.executable, "-m", "dicomnode.cli.main", "serve", "--config", str(tmp_path / "node.yaml")]
    with ExitStack() as stack:
        planning = [program("storescp"), "--output-directory", str(received), str(port)]
        stack.enter_context(started(planning, tmp_path / "storescp.log", port))
        stack.enter_context(started(serve, tmp_path / "node.log", chosen.node.port))
        until(lambda: listens(chosen.web.port), "the page")
        ledger = Ledger(database_url(chosen))
        yield Walked(chosen, ledger, f"http://127.0.0.1:{chosen.web.port}", received)
        ledger.close()


def shown(browser: Any, script: str) -> Any:
    """The value of a script in the page once it is true."""
    return until(lambda: browser.run(f"return {script}"), script)


def typed(browser: Any, selector: str, text: str) -> None:
    """Type into a field."""
    element = browser.call("/element", {"using": "css selector", "value": selector})
    browser.call(f"/element/{next(iter(element.values()))}/value", {"text": text})


def clicked(browser: Any, selector: str) -> None:
    """Click what is there."""
    element = browser.call("/element", {"using": "css selector", "value": selector})
    browser.call(f"/element/{next(iter(element.values()))}/click", {})


def test_a_case_is_held_looked_at_and_released_and_the_planning_system_gets_it(
    walked: Walked, browser: Any, program: Callable[[str], str], tmp_path: Path
) -> None:
    size = ((36, 192, 192), (3.3, 1.0, 1.0)) if RECORDING else ((16, 64, 64), (6.0, 3.0, 3.0))
    mr = thigh(axial_grid(*size)).mr
    files = write_mr_series(mr, tmp_path / "scanner")
    browser.open(tmp_path / "profile", 1280, dark=False, graphics=True)
    film = Recording(browser)

    browser.go(walked.url)
    typed(browser, "[name=name]", "jane")
    typed(browser, "[name=password]", PASSWORD)
    film.take()
    clicked(browser, ".card button")
    shown(browser, "document.body.innerText.includes('No case yet')")
    film.take()

    send = [program("storescu"), "-aec", walked.config.node.ae_title, "127.0.0.1", str(walked.config.node.port)]
    subprocess.run([*send, *map(str, files)], check=True, capture_output=True, timeout=60)
    shown(browser, "document.querySelector('#cases .state.held')")
    film.take()
    [job] = walked.ledger.jobs()
    assert "every case is held for a person" in browser.run("return document.querySelector('#cases').innerText")
    assert list(walked.received.iterdir()) == [], "nothing is sent before somebody has looked"

    clicked(browser, f"a[href='/jobs/{job.job}']")
    shown(browser, "document.querySelector('#views input[value=ct]')?.disabled === false")
    film.take()
    for view in ("ct", "fused"):
        clicked(browser, f"#views input[value={view}]")
        time.sleep(0.5)
        film.take()
    assert walked.ledger.job(job.job).held

    typed(browser, "[name=reason]", WORDS)
    film.take()
    clicked(browser, "[formaction$=release]")
    shown(browser, "document.querySelector('#state .state.delivered')")
    film.take()
    clicked(browser, ".pages a")
    shown(browser, "document.querySelector('#cases .arrow.done')")
    film.take()

    assert walked.ledger.job(job.job).state is State.DELIVERED
    assert len(list(walked.received.iterdir())) == walked.ledger.job(job.job).ct_instances
    [released] = [one for one in walked.ledger.events(job.job) if one.event == "released"]
    assert (released.by, released.words) == ("web:jane", WORDS)
    film.keep(tmp_path / "recording.png")
    with Image.open(tmp_path / "recording.png") as kept:
        assert getattr(kept, "n_frames", 1) == len(film.pictures)
    if RECORDING:
        film.publish(Path(RECORDING))
