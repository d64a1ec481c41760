"""Who comes in: the door before every page, and the pages of signing in and out.

no users, and the page is on this machine alone   everybody reads, nobody decides
users                                             only who signs in; a viewer reads, a physicist decides
anything else                                     nobody: 503, and a sentence that says what to do

GET  /sign-in    the form; ?next= is a page of ours or ignored
POST /sign-in    name and password; a wrong one costs a wait that grows (`throttle`)
POST /sign-out

Who is signed in: kept in this process's memory, found by a random key that only the browser has.

A session ends when nobody has used it for `web.session_idle_s`, `web.session_max_s` after sign-in, at sign-out, when
the user is removed or gets another password or role, and when this process ends.

How long who failed to sign in must wait: longer each time, by user and by address.

    failures   1  2  3  4    5    6    7    ...
    wait       0  0  0  1 s  2 s  4 s  8 s  ... up to a minute for a user, a quarter of an hour for an address

A user waits no longer than a minute, because anybody may fail in a user's name. A minute allows 1440 guesses a day.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from dicomnode import log, metrics
from dicomnode.errors import Forged, UsersUnreadable
from dicomnode.security.audit_trail import AuditTrail, Event
from dicomnode.security.users import Role, User, Users, is_local, users_path
from dicomnode.web.middleware import READING
from dicomnode.web.rendering import pages_of

if TYPE_CHECKING:
    from dicomnode.config.load import Config

FOR_ALL: Final = ("/sign-in", "/style.css")
"""Pages before the door, and what lies below `SCRIPTS`."""

SCRIPTS: Final = "/static/"

HOW_TO_ADD: Final = "On the node's machine: sct-node user add NAME --role physicist"

OURS: Final = re.compile(r"/(jobs/[0-9a-f]{6,64}|system|help)?(\?state=[A-Za-z]{1,20})?")
"""Where a sign-in may lead; anything else leads to the first page."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who asks: the name of a user or none, what they may do, whence they come, and the token their forms carry."""

    name: str
    role: Role
    address: str
    token: str

    @property
    def by(self) -> str:
        """As events and the audit trail name them."""
        return f"web:{self.name or 'anonymous'}"

    @property
    def decides(self) -> bool:
        """Whether they may decide about jobs."""
        return self.role is Role.PHYSICIST


class PageUsers:
    """Users, sessions and failures of one page."""

    def __init__(self, config: Config) -> None:
        self.open = is_local(config)
        self.users = Users(users_path(config))
        self.sessions = Sessions(config.web.session_idle_s, config.web.session_max_s)
        self.throttle = Throttle()
        self.nonces = Nonces()
        self.trail = AuditTrail(config.audit, config.node.data, config.node.ae_title)
        self._said = ""

    def closed(self, request: Request, why: str) -> Response:
        """What everybody gets while nobody can sign in; the log says why, once."""
        if why != self._said:
            log.event("page_closed", level="error", reason=why)
            self._said = why
        text = "Nobody can sign in at the moment; the node's log says why."
        return pages_of(request).problem(request, "The page is closed", text, 503)

    def visitor(self, request: Request) -> Visitor | None:
        """Who asks, when they may come in. Raises UsersUnreadable."""
        if self.open and not self.users.all():
            return Visitor("", Role.VIEWER, address_of(request), "")
        person = "auto" not in request.query_params
        key = request.cookies.get(_cookie(request, "session"), "")
        session = self.sessions.find(key, self.users, time.monotonic(), person=person)
        if session is None:
            return None
        return Visitor(session.user.name, session.user.role, address_of(request), session.token)


class PageAccess:
    """ASGI middleware: past it are only those who may read, and `request.state.visitor` says who."""

    def __init__(self, app: ASGIApp, entry: PageUsers) -> None:
        self._app = app
        self._entry = entry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, lead to the sign-in, or refuse."""
        if scope["type"] != "http" or scope["path"] in FOR_ALL or scope["path"].startswith(SCRIPTS):
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            request.state.visitor = self._entry.visitor(request)
            refusal = None if request.state.visitor else _outside(request, self._entry)
        except UsersUnreadable as error:
            refusal = self._entry.closed(request, str(error))
        await (refusal or self._app)(scope, receive, send)


def routes() -> list[Route]:
    """The pages of signing in and out."""
    return [
        Route("/sign-in", _form, methods=["GET"]),
        Route("/sign-in", _sign_in, methods=["POST"]),
        Route("/sign-out", _sign_out, methods=["POST"]),
    ]


def visitor_of(request: Request) -> Visitor:
    """Who asks; past the door there is always one."""
    visitor: Visitor = request.state.visitor
    return visitor


def entry_of(request: Request) -> PageUsers:
    """What the application was made with."""
    entry: PageUsers = request.app.state.entry
    return entry


def address_of(request: Request) -> str:
    """Whence a request comes: the caller's address, or what a proxy of the configuration says it is."""
    return request.client.host if request.client else ""


