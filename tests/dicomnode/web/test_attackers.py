"""What an attacker tries on the page over a real socket; each is refused, and the page goes on."""

import json
import re
import socket
import time
import urllib.parse
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from dicomnode.web import case, middleware, server, sign_in
from dicomnode.web.sign_in import FREE

Ask = Callable[..., Any]
PASSWORD = "correct horse battery"


def raw(url: str, request: bytes, patience_s: float = 20.0) -> bytes:
    """What comes back on a connection of its own for exactly these bytes, until it is closed."""
    where = urllib.parse.urlsplit(url)
    with socket.create_connection((where.hostname, where.port), timeout=patience_s) as connection:
        connection.sendall(request)
        found = b""
        try:
            while more := connection.recv(65536):
                found += more
        except ConnectionResetError:
            pass
    return found


def held(house: Any) -> bool:
    """Whether the job that is attacked is as it was."""
    job = house.ledger.job(house.jobs["held"])
    return job.held is not None and len(house.ledger.events(job.job)) == 2


# Guessing


def test_who_guesses_passwords_must_wait_even_with_the_right_one(house: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sign_in, "FIRST_S", 50.0)
    attacker = house.person()
    assert [attacker.sign_in("jane", f"guess number {n}").status for n in range(FREE)] == [403] * FREE
    answer = attacker.sign_in("jane", PASSWORD)
    assert (answer.status, int(answer.headers["retry-after"]) >= 1) == (429, True)
    assert "sct_session" not in attacker.cookies


def test_guessing_for_many_users_or_behind_invented_addresses_waits_as_well(
    house: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sign_in, "FIRST_S", 50.0)
    attacker = house.person()
    for n in range(FREE):
        attacker.sign_in(f"user{n}", "a guess as any other")
    token = attacker.token("/sign-in")
    fields = {"name": "jane", "password": PASSWORD, "token": token}
    assert attacker.send("/sign-in", fields, x_forwarded_for="198.51.100.7").status == 429


def test_guesses_side_by_side_are_no_way_round_the_wait(house: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sign_in, "FIRST_S", 50.0)
    people = [house.person() for _ in range(12)]
    tokens = [person.token("/sign-in") for person in people]

    def guess(n: int) -> int:
        fields = {"name": "jane", "password": f"guess number {n}", "token": tokens[n]}
        return int(people[n].send("/sign-in", fields).status)

    with ThreadPoolExecutor(12) as pool:
        found = sorted(pool.map(guess, range(12)))
    assert found == [403] * FREE + [429] * (12 - FREE)


# Other sites, and other people's forms


def test_a_form_of_another_site_decides_nothing(house: Any) -> None:
    person = house.person("jane")
    path = f"/jobs/{house.jobs['held']}"
    fields = {"token": person.token(path), "reason": "x"}
    for origin in ("https://evil.example", "null", "", "http://127.0.0.1:1", "http://localhost", house.url + ".evil"):
        answer = person.send(f"{path}/release", fields, origin=origin)
        assert (answer.status, held(house)) == (403, True), origin


def test_a_form_without_the_visitor_s_own_token_decides_nothing(house: Any) -> None:
    person, path = house.person("jane"), f"/jobs/{house.jobs['held']}"
    mine, theirs = person.token(path), house.person("jane").token(path)
    for tokens in ([], [""], ["x" * 43], ["ünïcode"], [theirs], [mine, theirs], [mine[:-1]]):
        answer = person.send(f"{path}/release", [("reason", "x"), *(("token", one) for one in tokens)])
        assert (answer.status, held(house)) == (403, True), tokens


def test_a_body_that_is_no_form_of_ours_decides_nothing(house: Any) -> None:
    person, path = house.person("jane"), f"/jobs/{house.jobs['held']}"
    fields = {"token": person.token(path), "reason": "x"}
    for kind in ("text/plain", "application/json", "multipart/form-data; boundary=x", ""):
        answer = person.send(f"{path}/release", fields, content_type=kind)
        assert (answer.status, held(house)) == (403, True), kind


