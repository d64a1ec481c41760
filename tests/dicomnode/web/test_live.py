"""The list of cases reads itself again in a real browser, and whoever works on it is not disturbed."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

READ = "document.dispatchEvent(new Event('visibilitychange'))"
"""What a browser says when its window is shown again: the page is read at once, not after five seconds."""


def until(browser: Any, script: str, limit_s: float = 30.0) -> Any:
    """The value of a script in the page, once it is true."""
    deadline = time.monotonic() + limit_s
    while not (found := browser.run(f"return {script}")):
        assert time.monotonic() < deadline, script
        time.sleep(0.05)
    return found


def read_again(browser: Any) -> None:
    """Have the page read now, and wait until what it found is shown."""
    browser.run(f"window.live = false; document.addEventListener('live', () => window.live = true); {READ}")
    until(browser, "window.live")


def keys(browser: Any, *named: str) -> None:
    """Press keys, by WebDriver's code points."""
    pressed = [{"type": kind, "value": key} for key in named for kind in ("keyDown", "keyUp")]
    browser.call("/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": pressed}]})


def connected(browser: Any, *, offline: bool) -> None:
    """Pull the network's plug, or put it in again."""
    speed = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    browser.call("/goog/cdp/execute", {"cmd": "Network.enable", "params": {}})
    browser.call(
        "/goog/cdp/execute", {"cmd": "Network.emulateNetworkConditions", "params": {"offline": offline, **speed}}
    )


TAB, ENTER = "\ue004", "\ue007"


@pytest.fixture
def signed_in(house: Any, browser: Any, tmp_path: Path) -> Callable[..., None]:
    """Opens a browser, signed in as jane, on the list of cases."""

    def opened(width: int = 1280, *, dark: bool = False) -> None:
        browser.open(tmp_path / "profile", width, dark=dark)
        browser.go(f"{house.url}/sign-in")
        browser.run(
            "const form = document.querySelector('.card'); form.name.value = 'jane';"
            "form.password.value = 'correct horse battery'; form.submit()"
        )
        until(browser, "document.querySelector('#cases') && document.readyState === 'complete'")

    return opened


def test_new_cases_come_by_themselves_and_neither_focus_nor_scroll_nor_an_open_selection_is_lost(
    house: Any, browser: Any, signed_in: Callable[..., None], came: Callable[..., str], tmp_path: Path
) -> None:
    for number in range(30):
        came(house.ledger, f"1.3.{number}")
    signed_in()
    job = house.jobs["held"]
    link = f"document.querySelector('a[href=\"/jobs/{job}\"]')"
    browser.run(f"{link}.focus(); {link}.scrollIntoView({{block: 'center'}}); window.same = {link}")
    top = browser.run("return same.getBoundingClientRect().top")
    assert browser.run("return scrollY") > 200
    new = [came(house.ledger, f"1.4.{number}") for number in range(3)]
    house.ledger.rejected(new[0], "GAP", "gap of 3.2 mm at slice 41 of 176; expected 1.6 mm")
    until(browser, f"document.getElementById('case-{new[0]}') !== null", 20)
    assert browser.run("return same === document.activeElement"), "the very element that had the focus"
    assert browser.run("return same.getBoundingClientRect().top") == pytest.approx(top, abs=1)
    assert browser.run("return document.querySelector('#of-rejected').textContent") == "rejected 2"
    assert "cases changed" in browser.run("return document.querySelector('footer [role=status]').textContent")
    (tmp_path / "scrolled.png").write_bytes(browser.screenshot())


def test_who_works_by_keyboard_goes_on_at_the_next_row_when_a_row_leaves_the_list(
    house: Any, browser: Any, signed_in: Callable[..., None], came: Callable[..., str]
) -> None:
    others = [came(house.ledger, f"1.3.{number}") for number in range(2)]
    signed_in()
    browser.go(f"{house.url}/?state=RECEIVED")
    browser.run(f"document.querySelector('a[href=\"/jobs/{others[1]}\"]').focus()")
    house.ledger.rejected(others[1], "GAP", "gap of 3.2 mm at slice 41 of 176; expected 1.6 mm")
    read_again(browser)
    assert browser.run("return document.activeElement.getAttribute('href')") == f"/jobs/{others[0]}"
    keys(browser, ENTER)
    assert until(browser, "location.pathname.startsWith('/jobs/') && location.pathname") == f"/jobs/{others[0]}"


def test_the_first_tab_stop_leads_past_the_head_and_every_link_of_the_list_is_reached_by_keyboard(
    house: Any, browser: Any, signed_in: Callable[..., None]
) -> None:
    signed_in()
    keys(browser, TAB)
    assert browser.run("return document.activeElement.className") == "skip"
    keys(browser, ENTER, TAB)
    assert browser.run("return document.activeElement.id") == "of-all"
    reached = set()
    for _ in range(browser.run("return document.querySelectorAll('main a, footer button').length")):
        reached.add(browser.run("return document.activeElement.getAttribute('href') || document.activeElement.id"))
        outline = browser.run("return getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid", "one sees where one is"
        keys(browser, TAB)
    assert {f"/jobs/{job}" for job in house.jobs.values()} | {"/help#GAP", "/?state=HELD", "pause"} <= reached


def test_a_paused_page_stays_as_it_is_until_it_may_go_on(
    house: Any, browser: Any, signed_in: Callable[..., None], came: Callable[..., str]
) -> None:
    signed_in()
    browser.run("document.querySelector('#pause').click()")
    new = came(house.ledger, "1.3.1")
    browser.run(READ)
    time.sleep(1.0)
    assert not browser.run(f"return document.getElementById('case-{new}')")
    browser.run("document.querySelector('#pause').click()")
    read_again(browser)
    assert browser.run(f"return document.getElementById('case-{new}') !== null")


def test_a_page_that_is_old_says_so_and_one_whose_session_has_ended_shows_no_case(
    house: Any, browser: Any, signed_in: Callable[..., None], tmp_path: Path
) -> None:
    signed_in()
    connected(browser, offline=True)
    browser.run(READ)
    until(browser, "document.querySelector('.old')")
    assert "Not up to date: the node does not answer. Read last at" in browser.run("return document.body.innerText")
    (tmp_path / "old.png").write_bytes(browser.screenshot())
    connected(browser, offline=False)
    read_again(browser)
    assert browser.run("return document.querySelector('.old')") is None
    (house.config.node.data / "users.json").write_text(house.users.read_text().replace("jane", "joan"))
    browser.run(READ)
    until(browser, "location.pathname === '/sign-in'")
    assert house.jobs["held"][:12] not in browser.run("return document.body.innerText")
