"""A page that is served over a real socket, what is asked of it, and a real browser."""

import base64
import contextlib
import datetime
import http.client
import json
import re
import shutil
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import argon2
import pytest
import uvicorn
from starlette.types import ASGIApp

from dicomnode.config.load import Config
from dicomnode.config.peers import Destination
from dicomnode.config.sections import Node
from dicomnode.engine import queues
from dicomnode.ledger.database import database_url
from dicomnode.ledger.ledger import Ledger
from dicomnode.ledger.rows import Plan
from dicomnode.receipt import Receipt
from dicomnode.security import users
from dicomnode.web import app as web
from dicomnode.web import health
from dicomnode.web import server as listener

PASSWORD = "correct horse battery"
NOW = datetime.datetime.now(datetime.UTC)


@dataclass(frozen=True)
class Site:
    """A page that is served, the health beside it, and what it shows."""

    url: str
    health: str
    config: Config
    ledger: Ledger
    jobs: dict[str, str]
    users: Path


@dataclass(frozen=True)
class Answer:
    """What a server answers."""

    status: int
    headers: dict[str, str]
    text: str
    cookies: tuple[str, ...] = ()


def asked(
    url: str, method: str = "GET", body: bytes | str | None = None, headers: Mapping[str, str] | None = None
) -> Answer:
    """One request on a connection of its own; no redirect is followed."""
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        connection.request(method, target, body, dict(headers or {}))
        answer = connection.getresponse()
        cookies = tuple(answer.headers.get_all("set-cookie") or ())
        named = {name.lower(): value for name, value in answer.headers.items()}
        return Answer(answer.status, named, answer.read().decode(), cookies)
    finally:
        connection.close()


class Person:
    """Somebody with a browser: keeps cookies, sends forms as a browser does."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.cookies: dict[str, str] = {}

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Load a page; no redirect is followed."""
        return self._kept(asked(self.url + path, headers=self._headers() | dict(headers or {})))

    def send(self, path: str, fields: Mapping[str, str] | list[tuple[str, str]], **headers: str) -> Answer:
        """Send a form; `headers` replace a browser's own (an empty one is left out)."""
        own = {"origin": self.url, "content-type": "application/x-www-form-urlencoded"}
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        chosen = {name: value for name, value in (own | given).items() if value}
        return self._kept(asked(self.url + path, "POST", urllib.parse.urlencode(fields), chosen | self._headers()))

    def sign_in(self, name: str, password: str = PASSWORD, **fields: str) -> Answer:
        """Load the form, fill it in and send it."""
        token = self.token("/sign-in")
        return self.send("/sign-in", {"name": name, "password": password, "token": token, **fields})

    def token(self, path: str) -> str:
        """The token of the forms of a page."""
        found = re.search(r'name="token" value="([^"]+)"', self.get(path).text)
        assert found, path
        return found[1]

    def decide(self, job: str, decision: str, **fields: str) -> Answer:
        """Press a button of a job's page."""
        return self.send(f"/jobs/{job}/{decision}", {"token": self.token(f"/jobs/{job}"), **fields})

    def _headers(self) -> dict[str, str]:
        return {"cookie": "; ".join(f"{k}={v}" for k, v in self.cookies.items())} if self.cookies else {}

    def _kept(self, answer: Answer) -> Answer:
        for line in answer.cookies:
            name, _, value = line.partition(";")[0].partition("=")
            if "Max-Age=0" in line:
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = value
        return answer


@contextlib.contextmanager
def kept_running(server: uvicorn.Server) -> Iterator[str]:
    """A server in a thread, until it is left."""
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until = time.monotonic() + 20
        while not server.started and time.monotonic() < until:
            time.sleep(0.02)
        yield f"http://127.0.0.1:{server.config.port}"
    finally:
        server.should_exit = True
        thread.join(20)


@pytest.fixture(scope="session")
def ask() -> Callable[..., Answer]:
    """`ask(url, method, body, headers)`."""
    return asked


@pytest.fixture(scope="session")
def somebody() -> Callable[[str], Person]:
    """Somebody new with a browser, who comes to an address."""
    return Person


