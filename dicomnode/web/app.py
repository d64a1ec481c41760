"""The ASGI application of the pages: cases, each case with its images and decisions, the system, and help.

    GET /               the list of cases: `case_list`
    GET /jobs/{job}     one case, its images and its decisions: `case`, `case_images`
    GET /system         queues, processes, destinations, disk, models, constancy: `system`
    GET /help           the meaning of each finding and reason code: `help_page`

`sign_in` decides who may read and decide; `middleware` checks every request. No page shows a patient's name or ID: the
ledger holds none. Without JavaScript every page shows and does the same, with still pictures; the scripts are files
below /static/. The parameter `auto` marks a request of a page that reloads itself: no person acts then, so it does not
prolong the session and is not recorded in the audit trail.
"""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Mapping
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
from dicomnode.cases.files import JobFactsCache
from dicomnode.config.load import Config
from dicomnode.errors import Forged, LedgerUnreachable, UnknownJob, UsersUnreadable
from dicomnode.ledger.database import database_url
from dicomnode.ledger.ledger import Ledger
from dicomnode.web import case, case_list, health, help_page, middleware, server, sign_in, system
from dicomnode.web.rendering import PageContext, Pages, pages_of

PROBLEMS: Final[Mapping[type[Exception], tuple[str, int]]] = {
    LedgerUnreachable: ("The ledger cannot be read", 503),
    UnknownJob: ("No such case", 404),
    Forged: ("Refused", 403),
}
"""Error -> title and status (RFC 9110 15) of the page that shows its sentence."""


class Scripts(StaticFiles):
    """The scripts of the pages. A browser stores them and validates them at each use (RFC 9111 5.2.2.4)."""

    def file_response(self, *args: Any, **named: Any) -> Response:
        """Return a script, or 304 if the browser has it."""
        answer = super().file_response(*args, **named)
        answer.headers["cache-control"] = "no-cache"
        return answer


def app(config: Config) -> ASGIApp:
    """Create the ASGI application of a node's pages."""
    page_users = sign_in.PageUsers(config)
    style = files("dicomnode.web").joinpath("templates/style.css").read_text()
    routes = [
        *case_list.routes(),
        *case.routes(),
        *help_page.routes(),
        *system.routes(),
        *sign_in.routes(),
        Route("/style.css", lambda _: Response(style, media_type="text/css"), methods=["GET"]),
        Mount("/static", Scripts(packages=[("dicomnode.web", "static")])),
    ]
    checks = [
        Middleware(middleware.AllowedHosts, names=config.web.names),
        Middleware(middleware.SameOrigin),
        Middleware(middleware.BodyLimit),
        Middleware(sign_in.PageAccess, page_users=page_users),
    ]
    problems = dict.fromkeys(PROBLEMS, problem) | {404: no_such_page, UsersUnreadable: closed}
    application = Starlette(routes=routes, middleware=checks, exception_handlers=problems, lifespan=ticking)
    application.state.context = PageContext(config, Ledger(database_url(config)), JobFactsCache(config.node.data))
    application.state.pages = Pages(config)
    application.state.page_users = page_users
    application.state.echoes = system.Echoes(config.node.ae_title)
    application.router.redirect_slashes = False
    return middleware.SecurityHeaders(application)


def serve(config: Config) -> None:
    """Serve the pages on `web.bind` and `web.port`, and the health beside them, until SIGTERM or SIGINT."""
    web = config.web
    stop = threading.Event()
    beside = server.run_beside(health.app(config), config.metrics.bind, config.metrics.port, stop)
    certificate = server.Certificate(web) if web.certificate else None
    server.server(app(config), web.bind, web.port, web.proxies, certificate).run()
    stop.set()
    beside.join(server.STOP_S + 1)


@contextlib.asynccontextmanager
async def ticking(_: Starlette) -> AsyncIterator[None]:
    """Tick every second from the start of the application to its end, as every role does."""

    async def tick() -> None:
        while True:
            metrics.tick("web")
            await asyncio.sleep(1)

    task = asyncio.create_task(tick())
    yield
    task.cancel()


def problem(request: Request, error: Exception) -> Response:
    """Answer a request that raised an error of `PROBLEMS`; a forged form is logged."""
    title, status = PROBLEMS[type(error)]
    if isinstance(error, Forged):
        log.event("form_refused", level="warning", path=request.url.path)
    return pages_of(request).problem(request, title, str(error), status)


def closed(request: Request, error: Exception) -> Response:
    """Answer a request while the file of users cannot be read."""
    return sign_in.page_users_of(request).closed(request, str(error))


def no_such_page(request: Request, _: Exception) -> Response:
    """Answer a request for a path that is no page."""
    text = "There are the pages of cases, of each case, of the system, and help."
    return pages_of(request).problem(request, "No such page", text, 404)
