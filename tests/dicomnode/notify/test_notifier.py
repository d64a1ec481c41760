"""Tests of notices, with a real mail server and a real webhook; patient data only where they are wanted.

The mail server is aiosmtpd; what is posted is verified by the library of Standard Webhooks.
"""

import base64
import contextlib
import dataclasses
import email
import email.policy
import http.server
import json
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
import standardwebhooks
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword

from dicomnode.cli.main import main
from dicomnode.config.load import Config, dump, load
from dicomnode.config.peers import Destination, Secret
from dicomnode.config.sections import Kind, Mail, Node, Notify, Webhook
from dicomnode.errors import ConfigError
from dicomnode.ledger.database import database_url, transaction
from dicomnode.ledger.ledger import Ledger
from dicomnode.ledger.notices import Notices, put
from dicomnode.ledger.rows import Plan
from dicomnode.node.check import checks
from dicomnode.notify.channels import check_webhook
from dicomnode.notify.notifier import Notifier
from dicomnode.spool.spool import Spool
from pipeline.phantom.mr_series import write_mr_series
from pipeline.phantom.thigh import axial_grid, thigh
from tests.support.authority import Authority

SECRET = "whsec_" + base64.b64encode(b"a key of thirty-two bytes, or so").decode()
PASSWORD = "correct horse battery"


@dataclass
class Letters:
    """The messages that a mail server accepted."""

    taken: list[EmailMessage] = field(default_factory=list)
    refuse: bool = False

    async def handle_DATA(self, _server: SMTP, _session: Any, envelope: Envelope) -> str:  # noqa: N802, aiosmtpd's name
        """Accept a message, or refuse it."""
        if self.refuse:
            return "451 try again later"
        letter = email.message_from_bytes(envelope.original_content or b"", policy=email.policy.default)
        assert isinstance(letter, EmailMessage)
        self.taken.append(letter)
        return "250 taken"


@contextlib.contextmanager
def mail_server(port: int, letters: Letters, **options: Any) -> Iterator[Letters]:
    """Start a mail server on this machine."""
    server = Controller(letters, hostname="127.0.0.1", port=port, **options)
    server.start()
    try:
        yield letters
    finally:
        server.stop()


@dataclass
class Posted:
    """The requests that a webhook received; it answers `status`."""

    status: int = 200
    requests: list[tuple[dict[str, str], bytes]] = field(default_factory=list)


@contextlib.contextmanager
def webhook(port: int, posted: Posted) -> Iterator[Posted]:
    """Start a webhook on this machine."""

    class Takes(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            posted.requests.append((dict(self.headers), body))
            self.send_response(posted.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Takes)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield posted
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class Desk:
    """A ledger and the notifier that reads it."""

    config: Config
    ledger: Ledger

    def notifier(self) -> Notifier:
        return Notifier(self.config, self.ledger, Spool(self.config.node.data))

    def job(self, series: str = "1.2.3", uids: tuple[str, ...] = ("1.2.3.1",)) -> str:
        """Open a job in state RECEIVED."""
        self.ledger.arrived(series, "MR1", len(uids), time.time())
        return self.ledger.received(series, uids, Plan("tiny", "a" * 64, "b" * 64), "test", lambda *_: None)[0]

    def held(self, series: str = "1.2.3", code: str = "BONE_FRACTION", uids: tuple[str, ...] = ("1.2.3.1",)) -> str:
        """Open a job whose CT is made, and hold it."""
        job = self.job(series, uids)
        hold = (code, f"{code.lower()} is 42 %, expected 2 to 20")
        self.ledger.synthesized(job, f"{series}.9", 3, ["planning"], hold, lambda *_: None)
        return job

    def until(self, true: Callable[[], Any], limit_s: float = 20.0) -> None:
        """Tick until a condition holds."""
        notifier, deadline = self.notifier(), time.monotonic() + limit_s
        while not true():
            assert time.monotonic() < deadline, Notices(self.ledger.engine).last(9)
            notifier.tick()
            time.sleep(0.05)

    def settled(self) -> bool:
        """Return whether there are notices, and every one has ended."""
        with transaction(self.ledger.engine) as connection:
            counted = connection.exec_driver_sql("SELECT count(*), count(ended_at) FROM notices").one()
        return bool(counted[0] == counted[1] > 0)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Callable[..., Desk]]:
    """Give a function that makes a desk for settings of `notify`."""
    made: list[Desk] = []

    def make(**settings: Any) -> Desk:
        destination = Destination("planning", "TPS", "127.0.0.1", 104)
        chosen = Notify(**({"gather_s": 0.0, "retry_first_s": 0.2, "retry_max_s": 0.4} | settings))
        config = Config(node=Node(data=tmp_path / "data"), destinations=(destination,), notify=chosen)
        config.node.data.mkdir(exist_ok=True)
        made.append(Desk(config, Ledger(database_url(config))))
        made[-1].ledger.create()
        return made[-1]

    yield make
    for one in made:
        one.ledger.close()


