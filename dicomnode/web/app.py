"""The web page: the cases, each case with its pictures and buttons for a physicist, the system, and help.

    GET /               the list of cases: `case_list`
    GET /jobs/{job}     one case: `case`
    GET /system         what waits, who works, destinations, disk, models, constancy: `system_page`
    GET /help           what each finding and reason code means: `help_page`

Who may come in is said in `sign_in`, the buttons in `buttons`, what every request must fulfil in `guard`. No page holds
a patient's name or ID: the ledger has none. Without JavaScript every page says and does the same, with still pictures;
the scripts are files below /static/. A page that reads itself again says so by `auto`: nobody acts then, so the session
ends all the same, and the audit trail is silent.
"""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from dicomnode import log, metrics
from dicomnode.cases.files import Known
from dicomnode.config.load import Config
from dicomnode.errors import Forged, LedgerUnreachable, UnknownJob, UsersUnreadable
from dicomnode.ledger.database import database_url
from dicomnode.ledger.ledger import Ledger
from dicomnode.web import case, case_list, health, help_page, middleware, server, sign_in, system
from dicomnode.web.rendering import Pages, pages_of


@dataclass(frozen=True, slots=True)
class Seen:
    """What the routes share: the configuration, the ledger, and what files say of jobs."""

    config: Config
    ledger: Ledger
    known: Known


class Scripts(StaticFiles):
    """The scripts of the pages; a browser keeps them, and asks each time whether they are still the same."""

    def file_response(self, *args: Any, **named: Any) -> Response:
        """A script, or that it is the same."""
        answer = super().file_response(*args, **named)
        answer.headers["cache-control"] = "no-cache"
        return answer


def app(config: Config) -> ASGIApp:
    """The web page of a node, as an ASGI application."""
    entry = sign_in.PageUsers(config)
    routes = [
        *case_list.routes(),
        *case.routes(),
        *case.decision_routes(),
        *help_page.routes(),
        *system.routes(),
        *sign_in.routes(),
        Route("/style.css", _style, methods=["GET"]),
        Mount("/static", Scripts(packages=[("dicomnode.web", "static")])),
    ]
    before = [
        Middleware(middleware.AllowedHosts, names=config.web.names),
        Middleware(middleware.SameOrigin),
        Middleware(middleware.Bounded),
        Middleware(sign_in.PageAccess, entry=entry),
    ]
    made = Starlette(routes=routes, middleware=before, exception_handlers=dict(_PROBLEMS), lifespan=_ticking)
    made.state.seen = Seen(config, Ledger(database_url(config)), Known(config.node.data))
    made.state.pages = Pages(config)
    made.state.entry = entry
    made.state.echoes = system.Echoes(config.node.ae_title)
    made.router.redirect_slashes = False
    return middleware.SecurityHeaders(made)


def serve(config: Config) -> None:
    """Serve the page on `web.bind` and `web.port`, and the health beside it, until SIGTERM or SIGINT."""
    web = config.web
    stop = threading.Event()
    watched = server.run_beside(health.app(config), config.metrics.bind, config.metrics.port, stop)
    certificate = server.Certificate(web) if web.certificate else None
    page = server.server(app(config), web.bind, web.port, web.proxies, certificate)
    page.run()
    stop.set()
    watched.join(server.STOP_S + 1)


@contextlib.asynccontextmanager
async def _ticking(_: Starlette) -> AsyncIterator[None]:
    """Say every second that this role is alive, from start to stop."""

    async def tick() -> None:
        while True:
            metrics.tick("web")
            await asyncio.sleep(1)

    task = asyncio.create_task(tick())
    yield
    task.cancel()


def _style(_: Request) -> Response:
    """GET /style.css"""
    return Response(files("dicomnode.web").joinpath("templates/style.css").read_text(), media_type="text/css")


def _unreachable(request: Request, error: Exception) -> Response:
    return pages_of(request).problem(request, "The ledger cannot be read", str(error), 503)


def _unknown(request: Request, error: Exception) -> Response:
    return pages_of(request).problem(request, "No such job", str(error), 404)


def _forged(request: Request, error: Exception) -> Response:
    log.event("form_refused", level="warning", path=request.url.path)
    return pages_of(request).problem(request, "Refused", str(error), 403)


def _closed(request: Request, error: Exception) -> Response:
    return sign_in.entry_of(request).closed(request, str(error))


def _not_found(request: Request, _: Exception) -> Response:
    return pages_of(request).problem(
        request, "No such page", "There are the pages of cases, of each case, of the system, and help.", 404
    )


_PROBLEMS: Final = {
    LedgerUnreachable: _unreachable,
    UnknownJob: _unknown,
    Forged: _forged,
    UsersUnreadable: _closed,
    404: _not_found,
}
"""Error or status -> the page that says so."""


def _seen(request: Request) -> Seen:
    """What `app` put into the application's state."""
    seen: Seen = request.app.state.seen
    return seen
