"""Access to the pages: signing in and out, sessions, and the wait after failed attempts.

users of the node                      who reads the pages                  who decides about cases
none, and the page is local            everybody                            nobody
some                                   who is signed in                     who is signed in as a physicist
none, or their file is unreadable      nobody: 503, and a sentence with the remedy

GET  /sign-in    the form; ?next= is a page of this node, anything else is ignored
POST /sign-in    fields: name, password, next, token
POST /sign-out   fields: token

Sessions live in the memory of this process and are found by a random key that only the browser has. A session ends
after `web.session_idle_s` without use, `web.session_max_s` after sign-in, at sign-out, when the user is removed or gets
another password or role, and when this process ends.

Failed attempts cost a wait, counted by user and by address:

    failures   1  2  3  4    5    6    7    ...
    wait       0  0  0  1 s  2 s  4 s  8 s  ... up to 1 minute for a user, 15 minutes for an address

The wait of a user is at most a minute, because anybody may fail in a user's name; this allows 1440 guesses a day.
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
from dicomnode.web.middleware import SAFE_METHODS
from dicomnode.web.rendering import pages_of

if TYPE_CHECKING:
    from dicomnode.config.load import Config

PUBLIC_PATHS: Final = ("/sign-in", "/style.css")
"""Paths that need no session, as all below `SCRIPTS`."""

SCRIPTS: Final = "/static/"

HOW_TO_ADD: Final = "On the node's machine: sct-node user add NAME --role physicist"

OWN_PATH: Final = re.compile(r"/(jobs/[0-9a-f]{6,64}|system|help)?(\?state=[A-Za-z]{1,20})?")
"""Addresses to which a sign-in may lead; any other leads to the first page (CWE-601)."""

OF_ONE_USER: Final = 8
"""Most sessions of one user; a further one ends the oldest."""

FREE: Final = 3
"""Failed attempts without a wait, because people mistype."""

FIRST_S: Final = 1.0
"""The first wait; each further failure doubles it."""

USER_MAX_S: Final = 60.0
"""Longest wait of a user."""

ADDRESS_MAX_S: Final = 900.0
"""Longest wait of an address."""

FORGET_S: Final = 3600.0
"""Time without a failure after which all failures are forgotten."""

KEPT: Final = 10_000
"""Most users and addresses in memory; the one whose last failure is oldest is removed first."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """A person at a browser: the user's name ("" for none), role, address, and the token of their forms."""

    name: str
    role: Role
    address: str
    token: str

    @property
    def by(self) -> str:
        """The visitor as events and the audit trail name them."""
        return f"web:{self.name or 'anonymous'}"

    @property
    def decides(self) -> bool:
        """Whether they may decide about cases."""
        return self.role is Role.PHYSICIST


@dataclass(slots=True)
class Session:
    """A user who is signed in, the token of their forms, and when (s) the session began and was last used."""

    user: User
    token: str
    began: float
    used: float


class Sessions:
    """All sessions. Thread-safe. Times are seconds of a monotonic clock."""

    def __init__(self, idle_s: float, longest_s: float) -> None:
        self._idle_s = idle_s
        self._longest_s = longest_s
        self._sessions: OrderedDict[bytes, Session] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self, user: User, now: float) -> str:
        """Sign a user in and return the key of the session: 256 new random bits (RFC 4086)."""
        key = secrets.token_urlsafe(32)
        with self._lock:
            own = [digest for digest, session in self._sessions.items() if session.user.name == user.name]
            for digest in own[: max(len(own) - OF_ONE_USER + 1, 0)]:
                del self._sessions[digest]
            self._sessions[_digest(key)] = Session(user, secrets.token_urlsafe(32), now, now)
        return key

    def find(self, key: str, users: Users, now: float, *, person: bool) -> Session | None:
        """Return the session of a key, or None if there is none or it has ended.

        Args:
            key: the key that the browser sent.
            users: the users of the node. Raises UsersUnreadable.
            now: the time of the clock.
            person: whether a person acts, which prolongs the session; False for a page that reloads itself.
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
        """End the session of a key, if there is one."""
        with self._lock:
            self._sessions.pop(_digest(key), None)


def _digest(key: str) -> bytes:
    """Return the SHA-256 under which a session is stored: leaked memory does not reveal its key."""
    return hashlib.sha256(key.encode()).digest()


class Nonces:
    """Tokens for the sign-in form, each derived from a random cookie; nothing is stored."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)

    def token(self, nonce: str) -> str:
        """Return the token that belongs to the value of a cookie: its HMAC (RFC 2104)."""
        return hmac.new(self._key, nonce.encode(), hashlib.sha256).hexdigest()


@dataclass(slots=True)
class _Failures:
    count: int
    last: float