def record(request: Request, event: Event, **more: Any) -> None:
    """An audit record of what the visitor did."""
    visitor = visitor_of(request)
    entry_of(request).trail.record(event, by=visitor.by, address=visitor.address, **more)


async def form_of(request: Request, token: str) -> dict[str, str]:
    """The fields of a form of ours: one that carries `token`. Raises Forged."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise Forged("This page takes only what its own forms send.")
    try:
        fields = parse_qs((await request.body()).decode(), keep_blank_values=True, max_num_fields=20, errors="strict")
    except ValueError:
        raise Forged("This page takes only what its own forms send.") from None
    given = fields.pop("token", [""])
    if len(given) != 1 or not token or not hmac.compare_digest(given[0].encode(), token.encode()):
        raise Forged("The form is too old, or not of this page. Go back, load the page again and repeat.")
    return {name: values[0] for name, values in fields.items()}


def _outside(request: Request, entry: PageUsers) -> Response:
    """What somebody gets who is not signed in."""
    if not entry.users.all():
        return entry.closed(request, "there are no users: sct-node user add NAME --role physicist")
    if request.method not in READING:
        return pages_of(request).problem(request, "Not signed in", "The session has ended. Sign in and repeat.", 403)
    asked = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return RedirectResponse(f"/sign-in?next={quote(_ours(asked), safe='')}", 303)


def _ours(path: str) -> str:
    return path if OURS.fullmatch(path) else "/"


def _cookie(request: Request, name: str) -> str:
    """A cookie's name; under TLS with the prefix that binds it to this host and to TLS (RFC 6265bis 4.1.3.2)."""
    return f"__Host-sct_{name}" if request.url.scheme == "https" else f"sct_{name}"


def _set(request: Request, answer: Response, name: str, value: str) -> None:
    """A cookie that scripts cannot read and other sites cannot send, until the browser is closed."""
    secure = request.url.scheme == "https"
    answer.set_cookie(_cookie(request, name), value, path="/", secure=secure, httponly=True, samesite="strict")


def _drop(request: Request, answer: Response, name: str) -> None:
    secure = request.url.scheme == "https"
    answer.delete_cookie(_cookie(request, name), path="/", secure=secure, httponly=True, samesite="strict")


def _form(request: Request) -> Response:
    """GET /sign-in"""
    if not entry_of(request).users.all():
        return pages_of(request).problem(request, "Nobody can sign in", f"There are no users yet. {HOW_TO_ADD}", 404)
    return _asking(request, request.query_params.get("next", "/"))


def _asking(request: Request, leads_to: str, problem: str = "", name: str = "", status: int = 200) -> Response:
    """The form, with what was wrong before."""
    nonce = secrets.token_urlsafe(32)
    token = entry_of(request).nonces.token(nonce)
    values = {"next": _ours(leads_to), "problem": problem, "name": name, "token": token}
    answer = pages_of(request).page(request, "sign_in.html", values, status)
    _set(request, answer, "form", nonce)
    return answer


async def _sign_in(request: Request) -> Response:
    """POST /sign-in"""
    nonce = request.cookies.get(_cookie(request, "form"), "")
    form = await form_of(request, entry_of(request).nonces.token(nonce) if nonce else "")
    return await run_in_threadpool(_tried, request, form)


def _tried(request: Request, form: dict[str, str]) -> Response:
    entry, address, name = entry_of(request), address_of(request), form.get("name", "")[:64]
    wait_s = entry.throttle.begin(name, address, time.monotonic())
    if wait_s > 0:
        metrics.SIGN_INS.labels(outcome="throttled").inc()
        problem = f"Too many attempts. Try again in {wait_s:.0f} s."
        answer = _asking(request, form.get("next", "/"), problem, name, 429)
        answer.headers["retry-after"] = str(int(wait_s) + 1)
        return answer
    user = entry.users.verified(name, form.get("password", ""))
    if user is None:
        return _refused(request, form, name)
    entry.throttle.succeeded(name, address)
    return _let_in(request, form, user)


def _refused(request: Request, form: dict[str, str], name: str) -> Response:
    """A wrong name or password. A name that nobody has is not recorded: it may be a password in the wrong field."""
    entry = entry_of(request)
    by = f"web:{name}" if name in entry.users.all() else "web:unknown"
    entry.trail.record(Event.LOGIN, by=by, address=address_of(request), failed="wrong name or password")
    metrics.SIGN_INS.labels(outcome="refused").inc()
    return _asking(request, form.get("next", "/"), "Wrong name or password.", name, 403)


def _let_in(request: Request, form: dict[str, str], user: User) -> Response:
    """A new session, whatever key the browser came with; that one ends."""
    entry = entry_of(request)
    entry.sessions.end(request.cookies.get(_cookie(request, "session"), ""))
    key = entry.sessions.begin(user, time.monotonic())
    entry.trail.record(Event.LOGIN, by=f"web:{user.name}", address=address_of(request))
    metrics.SIGN_INS.labels(outcome="accepted").inc()
    answer = RedirectResponse(_ours(form.get("next", "/")), 303)
    _set(request, answer, "session", key)
    _drop(request, answer, "form")
    return answer


