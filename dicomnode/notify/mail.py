"""Notices as e-mail: handed to the site's mail server (RFC 6409), over TLS unless the configuration says otherwise."""

from __future__ import annotations

import contextlib
import smtplib
import ssl
from email.message import EmailMessage
from email.utils import formatdate
from typing import TYPE_CHECKING

from dicomnode.config.credentials import read_secret
from dicomnode.errors import ConfigError, NotTaken

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dicomnode.config.notification import Mail
    from dicomnode.notify.notice_text import Message


def send(message: Message, settings: Mail) -> None:
    """Hand a message to the mail server. Raises NotTaken."""
    written = email_of(message, settings)
    try:
        with _opened(settings) as server:
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


def check(settings: Mail) -> str:
    """To whom mail goes; its CAs and its password are there. Raises ConfigError."""
    _context(settings)
    if settings.password is not None:
        read_secret(settings.password, "notify.mail.password")
    return f"mail to {', '.join(settings.to)} by {settings.host}:{settings.port}, {settings.security}"


def email_of(message: Message, settings: Mail) -> EmailMessage:
    """The message as a mail; its Message-ID is the same when it is sent again, so that a reader may show it once."""
    written = EmailMessage()
    written["From"] = settings.sender
    written["To"] = ", ".join(settings.to)
    written["Subject"] = message.subject
    written["Date"] = formatdate()
    written["Message-ID"] = f"<{message.id}@{settings.sender.rpartition('@')[2]}>"
    written["Auto-Submitted"] = "auto-generated"  # RFC 3834 5
    written.set_content(message.text)
    return written


@contextlib.contextmanager
def _opened(settings: Mail) -> Iterator[smtplib.SMTP]:
    """A session with the mail server, signed in. Raises SMTPException, OSError, ConfigError."""
    context = _context(settings)
    if settings.security == "tls":
        server: smtplib.SMTP = smtplib.SMTP_SSL(
            settings.host, settings.port, timeout=settings.timeout_s, context=context
        )
    else:
        server = smtplib.SMTP(settings.host, settings.port, timeout=settings.timeout_s)
    with server:
        if settings.security == "starttls":
            server.starttls(context=context)
        if settings.user is not None and settings.password is not None:
            server.login(settings.user, read_secret(settings.password, "notify.mail.password"))
        yield server


def _context(settings: Mail) -> ssl.SSLContext:
    """TLS 1.2 or later, and a certificate of the CAs of the configuration, or of the system's."""
    try:
        return ssl.create_default_context(cafile=settings.ca)
    except OSError as error:
        raise ConfigError("notify.mail.ca", f"{settings.ca} cannot be used ({error})", "name a PEM file") from error