class Throttle:
    """Failed attempts to sign in. Thread-safe. Times are seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._failures: OrderedDict[str, _Failures] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self, user: str, address: str, now: float) -> float:
        """Return the seconds that an attempt must wait. At 0 it may go on, and counts as failed until `succeeded`.

        It counts before the password is verified, so that parallel attempts do not avoid the wait.
        """
        longest_s = {f"user {user}": USER_MAX_S, f"address {address}": ADDRESS_MAX_S}
        with self._lock:
            wait_s = max(self._wait_s(key, longest, now) for key, longest in longest_s.items())
            if wait_s > 0:
                return wait_s
            for key in longest_s:
                failures = self._failures.pop(key, None)
                count = failures.count if failures and now - failures.last <= FORGET_S else 0
                self._failures[key] = _Failures(count + 1, now)
                if len(self._failures) > KEPT:
                    self._failures.popitem(last=False)
        return 0.0

    def succeeded(self, user: str, address: str) -> None:
        """Forget the failures of a user whose attempt succeeded, and of the address only this attempt.

        Otherwise a caller with one valid password could clear their failed attempts at other users.
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


class PageUsers:
    """The users, sessions and failed attempts of one page."""

    def __init__(self, config: Config) -> None:
        self.open = is_local(config)
        self.users = Users(users_path(config))
        self.sessions = Sessions(config.web.session_idle_s, config.web.session_max_s)
        self.throttle = Throttle()
        self.nonces = Nonces()
        self.trail = AuditTrail(config.audit, config.node.data, config.node.ae_title)
        self._logged_reason = ""

    def closed(self, request: Request, reason: str) -> Response:
        """Return the answer to everybody while nobody can sign in, and log the reason once."""
        if reason != self._logged_reason:
            log.event("page_closed", level="error", reason=reason)
            self._logged_reason = reason
        text = "Nobody can sign in at the moment; the node's log says why."
        return pages_of(request).problem(request, "The page is closed", text, 503)

    def visitor(self, request: Request) -> Visitor | None:
        """Return the visitor who sends a request, or None if they must sign in. Raises UsersUnreadable."""
        if self.open and not self.users.all():
            return Visitor("", Role.VIEWER, address_of(request), "")
        person = "auto" not in request.query_params
        key = request.cookies.get(_cookie(request, "session"), "")
        session = self.sessions.find(key, self.users, time.monotonic(), person=person)
        if session is None:
            return None
        return Visitor(session.user.name, session.user.role, address_of(request), session.token)


class PageAccess:
    """ASGI middleware that passes on requests of visitors who may read, and sets `request.state.visitor`."""

    def __init__(self, app: ASGIApp, page_users: PageUsers) -> None:
        self._app = app
        self._page_users = page_users

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, lead to the sign-in form, or refuse."""
        if scope["type"] != "http" or scope["path"] in PUBLIC_PATHS or scope["path"].startswith(SCRIPTS):
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            request.state.visitor = self._page_users.visitor(request)
            refusal = None if request.state.visitor else self.refusal(request)
        except UsersUnreadable as error:
            refusal = self._page_users.closed(request, str(error))
        await (refusal or self._app)(scope, receive, send)

    def refusal(self, request: Request) -> Response:
        """Return the answer to a request without a session: the way to the sign-in form, or 403 or 503."""
        if not self._page_users.users.all():
            reason = "there are no users: sct-node user add NAME --role physicist"
            return self._page_users.closed(request, reason)
        if request.method not in SAFE_METHODS:
            text = "The session has ended. Sign in and repeat."
            return pages_of(request).problem(request, "Not signed in", text, 403)
        address = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return RedirectResponse(f"/sign-in?next={quote(own_path(address), safe='')}", 303)


def routes() -> list[Route]:
    """Return the routes of signing in and out."""
    return [
        Route("/sign-in", form_page, methods=["GET"]),
        Route("/sign-in", sign_in, methods=["POST"]),
        Route("/sign-out", sign_out, methods=["POST"]),
    ]


def visitor_of(request: Request) -> Visitor:
    """Return the visitor that `PageAccess` found."""
    visitor: Visitor = request.state.visitor
    return visitor


def page_users_of(request: Request) -> PageUsers:
    """Return the users of the application."""
    page_users: PageUsers = request.app.state.page_users
    return page_users


def address_of(request: Request) -> str:
    """Return the address of the caller, or the one that a proxy of `web.proxies` states."""
    return request.client.host if request.client else ""


def record(request: Request, event: Event, **more: Any) -> None:
    """Write an action of the visitor to the audit trail (PS3.15 A.5)."""
    visitor = visitor_of(request)
    page_users_of(request).trail.record(event, by=visitor.by, address=visitor.address, **more)


async def form_of(request: Request, token: str) -> dict[str, str]:
    """Return the fields of a form that carries `token`. Raises Forged for any other request."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise Forged("This page takes only what its own forms send.")
    try:
        fields = parse_qs((await request.body()).decode(), keep_blank_values=True, max_num_fields=20, errors="strict")
    except ValueError:
        raise Forged("This page takes only what its own forms send.") from None
    tokens = fields.pop("token", [""])
    if len(tokens) != 1 or not token or not hmac.compare_digest(tokens[0].encode(), token.encode()):
        raise Forged("The form is too old, or not of this page. Go back, load the page again and repeat.")
    return {name: values[0] for name, values in fields.items()}


