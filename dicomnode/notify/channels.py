"""The two channels of notices: e-mail and webhook.

A webhook is a POST of JSON, signed as Standard Webhooks 1.0.0 defines (webhook-id, webhook-timestamp,
webhook-signature): signature v1 is HMAC-SHA256 (RFC 2104), in base64, of `ID.TIMESTAMP.BODY`, and the key is the base64
after `whsec_` in the secret. Any status from 200 to 299 counts as success. Redirects are not followed, and proxies of
the environment are not used.

An e-mail is submitted to the site's mail server (RFC 6409), over TLS unless the configuration says otherwise.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import smtplib
import ssl
import time
from email.message import EmailMessage
from email.utils import formatdate
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import requests

from dicomnode.config.peers import read_secret
from dicomnode.errors import ConfigError, NotTaken

if TYPE_CHECKING:
    from dicomnode.config.sections import Mail, Webhook
    from dicomnode.notify.notice_text import Message

PREFIX: Final = "whsec_"
SHORTEST: Final = 24
"""The fewest bytes that a key may have (Standard Webhooks 1.0.0)."""


def post_webhook(message: Message, settings: Webhook) -> None:
    """Post a message. Raises NotTaken when the webhook does not accept it."""
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
                stream=True,  # the body of the answer is not read
            )
    except ConfigError as error:
        raise NotTaken(str(error)) from error
    except (requests.RequestException, OSError) as error:
        raise NotTaken(f"{_webhook_host(settings)} cannot be used ({type(error).__name__})") from error
    if not 200 <= answer.status_code < 300:
        raise NotTaken(f"{_webhook_host(settings)} answered {answer.status_code}")


def _webhook_host(settings: Webhook) -> str:
    """Return the host of the webhook; the rest of the address may be a secret."""
    return urlsplit(settings.url).hostname or "the webhook"


def check_webhook(settings: Webhook) -> str:
    """Check the secret and the CA file, and return where notices are posted. Raises ConfigError."""
    key_of(read_secret(settings.secret, "notify.webhook.secret"))
    if settings.ca is not None and not settings.ca.is_file():
        raise ConfigError("notify.webhook.ca", f"there is no file {settings.ca}", "name a PEM file")
    return f"webhook at {_webhook_host(settings)}"


def signed(message_id: str, at: int, body: bytes, key: bytes) -> dict[str, str]:
    """Return the headers of a signed request; `at` is a Unix time (s)."""
    digest = hmac.new(key, f"{message_id}.{at}.".encode() + body, hashlib.sha256).digest()
    return {
        "Content-Type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(at),
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }


def key_of(secret: str) -> bytes:
    """Return the key in a secret. Raises ConfigError."""
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        key = b""
    if not secret.startswith(PREFIX) or len(key) < SHORTEST:
        remedy = f"write {PREFIX} and the base64 of {SHORTEST} random bytes or more"
        raise ConfigError("notify.webhook.secret", "holds no such key", remedy)
    return key


def send_mail(message: Message, settings: Mail) -> None:
    """Submit a message to the mail server (RFC 6409). Raises NotTaken when the server does not accept it."""
    written = email_of(message, settings)
    address = (settings.host, settings.port)
    try:
        context = _context(settings)
        with (
            smtplib.SMTP_SSL(*address, timeout=settings.timeout_s, context=context)
            if settings.security == "tls"
            else smtplib.SMTP(*address, timeout=settings.timeout_s)
        ) as server:
            if settings.security == "starttls":
                server.starttls(context=context)
            if settings.user is not None and settings.password is not None:
                server.login(settings.user, read_secret(settings.password, "notify.mail.password"))
            refused = server.send_message(written, settings.sender, settings.to)
    except smtplib.SMTPResponseException as error:
        raise NotTaken(f"{settings.host}:{settings.port} answered {error.smtp_code}") from error
    except smtplib.SMTPRecipientsRefused as error:
        codes = ", ".join(str(code) for code, _ in error.recipients.values())
        raise NotTaken(f"{settings.host}:{settings.port} refuses every recipient ({codes})") from error
    except (smtplib.SMTPException, OSError) as error:
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise NotTaken(f"{settings.host}:{settings.port} cannot be used ({why})") from error
    except ConfigError as error:
        raise NotTaken(str(error)) from error
    if refused:
        raise NotTaken(f"{settings.host}:{settings.port} refuses {len(refused)} of {len(settings.to)} recipients")


def check_mail(settings: Mail) -> str:
    """Check the CAs and the password, and return to whom mail is sent. Raises ConfigError."""
    _context(settings)
    if settings.password is not None:
        read_secret(settings.password, "notify.mail.password")
    return f"mail to {', '.join(settings.to)} by {settings.host}:{settings.port}, {settings.security}"


def email_of(message: Message, settings: Mail) -> EmailMessage:
    """Return the message as a mail (RFC 5322); a repetition has the same Message-ID, so readers can show it once."""
    written = EmailMessage()
    written["From"] = settings.sender
    written["To"] = ", ".join(settings.to)
    written["Subject"] = message.subject
    written["Date"] = formatdate()
    written["Message-ID"] = f"<{message.id}@{settings.sender.rpartition('@')[2]}>"
    written["Auto-Submitted"] = "auto-generated"  # RFC 3834 5
    written.set_content(message.text)
    return written


def _context(settings: Mail) -> ssl.SSLContext:
    """Return a context that checks the server against the configured CAs, or the system's. Raises ConfigError."""
    try:
        return ssl.create_default_context(cafile=settings.ca)
    except OSError as error:
        raise ConfigError("notify.mail.ca", f"{settings.ca} cannot be used ({error})", "name a PEM file") from error
