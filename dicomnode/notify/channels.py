"""Notices as a POST of JSON, signed as Standard Webhooks 1.0.0 says (webhook-id, webhook-timestamp, webhook-signature).

The signature is v1: HMAC-SHA256, in base64, of `ID.TIMESTAMP.BODY`; the key is the base64 after `whsec_` in the secret.
Any status from 200 to 299 counts as taken. Redirects are not followed, proxies of the environment are not used.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import requests

from dicomnode.config.credentials import read_secret
from dicomnode.errors import ConfigError, NotTaken

if TYPE_CHECKING:
    from dicomnode.config.notification import Webhook
    from dicomnode.notify.notice_text import Message

PREFIX: Final = "whsec_"
SHORTEST: Final = 24
"""Bytes of a key, at least."""


def send(message: Message, settings: Webhook) -> None:
    """Post a message. Raises NotTaken."""
    body = json.dumps(message.values, ensure_ascii=False).encode()
    try:
        headers = signed(
            message.id, int(time.time()), body, key_of(read_secret(settings.secret, "notify.webhook.secret"))
        )
        with requests.Session() as session:
            session.trust_env = False
            answer = session.post(
                settings.url,
                data=body,
                headers=headers,
                timeout=settings.timeout_s,
                allow_redirects=False,
                verify=True if settings.ca is None else str(settings.ca),
                stream=True,  # nobody reads what it says
            )
    except ConfigError as error:
        raise NotTaken(str(error)) from error
    except (requests.RequestException, OSError) as error:
        raise NotTaken(f"{_host(settings)} cannot be used ({type(error).__name__})") from error
    if not 200 <= answer.status_code < 300:
        raise NotTaken(f"{_host(settings)} answered {answer.status_code}")


def _host(settings: Webhook) -> str:
    """The machine that is called; the rest of the address may be a secret too."""
    return urlsplit(settings.url).hostname or "the webhook"


def check(settings: Webhook) -> str:
    """Where notices are posted; the secret holds a key. Raises ConfigError."""
    key_of(read_secret(settings.secret, "notify.webhook.secret"))
    if settings.ca is not None and not settings.ca.is_file():
        raise ConfigError("notify.webhook.ca", f"there is no file {settings.ca}", "name a PEM file")
    return f"webhook at {_host(settings)}"


def signed(message_id: str, at: int, body: bytes, key: bytes) -> dict[str, str]:
    """The headers of a request of that body, at a Unix time."""
    digest = hmac.new(key, f"{message_id}.{at}.".encode() + body, hashlib.sha256).digest()
    return {
        "Content-Type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(at),
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }


def key_of(secret: str) -> bytes:
    """The key in a secret. Raises ConfigError."""
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        key = b""
    if not secret.startswith(PREFIX) or len(key) < SHORTEST:
        remedy = f"write {PREFIX} and the base64 of {SHORTEST} random bytes or more"
        raise ConfigError("notify.webhook.secret", "holds no such key", remedy)
    return key