def test_nobody_is_signed_in_by_another_site(house: Any) -> None:
    victim, attacker = house.person(), house.person()
    fields = {"name": "vic", "password": PASSWORD, "token": attacker.token("/sign-in")}
    assert victim.send("/sign-in", fields).status == 403
    victim.token("/sign-in")
    assert victim.send("/sign-in", fields).status == 403
    assert "sct_session" not in victim.cookies


# Sessions


def test_a_key_that_somebody_else_chose_is_not_taken_over(house: Any) -> None:
    victim, attacker = house.person(), house.person("vic")
    chosen = attacker.cookies["sct_session"]
    victim.cookies["sct_session"] = chosen
    assert victim.sign_in("jane").status == 303
    assert victim.cookies["sct_session"] != chosen
    assert attacker.get("/").status == 303


def test_a_forged_cookie_is_nobody(house: Any) -> None:
    person = house.person("jane")
    key = person.cookies["sct_session"]
    changed = key[:-1] + ("A" if key[-1] != "A" else "B")
    for forged in ("", "A" * 43, changed, key.swapcase(), "../../etc/passwd", "x" * 8000, '"; sct_session="'):
        person.cookies["sct_session"] = forged
        answer = person.get("/")
        assert (answer.status, "ANATOMY" in answer.text) == (303, False), forged


def test_a_viewer_who_sends_the_form_of_a_physicist_is_refused_and_recorded(house: Any) -> None:
    viewer = house.person("vic")
    fields = {"token": viewer.token("/"), "reason": "let me"}
    for decision in ("release", "reject", "retry", "cancel", "resend"):
        answer = viewer.send(f"/jobs/{house.jobs['held']}/{decision}", fields)
        assert (answer.status, "Only a physicist" in answer.text) == (403, True)
    assert held(house)
    assert sum("Only a physicist" in json.dumps(one) and "web:vic" in json.dumps(one) for one in house.records()) == 5


# What is shown


EVIL = (
    "<script>document.title='pwned'</script>",
    '"><img src=x onerror="document.title=\'pwned\'">',
    "{{ 7 * 7 }}{% for x in y %}",
    "javascript:alert(1)",
    "\u202egnp.exe\u2066",
    "\x1b[2J\x00\r\nSet-Cookie: a=b",
)
"""Words for every place that a stranger fills: AE titles, comments of destinations, sentences that quote headers."""


def test_what_strangers_write_is_shown_as_text_and_steers_nothing(house: Any, came: Any) -> None:
    person = house.person("vic")
    for n, evil in enumerate(EVIL):
        house.ledger.arrived(f"1.9.{n}", evil[:16], 3, time.time())
        job = came(house.ledger, f"1.8.{n}")
        house.ledger.rejected(job, "GAP", f"SeriesDescription {evil}")
        for path in ("/", f"/jobs/{job}"):
            answer = person.get(path)
            assert answer.status == 200
            strange = re.sub(r'<(script|img)\b[^>]*src="/(static|jobs)/[^"<>]*"[^<>]*>', "", answer.text)  # but our own
            assert not any(word in strange for word in ("<script", "<img", "\u202e", "\u2066", "\x1b", "\x00"))
            assert "set-cookie" not in answer.headers
    assert "{{ 7 * 7 }}" in person.get(f"/jobs/{came(house.ledger, '1.8.2')}").text


# Requests that are made by hand


ELSEWHERE = (
    "//evil.example",
    "https://evil.example",
    "/\\evil.example",
    "javascript:alert(1)",
    "/jobs/../..//evil.example",
)
"""Where a sign-in must not lead."""


