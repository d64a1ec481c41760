"""Rendering of pages: the Jinja templates, the values that pages share, and the escaping of every value.

Values come from headers of other systems and from destinations. All are escaped, and characters that change how text is
shown (control characters, and those that change its direction) are replaced.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import jinja2
import markupsafe
from starlette.requests import Request
from starlette.responses import HTMLResponse

from dicomnode.cases.wording import span, utc

if TYPE_CHECKING:
    from dicomnode.cases.files import JobFactsCache
    from dicomnode.config.load import Config
    from dicomnode.ledger.ledger import Ledger

LAYOUT: Final = "\n\t"
"""Control characters that only lay out text."""

HIDDEN_CATEGORIES: Final = ("Cc", "Cf", "Cs")
"""Unicode general categories of characters that are invisible but change how others are shown."""


@dataclass(frozen=True, slots=True)
class PageContext:
    """The values that the pages share: the configuration, the ledger, and the facts that files hold about jobs."""

    config: Config
    ledger: Ledger
    known: JobFactsCache


class Pages:
    """The templates of one node. Every value is escaped, and a missing name is an error."""

    def __init__(self, config: Config) -> None:
        self._templates = jinja2.Environment(
            loader=jinja2.PackageLoader("dicomnode.web"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            finalize=printable,
        )
        self._templates.filters |= {"span": span, "utc": utc, "with_code": with_code}
        version = importlib.metadata.version("sct-node")
        self._templates.globals |= {"node": config.node.ae_title, "version": version, "refresh": None}

    def page(self, request: Request, template: str, values: Mapping[str, Any], status: int = 200) -> HTMLResponse:
        """Render a template with `values` for the visitor of a request."""
        now = datetime.datetime.now(datetime.UTC)
        visitor = getattr(request.state, "visitor", None)
        shared = {"now": now, "visitor": visitor, "path": request.url.path}
        return HTMLResponse(self._templates.get_template(template).render({**shared, **values}), status)

    def problem(self, request: Request, title: str, sentence: str, status: int) -> HTMLResponse:
        """Render a page that states a problem in one sentence."""
        return self.page(request, "problem.html", {"title": title, "sentence": sentence}, status)


def pages_of(request: Request) -> Pages:
    """Return the templates of the application."""
    pages: Pages = request.app.state.pages
    return pages


def context_of(request: Request) -> PageContext:
    """Return the values that the pages of the application share."""
    context: PageContext = request.app.state.context
    return context


def printable(value: object) -> object:
    """Replace the characters of a text that would change how others are shown; return other values unchanged."""
    if type(value) is not str or value.isprintable():
        return value
    return "".join(
        "\ufffd" if character not in LAYOUT and unicodedata.category(character) in HIDDEN_CATEGORIES else character
        for character in value
    )


def with_code(text: str) -> markupsafe.Markup:
    """Escape a text of the node and mark its words in `backticks` as code."""
    parts = [markupsafe.escape(part) for part in str(printable(text)).split("`")]
    marked = [markupsafe.Markup("<code>{}</code>").format(part) if odd % 2 else part for odd, part in enumerate(parts)]
    return markupsafe.Markup("").join(marked)
