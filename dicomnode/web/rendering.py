"""How pages are written: the templates, the words in them, and what is done to every value that is shown.

Values come from headers of strangers and from destinations: all are escaped, and characters that steer how text is
shown (control characters, and those that turn its direction) are replaced.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import unicodedata
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import jinja2
import markupsafe
from starlette.requests import Request
from starlette.responses import HTMLResponse

from dicomnode.cases.wording import span, utc

if TYPE_CHECKING:
    from dicomnode.config.load import Config

LAYOUT: Final = "\n\t"
"""Control characters that only lay text out."""


class Pages:
    """The templates of one node; everything put into them is escaped, and a name that is missing is an error."""

    def __init__(self, config: Config) -> None:
        loader = jinja2.PackageLoader("dicomnode.web")
        made = jinja2.Environment(
            loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, finalize=_shown
        )
        made.filters |= {"span": span, "utc": utc, "ticks": ticks}
        version = importlib.metadata.version("sct-node")
        made.globals |= {"node": config.node.ae_title, "version": version, "refresh": None}
        self._templates = made

    def page(self, request: Request, template: str, values: Mapping[str, Any], status: int = 200) -> HTMLResponse:
        """A template filled with `values`, for who asks."""
        now = datetime.datetime.now(datetime.UTC)
        visitor = getattr(request.state, "visitor", None)
        given = {"now": now, "visitor": visitor, "path": request.url.path, **values}
        return HTMLResponse(self._templates.get_template(template).render(given), status)

    def problem(self, request: Request, title: str, sentence: str, status: int) -> HTMLResponse:
        """A page that says what is wrong."""
        return self.page(request, "problem.html", {"title": title, "sentence": sentence}, status)


def pages_of(request: Request) -> Pages:
    """What the application was made with."""
    pages: Pages = request.app.state.pages
    return pages


def _shown(value: object) -> object:
    """A value as it may be shown."""
    if type(value) is not str or value.isprintable():
        return value
    return "".join("�" if _steers(character) else character for character in value)


def _steers(character: str) -> bool:
    """Whether a character is not shown but changes how others are: Unicode's categories Cc, Cf and Cs."""
    return character not in LAYOUT and unicodedata.category(character) in ("Cc", "Cf", "Cs")


def ticks(text: str) -> markupsafe.Markup:
    """Our own words, with what stands in `backticks` as code; everything is escaped."""
    parts = [markupsafe.escape(part) for part in str(_shown(text)).split("`")]
    marked = [markupsafe.Markup("<code>{}</code>").format(part) if odd % 2 else part for odd, part in enumerate(parts)]
    return markupsafe.Markup("").join(marked)