def plain(port: int) -> Mail:
    return Mail("127.0.0.1", "node@hospital.example", ("physics@hospital.example",), port, security="plain")


def body(letter: EmailMessage) -> str:
    return str(letter.get_content()).replace("\r\n", "\n")


def test_a_hold_is_one_mail_with_the_code_and_where_to_look_and_without_the_sentence(
    desk: Callable[..., Desk], free_port: Callable[[], int]
) -> None:
    with mail_server(port := free_port(), Letters()) as letters:
        here = desk(mail=plain(port), page="https://sct.hospital.example/")
        job = here.held()
        here.until(here.settled)
        here.notifier().tick()
        [letter] = letters.taken
        assert letter["Subject"] == "[SCTNODE] hold: BONE_FRACTION"
        assert (letter["To"], letter["Auto-Submitted"]) == ("physics@hospital.example", "auto-generated")
        assert f"https://sct.hospital.example/jobs/{job}" in body(letter)
        assert "42 %" not in body(letter)
        assert "not for clinical use" in body(letter)


def test_what_happens_together_is_one_message(desk: Callable[..., Desk], free_port: Callable[[], int]) -> None:
    with mail_server(port := free_port(), Letters()) as letters:
        here = desk(mail=plain(port), gather_s=1.0)
        here.held("1.2.1")
        here.held("1.2.2", "ANATOMY")
        late = here.job("1.2.3")
        here.ledger.held(late, "FAILED", "ValueError: x")
        here.until(here.settled)
        assert [one["Subject"] for one in letters.taken] == ["[SCTNODE] 3 notices: 2 hold, 1 failure"]


def test_sentences_and_patients_are_told_only_where_the_site_wants_them(
    desk: Callable[..., Desk], free_port: Callable[[], int], tmp_path: Path
) -> None:
    with mail_server(port := free_port(), Letters()) as letters:
        for contents in ("codes", "sentences", "patients"):
            here = desk(mail=plain(port), contents=contents)
            source = f"1.2.{len(letters.taken) + 1}"
            folder = Spool(here.config.node.data).series_folder(source)
            folder.mkdir(parents=True)
            [path, *_] = write_mr_series(thigh(axial_grid((5, 8, 8), (6.0, 20.0, 20.0))).mr, tmp_path / contents)
            (folder / "1.dcm").write_bytes(path.read_bytes())
            here.held(source, uids=("1",))
            here.until(here.settled)
        told = [body(letter) for letter in letters.taken]
    assert ["42 %" in text for text in told] == [False, True, True]
    assert ["patient: " in text for text in told] == [False, False, True]


def test_alarms_name_the_destination_and_rejections_are_told_where_they_are_wanted(
    desk: Callable[..., Desk], free_port: Callable[[], int]
) -> None:
    with mail_server(port := free_port(), Letters()) as letters:
        here = desk(mail=plain(port), about=("alarm", "rejection"))
        job = here.held("1.2.1")
        here.ledger.alarmed(job, "planning", "planning has not taken everything for 4000 s: it says DOE^JANE")
        here.ledger.rejected(here.job("1.2.2"), "GAP", "gap of 3 mm")
        here.until(lambda: len("".join(map(body, letters.taken)).split(" job ")) == 3)
        text = "".join(map(body, letters.taken))
        assert "destination: planning" in text
        assert "DOE" not in text
        assert "REJECTION: GAP" in text