@pytest.fixture(scope="session")
def running() -> Callable[[uvicorn.Server], AbstractContextManager[str]]:
    """Runs a server that is made already -> its address."""
    return kept_running


@pytest.fixture(scope="session")
def serving(free_port: Callable[[], int]) -> Callable[[ASGIApp], AbstractContextManager[str]]:
    """Serves an application as the node does -> its address."""
    return lambda app: kept_running(listener.server(app, "127.0.0.1", free_port()))


def received(ledger: Ledger, series: str, instances: int = 3) -> str:
    """A job of a series that arrived and is complete."""
    ledger.arrived(series, "MRSCANNER", instances, time.time() - 700)
    uids = [f"{series}.{n}" for n in range(instances)]
    return ledger.received(series, uids, Plan("limb-t1-ldm", "ab" * 32, "cd" * 32), "gap-free", lambda *_: None)[0]


def synthesized(ledger: Ledger, series: str, hold: tuple[str, str] | None = None) -> str:
    """A job whose CT series of three instances is on disk."""
    job = received(ledger, series)
    ledger.synthesized(job, f"{series}.99", 3, ["planning", "archive"], hold, lambda *_: None)
    return job


def fill(ledger: Ledger) -> dict[str, str]:
    """A job of every kind -> its key."""
    ledger.create()
    ledger.arrived("1.2.1", "MRSCANNER", 17, time.time())
    made = {"delivered": synthesized(ledger, "1.2.2"), "postponed": synthesized(ledger, "1.2.3")}
    ct = [f"1.2.2.99.{n}" for n in range(3)]
    for name in ("planning", "archive"):
        answers = [Receipt(uid, 0xB000 if name == "archive" else 0, NOW, "") for uid in ct]
        ledger.answered(made["delivered"], name, answers)
        ledger.delivered(made["delivered"], name)
    refused = Receipt("1.2.3.99.0", 0xA700, NOW, "<b>no space left</b>")
    ledger.answered(made["postponed"], "planning", [refused])
    ledger.postponed(made["postponed"], "planning", 1, "planning is full", time.time() + 60, lambda _: None)
    made["held"] = synthesized(ledger, "1.2.4", ("ANATOMY", "BodyPartExamined is HEAD; limb-t1-ldm claims limbs only"))
    made["rejected"] = received(ledger, "1.2.5")
    ledger.rejected(made["rejected"], "GAP", "gap of 3.2 mm at slice 41 of 176; expected 1.6 mm")
    made["failed"] = received(ledger, "1.2.6")
    ledger.failed(made["failed"], 1, "the synthesis failed", "Traceback\n  line 1\nValueError: x", lambda _: None)
    return made


@dataclass(frozen=True)
class House(Site):
    """A page with users: jane is a physicist, vic a viewer."""

    def person(self, name: str = "") -> Person:
        """Somebody new, signed in by that name unless it is empty."""
        made = Person(self.url)
        if name:
            assert made.sign_in(name).status == 303
        return made

    def person_at(self, url: str) -> Person:
        """Somebody new who comes by another address."""
        return Person(url)

    def records(self) -> list[dict[str, Any]]:
        """The audit trail so far."""
        files = sorted((self.config.node.data / "audit").glob("*.jsonl"))
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]


@pytest.fixture
def house(site: Site, tmp_path: Path, free_port: Callable[[], int]) -> Iterator[House]:
    """A page with users, made for one test: nobody has failed to sign in before."""
    data = tmp_path / "node"
    shutil.copytree(site.config.node.data, data)
    config = replace(site.config, node=Node(data=data))
    shutil.copy(site.users, data / "users.json")
    ledger = Ledger(database_url(config))
    with kept_running(listener.server(web.app(config), "127.0.0.1", free_port())) as url:
        yield House(url, "", config, ledger, site.jobs, site.users)
    ledger.close()


@pytest.fixture(scope="session")
def filled() -> Callable[[Ledger], dict[str, str]]:
    """Puts a job of every kind into a ledger -> the key of each."""
    return fill