def test_a_sign_in_leads_to_no_other_site(house: Any) -> None:
    for to in (*ELSEWHERE, "/\r\nSet-Cookie: a=b", "/jobs/abcdef0123\n", "/jobs/abcdef0123?state=<b>"):
        person = house.person()
        assert 'name="next" value="/"' in person.get(f"/sign-in?next={urllib.parse.quote(to, safe='')}").text
        answer = person.sign_in("vic", next=to)
        assert (answer.status, answer.headers["location"]) == (303, "/"), to
        assert [line.partition("=")[0] for line in answer.cookies] == ["sct_session", "sct_form"]


PATHS = (
    "/jobs/../../../../etc/passwd", "/jobs/..%2f..%2f..%2fetc%2fpasswd", "/jobs/%2e%2e/%2e%2e/node.sqlite",
    "/jobs/....//users.json", "/jobs/%00", "/jobs/%25%25%25%25%25%25", "/jobs/______", "/jobs/%27%20OR%201=1--",
    "/style.css/../../users.json", "/users.json", "/audit/", "//etc/passwd", "/jobs/" + "a" * 4000,
    "/jobs/abcdef%0d%0aSet-Cookie:%20a=b",
)  # fmt: skip
"""Where there is no page."""


def test_no_path_leads_out_of_the_pages(house: Any) -> None:
    person = house.person("vic")
    cookie = f"sct_session={person.cookies['sct_session']}"
    for path in PATHS:
        request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: {cookie}\r\nConnection: close\r\n\r\n"
        head, _, body = raw(house.url, request.encode()).partition(b"\r\n\r\n")
        assert head.split()[1] in (b"404", b"400"), path
        assert not any(word in body for word in (b"root:", b"argon2", b"SQLite format"))
        assert b"set-cookie" not in head.lower()


HOSTS = (
    "evil.example", "localhost.evil.example", "127.0.0.1@evil.example", "127.0.0.1:80:80", "127.0.0.1.nip.io", "",
    "a b", "[::1", "127.0.0.1/../", "x" * 300,
)  # fmt: skip
"""Names by which nobody calls the page in good faith; the first one is what DNS rebinding looks like."""


