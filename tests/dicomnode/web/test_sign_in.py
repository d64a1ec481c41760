"""Signing in and out, what each role may do, and the buttons: over a real socket."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dicomnode.config.load import Config
from dicomnode.config.sections import Node, Web
from dicomnode.errors import BadPassword, ConfigError, UsersUnreadable
from dicomnode.ledger.states import State
from dicomnode.security.users import Role, Users, check_reachable
from dicomnode.web import app
from dicomnode.web.sign_in import ADDRESS_MAX_S, FORGET_S, FREE, KEPT, OF_ONE_USER, USER_MAX_S, Sessions, Throttle

Ask = Callable[..., Any]
PASSWORD = "correct horse battery"


def test_without_users_this_machine_reads_everything_and_nobody_decides(site: Any, ask: Ask) -> None:
    for path in ("/", f"/jobs/{site.jobs['held']}"):
        answer = ask(site.url + path)
        assert answer.status == 200
        assert "<form" not in answer.text
    held = f"{site.url}/jobs/{site.jobs['held']}/release"
    headers = {"origin": site.url, "content-type": "application/x-www-form-urlencoded"}
    assert ask(held, "POST", "reason=x&token=", headers).status == 403
    assert site.ledger.job(site.jobs["held"]).held
    assert "sct-node user add" in ask(f"{site.url}/sign-in").text


def test_with_users_every_page_leads_to_the_sign_in_and_from_there_back(house: Any) -> None:
    person = house.person()
    for path in ("/", f"/jobs/{house.jobs['held']}", "/nowhere", "/?state=HELD"):
        answer = person.get(path)
        assert (answer.status, "ANATOMY" in answer.text) == (303, False)
    assert answer.headers["location"] == "/sign-in?next=%2F%3Fstate%3DHELD"
    assert 'name="next" value="/?state=HELD"' in person.get(answer.headers["location"]).text
    answer = person.sign_in("vic", next="/?state=HELD")
    assert (answer.status, answer.headers["location"]) == (303, "/?state=HELD")
    assert "vic, viewer" in person.get("/").text


def test_the_cookie_of_a_session_is_hidden_from_scripts_and_other_sites(house: Any) -> None:
    person = house.person()
    cookies = person.sign_in("jane").cookies
    [session] = [line for line in cookies if line.startswith("sct_session=")]
    assert all(word in session for word in ("HttpOnly", "SameSite=strict", "Path=/"))
    assert "Domain" not in session
    assert len(session.partition(";")[0]) > 50


def test_who_signs_out_is_out_and_the_key_is_worth_nothing_any_more(house: Any) -> None:
    person = house.person("jane")
    key = dict(person.cookies)
    assert person.send("/sign-out", {"token": person.token("/")}).headers["location"] == "/sign-in"
    assert "sct_session" not in person.cookies
    person.cookies = key
    assert person.get("/").status == 303
    assert [code for record in house.records() for code in ("110122", "110123") if code in json.dumps(record)] == [
        "110122",
        "110123",
    ]


def test_the_audit_trail_tells_who_came_and_who_could_not(house: Any) -> None:
    person = house.person("jane")
    person.sign_in("vic", "wrong horse battery")
    person.sign_in("my-password-by-mistake", "x")
    failed = [json.dumps(one) for one in house.records() if "wrong name or password" in json.dumps(one)]
    assert [("web:vic" in one, "web:unknown" in one) for one in failed] == [(True, False), (False, True)]
    assert "my-password-by-mistake" not in json.dumps(house.records())


@pytest.mark.parametrize("who", ["jane", "nobody"])
def test_a_wrong_password_and_an_unknown_name_are_told_alike(house: Any, who: str) -> None:
    answer = house.person().sign_in(who, "wrong horse battery")
    assert answer.status == 403
    assert "Wrong name or password." in answer.text
    assert "wrong horse battery" not in answer.text


@pytest.mark.parametrize(
    ("decision", "job", "fact", "state"),
    [
        ("release", "held", "released", State.SYNTHESIZED),
        ("reject", "held", "rejected", State.REJECTED),
        ("cancel", "postponed", "cancelled", State.REJECTED),
        ("retry", "postponed", "retried", State.SYNTHESIZED),
        ("resend", "delivered", "resent", State.SYNTHESIZED),
    ],
)
def test_a_physicist_decides_for_a_reason_that_stays_with_the_job(
    house: Any, decision: str, job: str, fact: str, state: State
) -> None:
    key = house.jobs[job]
    answer = house.person("jane").decide(key, decision, reason="looked at it:\n <fine>")
    assert (answer.status, answer.headers["location"]) == (303, f"/jobs/{key}")
    assert house.ledger.job(key).state is state
    [event] = [one for one in house.ledger.events(key) if one.by]
    assert (event.by, "looked at it: <fine>" in event.words) == ("web:jane", True)
    assert "looked at it: &lt;fine&gt;" in house.person("vic").get(f"/jobs/{key}").text


@pytest.mark.parametrize("reason", ["", " \n ", "x" * 1001])
def test_a_decision_without_a_good_reason_is_not_done(house: Any, reason: str) -> None:
    answer = house.person("jane").decide(house.jobs["held"], "release", reason=reason)
    assert (answer.status, "Say why" in answer.text) == (400, True)
    assert house.ledger.job(house.jobs["held"]).held


def test_a_decision_that_the_state_does_not_allow_says_what_does(house: Any) -> None:
    person = house.person("jane")
    token = person.token(f"/jobs/{house.jobs['held']}")
    answer = person.send(f"/jobs/{house.jobs['held']}/cancel", {"token": token, "reason": "x"})
    assert (answer.status, "reject it" in answer.text) == (409, True)


def test_a_job_shows_the_buttons_that_its_state_allows(house: Any) -> None:
    person = house.person("jane")
    shown = {name: re.findall(r"/(\w+)\">", person.get(f"/jobs/{job}").text) for name, job in house.jobs.items()}
    buttons = {
        name: [one for one in found if one in ("release", "reject", "retry", "cancel", "resend")]
        for name, found in shown.items()
    }
    assert buttons["held"] == ["release", "reject"]
    assert buttons["postponed"] == buttons["failed"] == ["retry", "cancel"]
    assert buttons["delivered"] == ["resend"]
    assert buttons["rejected"] == []


def test_a_user_who_is_removed_or_changed_is_out_at_once(house: Any) -> None:
    person, users = house.person("vic"), Users(house.config.node.data / "users.json")
    assert person.get("/").status == 200
    users.add("vic", Role.PHYSICIST, PASSWORD)
    assert person.get("/").status == 303
    assert person.sign_in("vic").status == 303
    users.remove("vic")
    assert person.get("/").status == 303


def test_a_page_that_reads_itself_again_keeps_no_session_alive_and_is_no_access(house: Any) -> None:
    users = Users(house.users)
    sessions = Sessions(idle_s=10, longest_s=100)
    key = sessions.begin(users.all()["vic"], 0.0)
    assert all(sessions.find(key, users, now, person=False) for now in (5.0, 10.0))
    assert sessions.find(key, users, 10.1, person=False) is None
    person = house.person("vic")
    before = len(house.records())
    assert person.get("/?auto=1").status == 200
    assert len(house.records()) == before
    assert person.get("/").status == 200
    assert len(house.records()) == before + 1


def test_a_session_ends_by_idleness_by_age_and_by_others_of_its_user(house: Any) -> None:
    users = Users(house.users)
    vic, sessions = users.all()["vic"], Sessions(idle_s=10, longest_s=15)
    key = sessions.begin(vic, 0.0)
    assert sessions.find(key, users, 9.0, person=True)
    assert sessions.find(key, users, 14.0, person=True)
    assert sessions.find(key, users, 15.1, person=True) is None
    keys = [sessions.begin(vic, 20.0) for _ in range(OF_ONE_USER + 2)]
    assert [sessions.find(one, users, 20.0, person=True) is None for one in keys] == [True] * 2 + [False] * OF_ONE_USER


def test_each_failure_waits_longer_up_to_a_limit_and_is_forgotten_in_time() -> None:
    throttle, now, waits = Throttle(), 0.0, []
    for _ in range(FREE + 13):
        if wait_s := throttle.begin("jane", "a", now):
            waits.append(wait_s)
            now += wait_s
            assert throttle.begin("jane", "a", now) == 0
    assert waits == [min(2.0**n, ADDRESS_MAX_S) for n in range(13)]
    assert 0 < throttle.begin("jane", "another address", now + 1) < USER_MAX_S
    assert throttle.begin("jane", "a", now + FORGET_S + 1) == 0


def test_one_good_password_does_not_clear_what_an_address_tried_for_others() -> None:
    throttle = Throttle()
    for n in range(FREE):
        throttle.begin(f"user{n}", "a", 0.0)
    assert throttle.begin("jane", "a", 0.5) > 0
    assert throttle.begin("jane", "a", 1.0) == 0
    throttle.succeeded("jane", "a")
    assert throttle.begin("other", "a", 1.0) > 0
    assert throttle.begin("jane", "b", 1.0) == 0


def test_what_failed_is_remembered_of_a_bounded_number() -> None:
    throttle = Throttle()
    for n in range(KEPT):
        throttle.begin(f"user{n}", f"address{n}", 0.0)
    assert len(throttle._failures) == KEPT


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"bind": "0.0.0.0"}, "has no users; add one: sct-node user add"),
        ({"bind": "::"}, "has no users"),
        ({"proxies": ("127.0.0.1",)}, "has no users"),
    ],
)
def test_the_network_reaches_no_page_without_users(tmp_path: Path, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check_reachable(Config(node=Node(data=tmp_path), web=Web(**settings)))


def test_the_network_reaches_no_page_over_which_passwords_go_unencrypted(house: Any) -> None:
    outside = replace(house.config, web=Web(bind="0.0.0.0"))
    with pytest.raises(ConfigError, match=r"web.certificate: passwords would reach 0.0.0.0 unencrypted"):
        check_reachable(outside)
    for more in ({"plain": True}, {"proxies": ("192.0.2.1",)}, {"certificate": Path("c"), "key": Path("k")}):
        check_reachable(replace(house.config, web=Web(bind="0.0.0.0", **more)))
    check_reachable(house.config)


def test_serve_says_so_and_ends_before_it_listens(tmp_path: Path) -> None:
    (tmp_path / "node.yaml").write_text(f"node: {{data: {tmp_path}/data}}\nweb: {{bind: 0.0.0.0}}\n")
    command = [sys.executable, "-m", "dicomnode.cli.main", "serve", "--config", str(tmp_path / "node.yaml")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert "sct-node: web.bind: 0.0.0.0 is reached from the network" in ended.stderr


def test_a_page_on_the_network_whose_users_are_gone_is_closed_and_not_open(
    site: Any, tmp_path: Path, serving: Any, ask: Ask
) -> None:
    with serving(app.app(replace(site.config, web=Web(bind="0.0.0.0", users=tmp_path / "none.json")))) as url:
        assert [ask(url + path).status for path in ("/", f"/jobs/{site.jobs['held']}")] == [503, 503]


@pytest.mark.parametrize("text", ["{", "[]", '{"users": [{"name": "a b", "role": "viewer", "hash": "x"}]}', '{"a": 1}'])
def test_a_file_of_users_that_cannot_be_understood_lets_nobody_in_and_is_not_repeated(
    house: Any, text: str, capfd: pytest.CaptureFixture[str]
) -> None:
    person = house.person("jane")
    (house.config.node.data / "users.json").write_text(text)
    assert [one.status for one in (person.get("/"), house.person().get("/"))] == [503, 503]
    with pytest.raises(UsersUnreadable) as told:
        Users(house.config.node.data / "users.json").all()
    assert text not in str(told.value)


@pytest.mark.parametrize(
    "password", ["", "short", "aaaaaaaaaaaaaaaa", "janejanejanejane", "my name is Jane", "x" * 257]
)
def test_a_password_that_is_easily_guessed_is_refused(tmp_path: Path, password: str) -> None:
    with pytest.raises(BadPassword):
        Users(tmp_path / "users.json").add("jane", Role.VIEWER, password)
    assert not (tmp_path / "users.json").exists()
