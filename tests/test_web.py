"""The node's pages over a real socket, and in a real browser."""

import base64
import contextlib
import datetime
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from http.client import HTTPResponse
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import pytest
import uvicorn
from prometheus_client.parser import text_string_to_metric_families

from dicomnode import web
from dicomnode.config import Config, Destination, Node, Receive
from dicomnode.deliver import Receipt
from dicomnode.ledger import Ledger, database_url
from dicomnode.schema import Plan

NOW = datetime.datetime.now(datetime.UTC)


@dataclass(frozen=True)
class Site:
    """A page that is served, and what it shows."""

    url: str
    config: Config
    ledger: Ledger
    jobs: dict[str, str]


def get(url: str) -> tuple[int, dict[str, str], str]:
    """Status, headers and text of an answer."""
    try:
        answer: HTTPResponse | urllib.error.HTTPError = urllib.request.urlopen(url, timeout=10)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        return answer.status or 0, {k.lower(): v for k, v in answer.headers.items()}, answer.read().decode()


@contextlib.contextmanager
def served(config: Config, port: int) -> Iterator[str]:
    """The page of `config` on a port of the loopback interface."""
    server = uvicorn.Server(uvicorn.Config(web.app(config), port=port, log_config=None, timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until = time.monotonic() + 20
        while not server.started and time.monotonic() < until:
            time.sleep(0.02)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(20)


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
    ledger.unsuitable(made["rejected"], "GAP", "gap of 3.2 mm at slice 41 of 176; expected 1.6 mm")
    made["failed"] = received(ledger, "1.2.6")
    ledger.failed(made["failed"], 1, "the synthesis failed", "Traceback\n  line 1\nValueError: x", lambda _: None)
    return made


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> Iterator[Site]:
    data = tmp_path_factory.mktemp("node")
    config = Config(node=Node(data=data), destinations=(Destination("planning", "TPS", "127.0.0.1", 104),))
    ledger = Ledger(database_url(config))
    jobs = fill(ledger)
    with served(config, free_port()) as url:
        yield Site(url, config, ledger, jobs)
    ledger.close()


def test_the_page_of_jobs_says_state_reason_and_receipts_of_each(site: Site) -> None:
    status, headers, text = get(site.url)
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert all(job[:12] in text for job in site.jobs.values())
    assert "GAP: gap of 3.2 mm at slice 41 of 176; expected 1.6 mm" in text
    assert "ANATOMY: BodyPartExamined is HEAD" in text
    assert "17 instances so far" in text
    assert "planning: 3 of 3" in text
    assert "archive: 3 of 3, 3 with a warning" in text
    assert "planning: 0 of 3; attempt 2 at" in text


def test_a_ct_series_that_was_replaced_says_by_which_job(tmp_path: Path, free_port: Callable[[], int]) -> None:
    config = Config(node=Node(data=tmp_path))
    ledger = Ledger(database_url(config))
    old = fill(ledger)["delivered"]
    new = received(ledger, "1.2.2", instances=4)
    ledger.close()
    with served(config, free_port()) as url:
        assert f"the CT series of job {new[:12]} replaces this one" in get(url)[2]
        assert f'href="/jobs/{new}"' in get(f"{url}/jobs/{old}")[2]
        assert "<dt>Replaces</dt><dd><code>1.2.2.99</code>" in get(f"{url}/jobs/{new}")[2]


def test_the_page_can_show_one_state_alone(site: Site) -> None:
    text = get(f"{site.url}/?state=REJECTED")[2]
    assert site.jobs["rejected"] in text
    assert site.jobs["held"] not in text
    held = get(f"{site.url}/?state=held")[2]
    assert site.jobs["held"] in held
    assert site.jobs["rejected"] not in held


def test_a_word_that_is_no_state_shows_all(site: Site) -> None:
    assert all(job in get(f"{site.url}/?state=%3Cscript%3E")[2] for job in site.jobs.values())


def test_the_page_of_a_job_tells_its_events_and_every_answer(site: Site) -> None:
    text = get(f"{site.url}/jobs/{site.jobs['postponed']}")[2]
    assert "postponed" in text
    assert "0xA700" in text
    assert "refused" in text
    assert "planning is full" in text
    assert "sct-node release" in get(f"{site.url}/jobs/{site.jobs['held']}")[2]


def test_what_a_destination_says_is_escaped(site: Site) -> None:
    text = get(f"{site.url}/jobs/{site.jobs['postponed']}")[2]
    assert "&lt;b&gt;no space left&lt;/b&gt;" in text
    assert "<b>" not in text


def test_an_unknown_job_and_an_unknown_page_are_404_with_a_sentence(site: Site) -> None:
    assert get(f"{site.url}/jobs/ffffffffffff")[0] == 404
    assert "sct-node jobs" in get(f"{site.url}/jobs/ffffffffffff")[2]
    assert get(f"{site.url}/nowhere")[0] == 404


@pytest.mark.parametrize("path", ["/", "/nowhere", "/metrics", "/healthz", "/readyz", "/style.css"])
def test_every_answer_carries_the_security_headers(site: Site, path: str) -> None:
    headers = get(site.url + path)[1]
    assert {name: headers[name] for name in web.SECURITY_HEADERS} == web.SECURITY_HEADERS


def test_nothing_can_be_changed_over_the_web(site: Site) -> None:
    request = urllib.request.Request(f"{site.url}/jobs/{site.jobs['held']}", method="POST")
    with pytest.raises(urllib.error.HTTPError, match="405"):
        urllib.request.urlopen(request, timeout=10)


def test_the_metrics_count_the_jobs_of_the_ledger(site: Site) -> None:
    status, headers, text = get(f"{site.url}/metrics")
    assert status == 200
    assert headers["content-type"].startswith("text/plain; version=0.0.4")
    families = {family.name: family for family in text_string_to_metric_families(text)}
    now = {(s.labels["state"], s.labels["held"]): s.value for s in families["sct_node_jobs_current"].samples}
    assert now["SYNTHESIZED", "yes"] == 1
    assert now["REJECTED", "no"] == 1
    waiting = {s.labels["destination"]: s.value for s in families["sct_node_delivery_waiting_seconds"].samples}
    assert set(waiting) == {"planning", "archive"}
    assert all(0 < age_s < 300 for age_s in waiting.values())


def test_healthz_answers(site: Site) -> None:
    assert get(f"{site.url}/healthz")[::2] == (200, "ok\n")


def test_readyz_is_503_and_says_why_while_a_role_is_silent(site: Site) -> None:
    status, _, text = get(f"{site.url}/readyz")
    told = json.loads(text)
    assert (status, told["ready"]) == (503, False)
    assert set(told["checks"]) == {"ledger", "disk", *web.ROLES}


def test_a_disk_below_its_reserve_is_not_ready(site: Site) -> None:
    config = replace(site.config, receive=Receive(disk_reserve_bytes=2**50))
    assert "receive.disk_reserve_bytes" in web.readiness(config, site.ledger, time.time())["disk"]


def test_a_ledger_that_cannot_be_read_is_said_on_the_page_and_in_readyz(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    config = Config(node=Node(data=tmp_path / "never made"))
    with served(config, free_port()) as url:
        assert get(url)[0] == 503
        assert "The ledger cannot be read" in get(url)[2]
        assert json.loads(get(f"{url}/readyz")[2])["checks"]["ledger"] != "ok"
        assert [get(f"{url}/{path}")[0] for path in ("healthz", "metrics")] == [200, 200]


@pytest.mark.parametrize(
    ("seconds", "said"), [(-5, "0 s"), (48, "48 s"), (725, "12 min"), (11105, "3 h 05 min"), (187200, "2 d 4 h")]
)
def test_a_span_is_said_as_a_person_says_it(seconds: int, said: str) -> None:
    assert web.span(datetime.timedelta(seconds=seconds)) == said


def test_the_last_ticks_decide_whether_a_role_is_there() -> None:
    checks = web.role_checks({"receive": 1000.0, "synthesize2": 995.0, "deliver": 900.0}, 1001.0)
    assert (checks["receive"], checks["synthesize"]) == ("ok", "ok")
    assert checks["deliver"] == "was last heard from 101 s ago"
    assert web.role_checks({}, 1001.0)["receive"] == "was not heard from yet"


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

    def open(self, profile: Path, width: int, *, dark: bool) -> None:
        """Start Chromium with an empty profile and a page of `width` CSS pixels."""
        quiet = (
            "no-sandbox disable-gpu disable-quic no-first-run disable-background-networking disable-component-update"
        )
        arguments = [f"--{switch}" for switch in ("headless", *quiet.split(), "disable-sync")]
        device = {"deviceMetrics": {"width": width, "height": 900, "pixelRatio": 1, "touch": False}}
        options = {"args": [*arguments, f"--user-data-dir={profile}"], "mobileEmulation": device}
        wanted = {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}}
        self._session = f"/session/{self.call('/session', wanted)['sessionId']}"
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("/goog/cdp/execute", {"cmd": "Emulation.setEmulatedMedia", "params": {"features": [scheme]}})

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


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_a_browser_shows_every_page_without_scrolling_sideways_in_light_and_dark(
    site: Site, browser: Browser, tmp_path: Path, width: int, dark: bool
) -> None:
    browser.open(tmp_path / "profile", width, dark=dark)
    for name in ("delivered", "postponed", "failed"):
        for path in ("/", f"/jobs/{site.jobs[name]}"):
            browser.call("/url", {"url": site.url + path})
            seen = browser.run("return [document.documentElement.scrollWidth, innerWidth, document.body.innerText]")
            assert seen[:2] == [width, width]
            assert site.jobs[name][:12] in seen[2]
            (tmp_path / f"{name}{len(path)}.png").write_bytes(base64.b64decode(browser.call("/screenshot")))
    back = browser.run("return getComputedStyle(document.body).backgroundColor")
    assert back == ("rgb(20, 23, 26)" if dark else "rgb(255, 255, 255)")