async def _sign_out(request: Request) -> Response:
    """POST /sign-out"""
    await form_of(request, visitor_of(request).token)
    entry_of(request).sessions.end(request.cookies.get(_cookie(request, "session"), ""))
    await run_in_threadpool(record, request, Event.LOGOUT)
    answer = RedirectResponse("/sign-in", 303)
    _drop(request, answer, "session")
    return answer


OF_ONE_USER: Final = 8
"""Sessions of one user; a further one ends the oldest."""


@dataclass(slots=True)
class Session:
    """One who is signed in, the token that their forms carry, and when (s) it began and was used last."""

    user: User
    token: str
    began: float
    used: float


class Sessions:
    """All sessions. Thread-safe. Times are seconds of any clock that does not jump."""

    def __init__(self, idle_s: float, longest_s: float) -> None:
        self._idle_s = idle_s
        self._longest_s = longest_s
        self._sessions: OrderedDict[bytes, Session] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self, user: User, now: float) -> str:
        """Sign a user in. -> the key, 256 random bits; never one that somebody proposed."""
        key = secrets.token_urlsafe(32)
        with self._lock:
            own = [digest for digest, session in self._sessions.items() if session.user.name == user.name]
            for digest in own[: max(len(own) - OF_ONE_USER + 1, 0)]:
                del self._sessions[digest]
            self._sessions[_digest(key)] = Session(user, secrets.token_urlsafe(32), now, now)
        return key

    def find(self, key: str, users: Users, now: float, *, person: bool) -> Session | None:
        """The session of a key, or None; `person` tells whether somebody acts, or a page reads itself again.

        Raises UsersUnreadable.
        """
        known = users.all()
        with self._lock:
            session = self._sessions.get(_digest(key))
            if session is None:
                return None
            over = now - session.used > self._idle_s or now - session.began > self._longest_s
            if over or known.get(session.user.name) != session.user:
                del self._sessions[_digest(key)]
                return None
            if person:
                session.used = now
            return session

    def end(self, key: str) -> None:
        """Sign out."""
        with self._lock:
            self._sessions.pop(_digest(key), None)


class Nonces:
    """Tokens for a form that is filled in before anybody is signed in: bound to a random cookie, nothing is kept."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)

    def token(self, nonce: str) -> str:
        """The token that belongs to a cookie's value."""
        return hmac.new(self._key, nonce.encode(), hashlib.sha256).hexdigest()


def _digest(key: str) -> bytes:
    """What is kept of a key: memory that leaks signs nobody in."""
    return hashlib.sha256(key.encode()).digest()


FREE: Final = 3
"""Failures that cost nothing: people mistype."""
FIRST_S: Final = 1.0
"""The first wait; each further failure doubles it."""
USER_MAX_S: Final = 60.0
ADDRESS_MAX_S: Final = 900.0
FORGET_S: Final = 3600.0
"""After so long without a failure all is forgotten."""
KEPT: Final = 10_000
"""Users and addresses that are remembered; the ones that failed longest ago make room."""


@dataclass(slots=True)
class _Failures:
    count: int
    last: float


class Throttle:
    """Failures so far. Thread-safe. Times are seconds of any clock that does not jump."""

    def __init__(self) -> None:
        self._failures: OrderedDict[str, _Failures] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self, user: str, address: str, now: float) -> float:
        """Seconds that an attempt must wait; 0 lets it try, and it counts as failed until `succeeded`.

        It is counted before the password is looked at, so that attempts side by side are no way round.
        """
        with self._lock:
            wait_s = max(
                self._wait_s(f"user {user}", USER_MAX_S, now), self._wait_s(f"address {address}", ADDRESS_MAX_S, now)
            )
            if wait_s <= 0:
                for key in (f"user {user}", f"address {address}"):
                    self._count(key, now)
            return max(wait_s, 0.0)

    def succeeded(self, user: str, address: str) -> None:
        """The attempt was good: the user's failures are forgotten, of the address's only this one.

        Whoever has one good password must not be able to clear what they tried for others.
        """
        with self._lock:
            self._failures.pop(f"user {user}", None)
            of_address = self._failures.get(f"address {address}")
            if of_address is not None:
                of_address.count -= 1

    def _wait_s(self, key: str, longest_s: float, now: float) -> float:
        failures = self._failures.get(key)
        if failures is None or failures.count < FREE or now - failures.last > FORGET_S:
            return 0.0
        return float(failures.last + min(FIRST_S * 2.0 ** min(failures.count - FREE, 30), longest_s) - now)

    def _count(self, key: str, now: float) -> None:
        failures = self._failures.pop(key, None)
        count = failures.count if failures and now - failures.last <= FORGET_S else 0
        self._failures[key] = _Failures(count + 1, now)
        if len(self._failures) > KEPT:
            self._failures.popitem(last=False)
