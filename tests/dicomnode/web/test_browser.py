"""The page of people who sign in, in a real browser, and over TLS."""

import re
import socket
import ssl
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dicomnode.config.sections import Web
from dicomnode.errors import ConfigError
from dicomnode.web import app as web
from dicomnode.web import server as listener

PASSWORD = "correct horse battery"


def typed(browser: Any, selector: str, text: str) -> None:
    """Type into a field as a person does."""
    browser.call(f"/element/{found(browser, selector)}/value", {"text": text})


def pressed(browser: Any, selector: str) -> None:
    """Press a button, and wait for the page that follows."""
    browser.run("window.before = true")
    browser.call(f"/element/{found(browser, selector)}/click", {})
    until = time.monotonic() + 30
    while browser.run("return window.before === true || document.readyState !== 'complete'"):
        assert time.monotonic() < until
        time.sleep(0.05)


def found(browser: Any, selector: str) -> str:
    """WebDriver's name of an element."""
    element = browser.call("/element", {"using": "css selector", "value": selector})
    return str(next(iter(element.values())))


def text_of(browser: Any) -> str:
    """What a person reads."""
    return str(browser.run("return document.body.innerText"))


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_a_physicist_signs_in_releases_a_job_and_signs_out(
    house: Any, browser: Any, tmp_path: Path, width: int, dark: bool
) -> None:
    browser.open(tmp_path / "profile", width, dark=dark)
    job = house.jobs["held"]

    def looked(name: str) -> None:
        (tmp_path / f"{name}.png").write_bytes(browser.screenshot())
        assert browser.run("return document.documentElement.scrollWidth") == width, name

    browser.go(f"{house.url}/jobs/{job}")
    looked("sign-in")
    typed(browser, "[name=name]", "jane")
    typed(browser, "[name=password]", "wrong " + PASSWORD)
    pressed(browser, ".card button")
    looked("wrong")
    assert "Wrong name or password." in text_of(browser)
    typed(browser, "[name=password]", PASSWORD)
    pressed(browser, ".card button")
    looked("job")
    assert browser.run("return location.pathname") == f"/jobs/{job}"
    assert "sct_session" not in browser.run("return document.cookie")
    browser.call(f"/element/{found(browser, '[formaction$=release]')}/click", {})
    assert house.ledger.job(job).held, "a browser asks for the reason first"
    typed(browser, "[name=reason]", "looked at the knee: <good>")
    pressed(browser, "[formaction$=release]")
    looked("released")
    assert house.ledger.job(job).held is None
    assert "looked at the knee: <good>" in text_of(browser)
    pressed(browser, ".who button")
    assert browser.run("return location.pathname") == "/sign-in"
    browser.go(house.url)
    assert browser.run("return location.pathname") == "/sign-in"


SCRIPTS = (
    "<script>document.title='pwned'</script>",
    '"><img src=x onerror="document.title=\'pwned\'">',
    "<svg/onload=document.title='pwned'>",
    "</textarea></td><iframe srcdoc=\"<script>top.document.title='pwned'</script>\"></iframe>",
)


def test_no_browser_runs_what_strangers_write_and_no_other_site_uses_the_session(
    house: Any, browser: Any, came: Callable[..., str], serving: Any, tmp_path: Path
) -> None:
    for n, script in enumerate(SCRIPTS):
        house.ledger.arrived(f"1.9.{n}", script, 3, time.time())
        house.ledger.rejected(came(house.ledger, f"1.8.{n}"), "GAP", f"SeriesDescription {script}")
    browser.open(tmp_path / "profile", 1280, dark=False)
    browser.go(f"{house.url}/sign-in")
    typed(browser, "[name=name]", "jane")
    typed(browser, "[name=password]", PASSWORD)
    pressed(browser, ".card button")
    assert all(script in text_of(browser) for script in SCRIPTS)
    assert browser.run("return document.title").startswith("(1 held) Cases")
    strange = "script:not([src='/static/live.js']), img, svg, iframe"
    assert browser.run(f'return document.querySelectorAll("{strange}").length') == 0

    with serving(evil_site(house)) as elsewhere:
        browser.go(elsewhere.replace("127.0.0.1", "localhost"))
        until = time.monotonic() + 30
        while "jobs" not in browser.run("return location.href"):
            assert time.monotonic() < until
            time.sleep(0.1)
    assert house.ledger.job(house.jobs["held"]).held
    browser.go(f"{house.url}/jobs/{house.jobs['held']}")
    assert "jane, physicist" in text_of(browser), "the session itself is still there"