def test_a_mail_server_that_is_down_loses_nothing_and_stops_nothing(
    desk: Callable[..., Desk], free_port: Callable[[], int]
) -> None:
    here = desk(mail=plain(port := free_port()))
    here.held()
    notices = Notices(here.ledger.engine)
    here.until(lambda: (last := notices.last(1)) and last[0].attempt > 2)
    assert "cannot be used (Connection refused)" in notices.last(1)[0].sentence
    with mail_server(port, Letters(refuse=True)) as letters:
        here.until(lambda: "answered 451" in notices.last(1)[0].sentence)
        letters.refuse = False
        here.until(here.settled)
        assert len(letters.taken) == 1
    assert notices.last(1)[0].sent


def test_what_nobody_takes_is_given_up_in_the_end(desk: Callable[..., Desk], free_port: Callable[[], int]) -> None:
    here = desk(mail=plain(free_port()), give_up_after_s=1.0)
    here.held()
    here.until(here.settled)
    [row] = Notices(here.ledger.engine).last(9)
    assert (row.sent, row.ended_at is not None) == (False, True)


def test_a_mail_server_that_hangs_delays_neither_the_node_nor_the_webhook(
    desk: Callable[..., Desk], free_port: Callable[[], int], tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text(SECRET)
    silent = __import__("socket").create_server(("127.0.0.1", 0))
    with silent, webhook(port := free_port(), Posted()) as posted:
        hook = Webhook(Secret(file=tmp_path / "secret"), f"http://127.0.0.1:{port}/sct")
        slow = dataclasses.replace(plain(silent.getsockname()[1]), timeout_s=2.0)
        here = desk(mail=slow, webhook=hook)
        here.held()
        began = time.monotonic()
        here.notifier().tick()
        assert time.monotonic() - began < 1.0
        here.until(lambda: posted.requests)
        assert not here.settled()
        here.until(lambda: "timed out" in "".join(row.sentence for row in Notices(here.ledger.engine).last(9)))


def test_the_library_of_standard_webhooks_verifies_what_is_posted(
    desk: Callable[..., Desk], free_port: Callable[[], int], tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text(SECRET)
    with webhook(port := free_port(), Posted(status=500)) as posted:
        hook = Webhook(Secret(file=tmp_path / "secret"), f"http://127.0.0.1:{port}/sct")
        here = desk(webhook=hook)
        job = here.held()
        here.until(lambda: len(posted.requests) > 1)
        posted.status = 204
        here.until(here.settled)
    headers, content = posted.requests[-1]
    told = standardwebhooks.Webhook(SECRET).verify(content, {name.lower(): one for name, one in headers.items()})
    assert told["notices"][0] | {"kind": "hold", "code": "BONE_FRACTION", "job": job} == told["notices"][0]
    assert len({sent["webhook-id"] for sent, _ in posted.requests}) == 1
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(SECRET).verify(
            content.replace(b"hold", b"held"), {name.lower(): one for name, one in headers.items()}
        )


def test_a_password_goes_over_tls_only_to_a_server_with_a_certificate_of_the_ca(
    desk: Callable[..., Desk], free_port: Callable[[], int], tmp_path: Path
) -> None:
    hospital, stranger = Authority(tmp_path / "hospital"), Authority(tmp_path / "stranger", "Strange CA")
    pair = hospital.sign("localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    (tmp_path / "password").write_text(PASSWORD)

    def right(_server: SMTP, _session: Any, _envelope: Envelope, _mechanism: str, shown: LoginPassword) -> AuthResult:
        return AuthResult(success=(shown.login, shown.password) == (b"node", PASSWORD.encode()))

    options = {"tls_context": context, "require_starttls": True, "authenticator": right, "auth_required": True}
    with mail_server(port := free_port(), Letters(), **options) as letters:
        secret = Secret(file=tmp_path / "password")
        mail = dataclasses.replace(plain(port), security="starttls", ca=stranger.ca, user="node", password=secret)
        here = desk(mail=mail)
        here.held()
        here.until(lambda: (last := Notices(here.ledger.engine).last(1)) and "CERTIFICATE" in last[0].sentence.upper())
        assert letters.taken == []
        here = desk(mail=dataclasses.replace(mail, ca=hospital.ca))
        here.until(here.settled)
        assert len(letters.taken) == 1


KILLED = """
import sys, time
from pathlib import Path
from dicomnode.notify import notifier as notify
from dicomnode.config.load import load
from dicomnode.ledger.ledger import Ledger, database_url
from dicomnode.spool.spool import Spool

notify.LEASE_S = -2.5  # with three times the patience of 1 s: an attempt is made again after half a second
config = load(Path(sys.argv[1]))
notifier = notify.Notifier(config, Ledger(database_url(config)), Spool(config.node.data))
while True:
    notifier.tick()
    time.sleep(0.01)
"""


@dataclass
class Deadly(Letters):
    """A mail server that kills its client between the message and the answer, some times."""

    kills: int = 2
    client: subprocess.Popen[bytes] | None = None

    async def handle_DATA(self, server: SMTP, session: Any, envelope: Envelope) -> str:  # noqa: N802, aiosmtpd's name
        """Accept a message; the client is killed before it receives the answer."""
        if self.kills > 0 and self.client is not None:
            self.kills -= 1
            os.kill(self.client.pid, signal.SIGKILL)
            if self.kills == 1:
                return "451 not taken, and nobody hears it"
        return await super().handle_DATA(server, session, envelope)


def test_kill_9_between_message_and_answer_loses_no_notice_and_repeats_each_once_a_kill_at_most(
    desk: Callable[..., Desk], free_port: Callable[[], int], tmp_path: Path
) -> None:
    with mail_server(port := free_port(), Deadly()) as letters:
        assert isinstance(letters, Deadly)
        here = desk(mail=dataclasses.replace(plain(port), timeout_s=1.0))
        (tmp_path / "node.yaml").write_text(dump(here.config))
        for number in range(6):
            here.held(f"1.2.{number}", f"CODE_{number}")
        deadline = time.monotonic() + 90
        while not here.settled() and time.monotonic() < deadline:
            if letters.client is None or letters.client.poll() is not None:
                letters.client = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path / "node.yaml")])
            time.sleep(0.05)
        assert letters.client is not None
        letters.client.kill()
        letters.client.wait()
    told = "".join(map(body, letters.taken))
    assert letters.kills == 0
    assert [told.count(f"HOLD: CODE_{number},") for number in range(6)] == [2] * 6
    assert len({letter["Message-ID"] for letter in letters.taken}) == 1


