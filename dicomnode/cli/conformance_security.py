"""Section 6 of the conformance statement: who is let in, TLS, and the audit trail (PS3.15)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dicomnode.dimse.admission import CALLED, CALLING, CONGESTION
from dicomnode.dimse.places import LIMIT_EXCEEDED
from dicomnode.security.audit_message import Event
from dicomnode.security.tls import SUITES

if TYPE_CHECKING:
    from dicomnode.config.load import Config

REJECTIONS: Final = (
    (CALLING, "calling AE title not recognized", "not in `admission.callers`; or from another address, or with another"
     " certificate, than its entry says; or with characters that VR AE does not know"),
    (CALLED, "called AE title not recognized", "not the node's, where `receive.check_called_ae` or"
     " `admission.called` asks"),
    (LIMIT_EXCEEDED, "local limit exceeded", "`receive.max_associations`, `receive.max_associations_per_ae`, or that of"
     " the caller's entry"),
    (CONGESTION, "temporary congestion", "`audit.required` is true and the trail cannot be written"),
)  # fmt: skip
"""Result, source and reason of an A-ASSOCIATE-RJ (PS3.8 table 9-21), its words, and when."""

RESULTS: Final = {1: "rejected permanent", 2: "rejected transient"}


def security(config: Config) -> str:
    """The section, in Markdown."""
    return "\n\n".join((_admission(config), _tls(config), _audit(config)))


def _admission(config: Config) -> str:
    """6.1: rejections and rights."""
    rows = ["| A-ASSOCIATE-RJ | reason | when |", "| --- | --- | --- |"]
    rows += [f"| {RESULTS[code[0]]} {code} | {words} | {when} |" for code, words, when in REJECTIONS]
    callers = [f"`{one.ae_title}` ({', '.join(one.rights)})" for one in config.admission.callers]
    who = f"AEs that may call, and for what: {', '.join(callers)}." if callers else "Any AE may call."
    return "\n".join((
        "### 6.1 Admission",
        "",
        f"{who} A service that an AE has no right to is rejected as presentation context. Where callers are named,",
        "storage commitment is given for what the same AE has sent, or those its entry names; others' instances are",
        "reported as not there (0x0112). User identity (PS3.7 D.3.3.7) is not asked for.",
        "",
        *rows,
    ))  # fmt: skip


def _tls(config: Config) -> str:
    """6.2: the profile of PS3.15 B.12."""
    tls = config.tls
    offered = "not offered" if tls.port is None else f"offered on port {tls.port}"
    plain = "offered" if tls.plain else "not offered"
    shown = "must show a certificate" if tls.mutual else "may show a certificate"
    over = [one.name for one in config.destinations if one.tls is not None]
    return "\n".join((
        "### 6.2 TLS",
        "",
        "BCP 195 RFC 8996, 9325 TLS Secure Transport Connection Profile (PS3.15 B.12), in and out; not by default.",
        f"With this configuration TLS is {offered}, plain text is {plain}; destinations called over TLS:",
        f"{', '.join(over) or 'none'}. A peer that calls {shown}, signed by one of the CAs of `tls.ca`.",
        "",
        f"- Lowest version: TLS {tls.minimum}; TLS 1.3 is preferred. TLS 1.1 and older are refused.",
        f"- Cipher suites of TLS 1.2: {', '.join(SUITES)}.",
        "- Keys of RSA from 2048 bits, of elliptic curves as strong; signatures from SHA-256. Renegotiation,",
        "  compression and session tickets are not used. Revocation lists where the site has them (`tls.crl`).",
        "- Certificates and keys are loaded again when their files change; open associations go on.",
    ))  # fmt: skip


def _audit(config: Config) -> str:
    """6.3: the audit trail."""
    kinds = sorted({f"{event.value[0]['originalText']} ({event.value[0]['csd-code']})" for event in Event})
    to = f"; copies go to {config.audit.syslog}" if config.audit.syslog else ""
    return "\n".join((
        "### 6.3 Audit trail",
        "",
        f"Messages of PS3.15 A.5, as lines of JSON in `node.data`/audit{to}. To a syslog server they go as XML,",
        "over TLS (PS3.15 A.6), UDP (A.7) or a local socket. Patients are named where `audit.patients` says so.",
        "Messages:",
        f"{', '.join(kinds)}.",
    ))  # fmt: skip