@pytest.fixture(scope="session")
def came() -> Callable[..., str]:
    """Puts a series that arrived and is complete into a ledger -> the key of its job."""
    return received


@pytest.fixture(scope="session")
def cheap_passwords() -> Iterator[None]:
    """Passwords are hashed as always, but with little memory and once: these tests sign in some two hundred times."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(users, "HASHER", argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
        yield


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> Iterator[Site]:
    """A page without users: everybody on this machine may look."""
    data = tmp_path_factory.mktemp("node")
    config = Config(node=Node(data=data), destinations=(Destination("planning", "TPS", "127.0.0.1", 104),))
    ledger = Ledger(database_url(config))
    jobs = fill(ledger)
    queues.prepare(ledger)
    some = tmp_path_factory.mktemp("users") / "users.json"
    users.Users(some).add("jane", users.Role.PHYSICIST, PASSWORD)
    users.Users(some).add("vic", users.Role.VIEWER, PASSWORD)
    page = listener.server(web.app(config), "127.0.0.1", free_port())
    watched = listener.server(health.app(config), "127.0.0.1", free_port())
    with kept_running(page) as url, kept_running(watched) as beside:
        yield Site(url, beside, config, ledger, jobs, some)
    ledger.close()


_FLAT = ("disable-gpu", "disable-3d-apis")


class Browser:
    """Headless Chromium by the WebDriver protocol (W3C)."""

    def __init__(self, port: int) -> None:
        self._root = f"http://127.0.0.1:{port}"
        self._session = ""

    def call(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """One command; POST when there is a body."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._root + self._session + path, data, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())["value"]

    def open(self, profile: Path, width: int, *, dark: bool, graphics: bool = False, scripts: bool = True) -> None:
        """Start Chromium with an empty profile and a page of `width` CSS pixels; WebGL, if any, is software."""
        quiet = "no-sandbox disable-quic no-first-run disable-background-networking disable-component-update"
        drawn = ("use-gl=angle", "use-angle=swiftshader", "enable-unsafe-swiftshader") if graphics else _FLAT
        arguments = [f"--{switch}" for switch in ("headless", *quiet.split(), "disable-sync", *drawn)]
        device = {"deviceMetrics": {"width": width, "height": 900, "pixelRatio": 1, "touch": False}}
        options: dict[str, Any] = {"args": [*arguments, f"--user-data-dir={profile}"], "mobileEmulation": device}
        if not scripts:
            options["prefs"] = {"profile.managed_default_content_settings.javascript": 2}
        wanted = {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}}
        self._session = f"/session/{self.call('/session', wanted)['sessionId']}"
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("/goog/cdp/execute", {"cmd": "Emulation.setEmulatedMedia", "params": {"features": [scheme]}})

    def go(self, url: str) -> None:
        """Load a page."""
        self.call("/url", {"url": url})

    def screenshot(self) -> bytes:
        """What the page looks like, as PNG, when all that was to be drawn is drawn."""
        drawn = "requestAnimationFrame(() => requestAnimationFrame(arguments[0]))"
        self.call("/execute/async", {"script": drawn, "args": []})
        return base64.b64decode(self.call("/screenshot"))

    def run(self, script: str) -> Any:
        """The value of a script in the page."""
        return self.call("/execute/sync", {"script": script, "args": []})


@pytest.fixture
def browser(program: Callable[[str], str], free_port: Callable[[], int], tmp_path: Path) -> Iterator[Browser]:
    port = free_port()
    program("chromium")
    with Popen([program("chromedriver"), f"--port={port}"], stdout=PIPE, stderr=PIPE) as driver:
        made = Browser(port)
        until = time.monotonic() + 20
        while time.monotonic() < until:
            with contextlib.suppress(urllib.error.URLError):
                if made.call("/status")["ready"]:
                    break
            time.sleep(0.1)
        yield made
        with contextlib.suppress(urllib.error.URLError):
            urllib.request.urlopen(
                urllib.request.Request(made._root + made._session, method="DELETE"), timeout=20
            ).close()
        driver.terminate()