def test_nothing_waits_where_nobody_is_told_anything(desk: Callable[..., Desk]) -> None:
    here = desk()
    here.held()
    here.notifier().tick()
    with transaction(here.ledger.engine) as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM notices").scalar_one() == 0


def test_the_node_itself_may_have_something_to_tell(desk: Callable[..., Desk], free_port: Callable[[], int]) -> None:
    with mail_server(port := free_port(), Letters()) as letters:
        here = desk(mail=plain(port), page="https://sct.hospital.example")
        with transaction(here.ledger.engine) as connection:
            put(connection, Kind.CONSTANCY, "CONSTANCY_FAILED", "soft tissue is 80 HU off")
        here.until(here.settled)
        assert "CONSTANCY: CONSTANCY_FAILED," in body(letters.taken[0])
        assert "https://sct.hospital.example\n" in body(letters.taken[0])


def test_the_command_sends_a_test_over_each_channel_and_says_what_came_of_it(
    desk: Callable[..., Desk], free_port: Callable[[], int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "secret").write_text(SECRET)
    with mail_server(port := free_port(), Letters()) as letters:
        away = Webhook(Secret(file=tmp_path / "secret"), f"http://127.0.0.1:{free_port()}/token-of-the-site")
        (tmp_path / "node.yaml").write_text(dump(desk(mail=plain(port), webhook=away).config))
        assert main(["notify", "--config", str(tmp_path / "node.yaml")]) == 1
    assert letters.taken[0]["Subject"] == "[SCTNODE] alarm: TEST"
    said = capsys.readouterr().out
    assert "mail: taken\nwebhook: 127.0.0.1 cannot be used" in said
    assert "token-of-the-site" not in said


def test_check_says_who_is_told_and_finds_a_secret_that_is_no_key(desk: Callable[..., Desk], tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET)
    hook = Webhook(Secret(file=tmp_path / "secret"), "https://alerts.example/of-the-site")

    [one] = [one for one in checks(desk(mail=plain(2525), webhook=hook).config) if one.name == "notifications"]
    told = "mail to physics@hospital.example by 127.0.0.1:2525, plain; webhook at alerts.example"
    assert (one.good, one.sentence) == (True, f"hold, failure, alarm, constancy (codes): {told}")
    for wrong in ("whsec_c2hvcnQ=", "whsec_!!!", base64.b64encode(b"x" * 32).decode()):
        (tmp_path / "secret").write_text(wrong)
        with pytest.raises(ConfigError, match="holds no such key") as caught:
            check_webhook(hook)
        assert wrong not in str(caught.value)


def test_two_processes_on_postgresql_tell_each_notice_once(
    postgresql_url: str, free_port: Callable[[], int], tmp_path: Path
) -> None:
    with mail_server(port := free_port(), Letters()) as letters:
        settings = Notify(gather_s=0.0, mail=plain(port))
        config = Config(node=Node(data=tmp_path), database=postgresql_url, notify=settings)
        ledger = Ledger(database_url(config))
        ledger.create()
        here, stop = Desk(config, ledger), threading.Event()
        notifiers = [here.notifier(), here.notifier()]

        def work(notifier: Notifier) -> None:
            while not stop.wait(0.005):
                notifier.tick()

        threads = [threading.Thread(target=work, args=(one,)) for one in notifiers]
        for thread in threads:
            thread.start()
        for number in range(20):
            here.held(f"1.2.{number}", f"CODE_{number}")
        here.until(here.settled)
        stop.set()
        for thread in threads:
            thread.join()
        ledger.close()
    told = "".join(map(body, letters.taken))
    assert [told.count(f"HOLD: CODE_{number},") for number in range(20)] == [1] * 20


MAIL = "{host: m.example, sender: a@b.example, to: [c@d.example]}"


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        ("{mail: {host: m.example, sender: a@b.example, to: []}}", "notify.mail.to", "at least one"),
        ("{mail: {host: m.example, sender: nobody, to: [c@d.example]}}", "notify.mail.sender", "e-mail address"),
        (
            "{mail: {host: m, sender: 'a@b.example\nBcc: x@y.example', to: [c@d.example]}}",
            "notify.mail.sender",
            "e-mail",
        ),
        (f"{{mail: {MAIL[:-1]}, user: jane}}}}", "notify.mail", "write user and password"),
        (
            f"{{mail: {MAIL[:-1]}, security: plain, user: jane, password: {{environment: P}}}}}}",
            "notify.mail",
            "in clear",
        ),
        (f"{{contents: patients, mail: {MAIL[:-1]}, security: plain}}}}", "notify", "in clear"),
        ("{webhook: {url: 'https://a.example'}}", "notify.webhook.secret", "is missing"),
        (
            "{contents: sentences, webhook: {url: 'http://a.example', secret: {environment: S}}}",
            "notify",
            "would be sent in clear",
        ),
        ("{about: [holds]}", "notify.about[0]", "write one of: hold, failure"),
    ],
)
def test_a_complaint_names_the_key(tmp_path: Path, text: str, path: str, words: str) -> None:
    (tmp_path / "node.yaml").write_text(f"notify: {text}\n")
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "node.yaml")
    assert (caught.value.path, words in str(caught.value)) == (path, True), caught.value


def test_what_is_dumped_of_notify_is_loaded_equal(desk: Callable[..., Desk], tmp_path: Path) -> None:
    config = desk(mail=plain(25), webhook=Webhook(Secret(environment="S"), "https://a.example")).config
    (tmp_path / "node.yaml").write_text(dump(config))
    assert load(tmp_path / "node.yaml").notify == config.notify


def test_every_key_of_a_channel_is_explained(project: Path) -> None:
    text = (project / "config" / "node.yaml").read_text()
    section = text.partition("\nnotify:")[2].partition("\nlog:")[0]
    for kind in (Mail, Webhook):
        for one in dataclasses.fields(kind):
            assert f"#   {one.name}: " in section, one.name


def test_the_body_of_a_webhook_is_json_without_the_sentence(
    desk: Callable[..., Desk], free_port: Callable[[], int], tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text(SECRET)
    with webhook(port := free_port(), Posted()) as posted:
        here = desk(webhook=Webhook(Secret(file=tmp_path / "secret"), f"http://127.0.0.1:{port}/sct"))
        here.held()
        here.until(here.settled)
    told = json.loads(posted.requests[0][1])
    assert set(told["notices"][0]) == {"id", "kind", "code", "at", "job", "meaning", "todo", "destination", "page"}