def own_path(address: str) -> str:
    """Return an address of this node, or "/" for any other."""
    return address if OWN_PATH.fullmatch(address) else "/"


def _cookie(request: Request, name: str) -> str:
    """Return the name of a cookie; under TLS its prefix binds it to this host and to TLS (RFC 6265bis 4.1.3.2)."""
    return f"__Host-sct_{name}" if request.url.scheme == "https" else f"sct_{name}"


def _set_cookie(request: Request, answer: Response, name: str, value: str) -> None:
    """Set a cookie for the browser's session, hidden from scripts and other sites (RFC 6265bis 4.1.2)."""
    secure = request.url.scheme == "https"
    answer.set_cookie(_cookie(request, name), value, path="/", secure=secure, httponly=True, samesite="strict")


def _delete_cookie(request: Request, answer: Response, name: str) -> None:
    secure = request.url.scheme == "https"
    answer.delete_cookie(_cookie(request, name), path="/", secure=secure, httponly=True, samesite="strict")


def form_page(request: Request) -> Response:
    """Answer GET /sign-in."""
    if not page_users_of(request).users.all():
        return pages_of(request).problem(request, "Nobody can sign in", f"There are no users yet. {HOW_TO_ADD}", 404)
    return _form(request, request.query_params.get("next", "/"))


def _form(request: Request, leads_to: str, problem: str = "", name: str = "", status: int = 200) -> Response:
    """Return the form with a new token, and with the problem of the attempt before."""
    nonce = secrets.token_urlsafe(32)
    token = page_users_of(request).nonces.token(nonce)
    values = {"next": own_path(leads_to), "problem": problem, "name": name, "token": token}
    answer = pages_of(request).page(request, "sign_in.html", values, status)
    _set_cookie(request, answer, "form", nonce)
    return answer


async def sign_in(request: Request) -> Response:
    """Answer POST /sign-in."""
    nonce = request.cookies.get(_cookie(request, "form"), "")
    form = await form_of(request, page_users_of(request).nonces.token(nonce) if nonce else "")
    return await run_in_threadpool(attempt, request, form)


def attempt(request: Request, form: dict[str, str]) -> Response:
    """Verify name and password and begin a new session, which replaces the one of the browser.

    Otherwise return the form again: 403, or 429 with Retry-After (RFC 6585 4, RFC 9110 10.2.3). Attempts are
    recorded in the audit trail as User Authentication (PS3.15 A.5.3.12).
    """
    page_users, address, name = page_users_of(request), address_of(request), form.get("name", "")[:64]
    leads_to = form.get("next", "/")
    wait_s = page_users.throttle.begin(name, address, time.monotonic())
    if wait_s > 0:
        metrics.SIGN_INS.labels(outcome="throttled").inc()
        answer = _form(request, leads_to, f"Too many attempts. Try again in {wait_s:.0f} s.", name, 429)
        answer.headers["retry-after"] = str(int(wait_s) + 1)
        return answer
    user = page_users.users.verified(name, form.get("password", ""))
    if user is None:
        # An unknown name is not recorded: it may be a password in the wrong field.
        by = f"web:{name}" if name in page_users.users.all() else "web:unknown"
        page_users.trail.record(Event.LOGIN, by=by, address=address, failed="wrong name or password")
        metrics.SIGN_INS.labels(outcome="refused").inc()
        return _form(request, leads_to, "Wrong name or password.", name, 403)
    page_users.throttle.succeeded(name, address)
    page_users.sessions.end(request.cookies.get(_cookie(request, "session"), ""))
    key = page_users.sessions.begin(user, time.monotonic())
    page_users.trail.record(Event.LOGIN, by=f"web:{user.name}", address=address)
    metrics.SIGN_INS.labels(outcome="accepted").inc()
    answer = RedirectResponse(own_path(leads_to), 303)
    _set_cookie(request, answer, "session", key)
    _delete_cookie(request, answer, "form")
    return answer


async def sign_out(request: Request) -> Response:
    """Answer POST /sign-out."""
    await form_of(request, visitor_of(request).token)
    page_users_of(request).sessions.end(request.cookies.get(_cookie(request, "session"), ""))
    await run_in_threadpool(record, request, Event.LOGOUT)
    answer = RedirectResponse("/sign-in", 303)
    _delete_cookie(request, answer, "session")
    return answer