def evil_site(house: Any) -> Any:
    """A page of another site that sends a form to ours as soon as it is loaded."""
    path = f"{house.url}/jobs/{house.jobs['held']}/release"
    form = f'<form method=post action="{path}"><input name=reason value=x><input name=token value=x></form>'
    page = f"<!doctype html>{form}<script>document.forms[0].submit()</script>".encode()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html")]})
            await send({"type": "http.response.body", "body": page})

    return app


# TLS


def certificate(folder: Path, name: str, openssl: str) -> tuple[Path, Path]:
    """A new self-signed certificate for this machine, and its key."""
    made = folder / f"{name}.pem", folder / f"{name}.key"
    wanted = [
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        f"/CN={name}",
        "-addext",
        "subjectAltName=IP:127.0.0.1",
    ]
    command = [openssl, "req", "-x509", *wanted, "-out", str(made[0]), "-keyout", str(made[1])]
    subprocess.run(command, check=True, capture_output=True)
    return made


def shown(port: int, context: ssl.SSLContext) -> tuple[str, str]:
    """The page's version of TLS and the name in its certificate; raises ssl.SSLError."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as plain, context.wrap_socket(plain) as secured:
        peer = secured.getpeercert(binary_form=True) or b""
        return secured.version() or "", "second" if b"second" in peer else "first"


def test_over_tls_cookies_are_bound_to_it_and_a_changed_certificate_is_taken_up(
    house: Any,
    program: Callable[[str], str],
    free_port: Callable[[], int],
    tmp_path: Path,
    monkeypatch: Any,
    running: Any,
) -> None:
    monkeypatch.setattr(listener, "RELOAD_S", 0)
    pem, key = certificate(tmp_path, "first", program("openssl"))
    config = replace(house.config, web=Web(certificate=pem, key=key))
    port = free_port()
    any_one = ssl._create_unverified_context()
    server = listener.server(web.app(config), "127.0.0.1", port, certificate=listener.Certificate(config.web))
    with running(server):
        assert shown(port, any_one) == ("TLSv1.3", "first")
        head = secured(port, any_one, "GET /sign-in")
        assert "set-cookie: __Host-sct_form=" in head
        assert "; secure" in head.lower()
        assert "strict-transport-security: max-age=" in head

        refused = subprocess.run(
            [program("openssl"), "s_client", "-tls1_1", "-cipher", "ALL:@SECLEVEL=0", "-connect", f"127.0.0.1:{port}"],
            input="", capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        assert refused.returncode != 0
        assert "Cipher is (NONE)" in refused.stdout

        key.write_text("no key at all")
        time.sleep(1.0)
        assert shown(port, any_one)[1] == "first"
        for new, where in zip(certificate(tmp_path, "second", program("openssl")), (pem, key), strict=True):
            new.replace(where)
        until = time.monotonic() + 30
        while shown(port, any_one)[1] != "second":
            assert time.monotonic() < until
            time.sleep(0.1)


def test_behind_a_proxy_that_ends_tls_forms_are_taken_and_cookies_are_bound_to_it(
    house: Any, running: Any, free_port: Callable[[], int]
) -> None:
    page = {"host": "sct.example", "origin": "https://sct.example", "x_forwarded_proto": "https"}
    forwarded = {name.replace("_", "-"): value for name, value in page.items()}
    proxied = replace(house.config, web=Web(proxies=("127.0.0.0/8",), names=("sct.example",)))
    for config, status in ((proxied, 303), (replace(house.config, web=Web(names=("sct.example",))), 403)):
        with running(listener.server(web.app(config), "127.0.0.1", free_port(), config.web.proxies)) as url:
            person = house.person_at(url)
            form = person.get("/sign-in", headers=forwarded)
            [nonce] = [line for line in form.cookies if "sct_form=" in line]
            assert nonce.startswith("__Host-sct_form=") == (status == 303)
            token = re.search(r'name="token" value="([^"]+)"', form.text)
            assert token
            answer = person.send("/sign-in", {"name": "vic", "password": PASSWORD, "token": token[1]}, **page)
            assert answer.status == status


def secured(port: int, context: ssl.SSLContext, request: str) -> str:
    """The head of an answer over TLS."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as plain, context.wrap_socket(plain) as connection:
        connection.sendall(f"{request} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while more := connection.recv(65536):
            answer += more
    return answer.partition(b"\r\n\r\n")[0].decode()


def test_a_certificate_that_cannot_be_used_is_a_complaint(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^web\.certificate: .*none\.pem"):
        listener.Certificate(Web(certificate=tmp_path / "none.pem", key=tmp_path / "none.key"))
    with pytest.raises(ValueError, match="together"):
        Web(certificate=tmp_path / "none.pem")