def test_the_page_answers_to_no_name_that_is_not_its_own(house: Any) -> None:
    for host in HOSTS:
        answer = raw(house.url, f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        assert answer.split()[1] == b"400", host
    for lines in ("", "Host: 127.0.0.1\r\nHost: evil.example\r\n"):
        for version in ("1.0", "1.1"):
            assert raw(house.url, f"GET / HTTP/{version}\r\n{lines}\r\n".encode()).split()[1] == b"400"


def test_only_post_decides_and_pages_are_only_read(house: Any) -> None:
    person = house.person("jane")
    path = f"/jobs/{house.jobs['held']}"
    fields = urllib.parse.urlencode({"token": person.token(path), "reason": "x", "_method": "POST"})
    rest = (
        f"HTTP/1.1\r\nHost: {house.url[7:]}\r\nOrigin: {house.url}\r\n"
        f"Cookie: sct_session={person.cookies['sct_session']}\r\nX-HTTP-Method-Override: POST\r\n"
        f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(fields)}\r\n"
        f"Connection: close\r\n\r\n{fields}"
    )
    for method in ("GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "release"):
        for target in (f"{path}/release?{fields}", "/sign-out"):
            answer = raw(house.url, f"{method} {target} {rest}".encode())
            assert answer.split()[1] in (b"403", b"404", b"405", b"400"), (method, target)
    assert raw(house.url, f"POST {path} {rest}".encode()).split()[1] == b"405"
    assert held(house)
    assert person.get("/").status == 200


def test_a_huge_body_is_refused_before_it_is_read(house: Any) -> None:
    chunk = b"%x\r\n%s\r\n" % (middleware.BODY_BYTES, b"x" * middleware.BODY_BYTES)
    for target in ("/sign-in", "/", "/style.css"):
        start = f"POST {target} HTTP/1.1\r\nHost: {house.url[7:]}\r\nOrigin: {house.url}\r\n"
        told = raw(
            house.url, f"{start}Content-Length: 99999999999\r\n\r\n".encode() + b"x" * (2 * middleware.BODY_BYTES)
        )
        chunked = raw(house.url, f"{start}Transfer-Encoding: chunked\r\n\r\n".encode() + chunk * 3)
        assert [one.split()[1] for one in (told, chunked)] == [b"413", b"413"]
        assert b"connection: close" in told.lower()


NO_REQUESTS = (
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"a" * 2_000_000 + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"X: y\r\n" * 300_000 + b"\r\n",
    b"POST /sign-in HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
    b"POST /sign-in HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -1\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\x00" * 4096, b"GET\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX : y\r\n\r\n",
)  # fmt: skip
"""Bytes that are no request of HTTP/1.1 (RFC 9112), or one beyond all measure."""


def test_bytes_that_are_no_request_are_refused_and_others_are_served(house: Any) -> None:
    for number, sent in enumerate(NO_REQUESTS):
        answer = raw(house.url, sent + b"\r\n\r\n")
        assert not answer or answer.split()[1] in (b"400", b"431"), number
    assert house.person("vic").get("/").status == 200


def test_a_request_within_another_is_not_read_as_two(house: Any) -> None:
    inner = f"GET /style.css HTTP/1.1\r\nHost: {house.url[7:]}\r\n\r\n"
    start = f"POST /sign-in HTTP/1.1\r\nHost: {house.url[7:]}\r\nOrigin: {house.url}\r\n"
    lengths = f"Content-Length: {len(inner) + 5}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n"
    assert b"text/css" not in raw(house.url, f"{start}{lengths}\r\n0\r\n\r\n{inner}".encode())


# Time


def test_who_says_nothing_or_too_slowly_is_cut_off_while_others_are_served(
    house: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "HEADER_S", 1.0)
    monkeypatch.setattr(middleware, "BODY_S", 1.0)
    start = f"POST /sign-in HTTP/1.1\r\nHost: {house.url[7:]}\r\nOrigin: {house.url}\r\nContent-Length: 100\r\n\r\n"
    with ThreadPoolExecutor(4) as pool:
        silent = pool.submit(raw, house.url, b"")
        begun = pool.submit(raw, house.url, b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-")
        after = pool.submit(raw, house.url, b"GET /style.css HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nGET / HT")
        body = pool.submit(raw, house.url, start.encode() + b"name=")
        assert house.person().get("/sign-in").status == 200
        assert silent.result() == begun.result() == b""
        assert after.result().split()[1] == b"200"
        assert body.result().split()[1] == b"408"


def test_one_address_cannot_take_every_place(house: Any) -> None:
    where = urllib.parse.urlsplit(house.url)
    mine = [socket.create_connection((where.hostname, where.port), timeout=20) for _ in range(server.PER_ADDRESS + 8)]
    try:
        request = b"GET /style.css HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
        served = 0
        for connection in mine:
            try:
                connection.sendall(request)
                served += bool(connection.recv(100))
            except OSError:
                pass
        assert 0 < served <= server.PER_ADDRESS
    finally:
        for connection in mine:
            connection.close()


# What is told


def test_no_secret_is_in_the_audit_trail_the_pages_or_the_log(house: Any, capfd: pytest.CaptureFixture[str]) -> None:
    person = house.person("jane")
    key, token = person.cookies["sct_session"], person.token("/")
    person.sign_in("jane", "a wrong password")
    person.decide(house.jobs["held"], "cancel", reason="x")
    told = json.dumps(house.records()) + person.get("/").text + "".join(capfd.readouterr())
    assert not any(secret in told for secret in (PASSWORD, "a wrong password", key, "argon2"))
    assert token not in json.dumps(house.records())


def test_a_failure_of_ours_tells_strangers_nothing(house: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(case, "finding_rows", lambda *_: 1 / 0)
    answer = house.person("vic").get(f"/jobs/{house.jobs['held']}")
    assert (answer.status, answer.text) == (500, "Internal Server Error")
    assert {name: answer.headers[name] for name in middleware.SECURITY_HEADERS} == middleware.SECURITY_HEADERS
