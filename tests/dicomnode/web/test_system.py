"""The system page over a real socket, in a real browser, with real destinations."""

import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dicomnode.config.load import Config
from dicomnode.config.peers import Destination
from dicomnode.config.sections import Node
from dicomnode.ledger.database import database_url
from dicomnode.ledger.ledger import Ledger
from dicomnode.quality import constancy_runs
from dicomnode.quality.constancy_runs import Outcome
from dicomnode.security.users import Role, Users
from dicomnode.web import app, health, server, system

PASSWORD = "correct horse battery"
Ask = Callable[..., Any]


@dataclass(frozen=True)
class Plant:
    """A page whose destination `planning` is dcmtk's storescp, and whose `archive` is down."""

    url: str
    ledger: Ledger
    jobs: dict[str, str]
    config: Config


@pytest.fixture
def plant(tmp_path: Path, program: Any, free_port: Any, filled: Any, running: Any) -> Iterator[Plant]:
    port = free_port()
    destinations = (
        Destination("planning", "TPS", "127.0.0.1", port, timeout_s=5.0),
        Destination("archive", "ARCHIVE", "127.0.0.1", free_port(), profile="generic"),
    )
    config = Config(node=Node(data=tmp_path / "data"), destinations=destinations)
    (tmp_path / "data").mkdir()
    ledger = Ledger(database_url(config))
    jobs = filled(ledger)
    Users(tmp_path / "data" / "users.json").add("vic", Role.VIEWER, PASSWORD)
    with subprocess.Popen([program("storescp"), "--output-directory", str(tmp_path), str(port)]) as peer:
        wait_for(port)
        with running(server.server(app.app(config), "127.0.0.1", free_port())) as url:
            yield Plant(url, ledger, jobs, config)
        peer.terminate()
    ledger.close()


def wait_for(port: int) -> None:
    """Until something listens there."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with socket.socket() as one:
            if one.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError(f"nothing listens on {port}")


def check(ledger: Ledger, passed: bool, hu: float | None, words: str) -> None:
    """A run of the constancy check, begun and ended."""
    number = constancy_runs.begin(ledger.engine, "node/synthesize/0", "limb-t1-ldm", "ab" * 32)
    came = Outcome(passed, words, hu, None if hu is None else 0.0, device="" if hu is None else "cpu", seconds=12.0)
    constancy_runs.end(ledger.engine, number, came)


def test_it_says_what_waits_who_works_and_whether_the_weights_are_those_of_the_card(site: Any, ask: Ask) -> None:
    text = ask(f"{site.url}/system").text
    assert re.search(r'id="queue-synthesize".*?data-label="Waiting">1<', text, re.S)
    assert re.search(r'id="queue-person".*?data-label="Waiting">1<', text, re.S)
    assert "limb-t1-ldm" in text
    assert "as in the card" in text
    assert "GiB are free" in text
    assert "TPS at 127.0.0.1:104" in text
    assert not any(job[:12] in text for job in site.jobs.values()), "it says nothing of any case"


def test_a_model_whose_weights_are_not_those_of_its_card_is_named(tmp_path: Path) -> None:
    card = (Path(app.__file__).parents[2] / "models/shipped/limb-t1-ldm.json").read_text()
    (tmp_path / "limb-t1-ldm.json").write_text(card)
    (tmp_path / "limb-t1-ldm.safetensors").write_bytes(b"other weights")
    [found] = system.models(Config(model=str(tmp_path)))
    assert "the weights have SHA-256" in found.wrong
    [missing] = system.models(Config(model="nowhere"))
    assert "no model 'nowhere'" in missing.wrong


def test_a_process_that_was_not_heard_from_for_long_counts_as_silent(tmp_path: Path) -> None:
    config = Config(node=Node(data=tmp_path))
    ledger = Ledger(database_url(config))
    assert health.processes(config, ledger, time.time()) == []
    assert [health.NodeProcess("web", "web", silent_s).gone for silent_s in (1.0, 31.0)] == [False, True]
    ledger.close()


def test_who_is_not_signed_in_asks_no_destination(plant: Plant, site: Any, ask: Ask) -> None:
    form = {"content-type": "application/x-www-form-urlencoded", "origin": plant.url}
    assert ask(f"{plant.url}/system/echo", "POST", "destination=planning&token=", form).status == 403
    assert "/system/echo" not in ask(f"{site.url}/system").text


def test_a_viewer_asks_each_destination_and_reads_what_it_answers(plant: Plant, browser: Any, tmp_path: Path) -> None:
    check(plant.ledger, True, 0.4, "all tissues within 5 HU")
    check(plant.ledger, True, 2.1, "all tissues within 5 HU")
    check(plant.ledger, False, None, "its process ended before the run did")
    check(plant.ledger, False, 31.0, "muscle is 31 HU off its reference")
    browser.open(tmp_path / "profile", 390, dark=True)
    browser.go(f"{plant.url}/sign-in?next=/system")
    browser.run(
        "const form = document.querySelector('.card'); form.name.value = 'vic';"
        f"form.password.value = '{PASSWORD}'; form.submit()"
    )
    waited(browser, "location.pathname === '/system'")
    for name, answer in (("planning", "answers C-ECHO"), ("archive", "cannot be reached")):
        browser.run(f"document.querySelector('#to-{name} button').click()")
        assert answer in waited(browser, f"document.querySelector('#to-{name} .arrow')?.textContent")
    (tmp_path / "system.png").write_bytes(browser.screenshot())
    browser.run("document.querySelector('#constancy').scrollIntoView()")
    (tmp_path / "constancy.png").write_bytes(browser.screenshot())
    text = browser.run("return document.body.innerText")
    assert "FAILED: muscle is 31 HU off its reference" in text
    assert "4 checks, 2 failed, at most 31.0 HU" in text
    assert browser.run("return document.querySelector('.trend polyline').points.numberOfItems") == 3
    assert browser.run("return document.documentElement.scrollWidth") == 390


def waited(browser: Any, script: str) -> Any:
    """The value of a script in the page, once it is true."""
    deadline = time.monotonic() + 30
    while not (found := browser.run(f"return {script}")):
        assert time.monotonic() < deadline, script
        time.sleep(0.05)
    return found
