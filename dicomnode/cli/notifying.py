"""`sct-node notify`: a test message over each channel of the configuration, and what came of it."""

from __future__ import annotations

import datetime
import json
from typing import TYPE_CHECKING, Any

from dicomnode.config import load as configuration
from dicomnode.errors import ConfigError, NotTaken

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from dicomnode.config.load import Config


def add_command(commands: Any, add: Callable[..., argparse.ArgumentParser]) -> None:
    """`notify`; `add` makes a command with its help."""
    details = "The node need not run, nothing is kept. Exit status 1 when a channel does not take it."
    add(commands, "notify", _notify, "Send a test message to people over each channel of `notify`", details, "json")


def _notify(given: argparse.Namespace) -> int:
    config = configuration.load(given.config)
    if not config.notify.channels:
        raise ConfigError("notify", "names neither mail nor webhook", "set one of them")
    told = {name: _tried(config, name) for name in config.notify.channels}
    if given.json:
        print(json.dumps(told, indent=2))
    else:
        for name, problem in told.items():
            print(f"{name}: {problem or 'taken'}")
    return 1 if any(told.values()) else 0


def _tried(config: Config, name: str) -> str | None:
    """Send the test over a channel; -> why it was not taken, or None."""
    from dicomnode.ledger.notices import NoticeRow
    from dicomnode.notify.notice_text import Told, message_of
    from dicomnode.notify.notifier import send

    now = datetime.datetime.now(datetime.UTC)
    row = NoticeRow(0, "alarm", None, "TEST", "", now, name, 1, now, None, sent=False, sentence="")
    message = message_of([Told(row, page=config.notify.page or "")], config.node.ae_title)
    try:
        send(message, config.notify.channels[name])
    except NotTaken as error:
        return str(error)
    return None
