"""The DICOMweb STOW-RS user agent (PS3.18 10.5): one request for each instance, one receipt as its answer comes.

    answer                                  receipt
    200, or 202 or 409 that names it        0x0000, its Warning Reason (0008,1196) or Failure Reason (0008,1197)
    any other                               none: undelivered, tried again later as after a C-STORE without an answer

Instances are sent byte for byte as they are in out/<job>/. Redirects are not followed, and proxies and passwords of the
environment are not used: the configuration alone decides where a patient's images are sent.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from xml.etree.ElementTree import ParseError

import requests
from dicomweb_client.web import DICOMwebClient
from pydicom.dataset import Dataset
from pydicom.filereader import dcmread
from requests.adapters import HTTPAdapter

from dicomnode import metrics
from dicomnode.config.peers import Destination, read_secret
from dicomnode.delivery.storage_scu import conclude
from dicomnode.dimse.client import AssociationLost, described
from dicomnode.errors import ConfigError, Undelivered
from dicomnode.receipt import ACCEPTED, Receipt, outcome
from dicomnode.security.tls import client_context
from dicomnode.spool.instance_file import Parcel, parcel

ALL_STORED: Final = 200
NAMED: Final = (ALL_STORED, 202, 409)
"""HTTP statuses after which the answer is searched for the instance (PS3.18 table 10.5.3-1)."""
NOT_REFUSED: Final = (200, 204, 405, 501)
"""HTTP statuses of a search that show that the address is right; some servers only store (PS3.18 8.5)."""
WARNED: Final = 0xB000
FAILED: Final = 0x0110
"""C-STORE statuses of a warning and a failure for which the service gives no known reason (PS3.18 I.2)."""


def send(
    paths: Sequence[Path],
    destination: Destination,
    on_receipt: Callable[[Receipt], None],
    already: Collection[str] = (),
    before: Callable[[], None] = lambda: None,
) -> list[Receipt]:
    """Send files as `storage_scu.send` does, to the destination's STOW-RS service. Raises Undelivered."""
    parcels = [one for one in map(parcel, paths) if one.sop_instance_uid not in already]
    receipts: list[Receipt] = []
    reasons: list[str] = []
    try:
        with opened(destination) as session:
            for one in parcels:
                before()
                receipts.append(session.store(one))
                metrics.DELIVERED_INSTANCES.labels(destination.name, receipts[-1].outcome).inc()
                on_receipt(receipts[-1])
    except AssociationLost as error:
        reasons.append(str(error))
    return conclude(destination, parcels, receipts, reasons)


def reach(destination: Destination) -> None:
    """Search the service for one study (QIDO-RS, PS3.18 10.6). Raises Undelivered when it is not there or refuses."""
    try:
        with opened(destination) as session, _translated(destination.timeout_s):
            answer = session.http.get(f"{session.url}/studies?limit=1", timeout=destination.timeout_s)
    except AssociationLost as error:
        raise Undelivered((), f"{described(destination)} {error}") from error
    if answer.status_code not in NOT_REFUSED:
        raise Undelivered((), f"{described(destination)} answered {_status_line(answer)}")


@dataclass(frozen=True, slots=True)
class StowSession:
    """A session with a service; `answers` collects the HTTP responses."""

    http: requests.Session
    url: str
    timeout_s: float
    answers: list[requests.Response]

    def store(self, one: Parcel) -> Receipt:
        """Send one instance and wait for its answer (PS3.18 10.5.1). Raises AssociationLost."""
        client = DICOMwebClient(self.url, self.http, timeout=self.timeout_s)
        client.set_http_retry_params(retry=False)
        data_set = dcmread(one.path)
        self.answers.clear()
        with _translated(self.timeout_s):
            try:
                response = client.store_instances([data_set])
            except requests.HTTPError as error:
                if error.response is None or error.response.status_code not in NAMED:
                    raise
                response = Dataset()
        answer = self.answers[-1]
        status, comment = instance_status(response or response_module(answer), one.sop_instance_uid, answer.status_code)
        return Receipt(one.sop_instance_uid, status, datetime.datetime.now(datetime.UTC), comment)


def instance_status(response: Dataset, sop_instance_uid: str, http_status: int) -> tuple[int, str]:
    """Return C-STORE status and comment of an instance from a Store Instances Response Module (PS3.18 I.1).

    Raises AssociationLost when the response does not name the instance, unless all were stored.
    """
    for item in response.get("FailedSOPSequence") or ():
        if item.get("ReferencedSOPInstanceUID") == sop_instance_uid:
            reason = int(item.get("FailureReason") or FAILED)
            return (FAILED if outcome(reason) in ("accepted", "warning") else reason), ""
    for item in response.get("ReferencedSOPSequence") or ():
        if item.get("ReferencedSOPInstanceUID") == sop_instance_uid:
            reason = int(item.get("WarningReason") or ACCEPTED)
            known = reason == ACCEPTED or outcome(reason) == "warning"
            return (reason, "") if known else (WARNED, f"Warning Reason 0x{reason:04X}")
    if http_status != ALL_STORED:
        raise AssociationLost(f"answered {http_status}, and did not say what became of the instance")
    return ACCEPTED, "no details were given"


def response_module(answer: requests.Response) -> Dataset:
    """Return the Store Instances Response Module of an answer in JSON (PS3.18 F.2); empty when there is none."""
    kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if not answer.content or kind not in ("application/dicom+json", "application/json"):
        return Dataset()
    try:
        content: Any = answer.json()
        return Dataset.from_json(content[0] if isinstance(content, list) and content else content)
    except Exception as error:  # malformed input can raise any error in pydicom
        raise AssociationLost(f"answered {_status_line(answer)} with what cannot be read") from error


@contextmanager
def opened(destination: Destination) -> Iterator[StowSession]:
    """Open a session with the destination's credentials and TLS, and close it at the end.

    Credentials are read at each call: a bearer token (RFC 6750) or user and password (RFC 7617). Without `tls`, the
    certificate of an https service is checked by the system's CAs. Raises AssociationLost.
    """
    stow, tls = destination.stow, destination.tls
    assert stow is not None, "only a DICOMweb destination"
    answers: list[requests.Response] = []
    with requests.Session() as http:
        http.trust_env = False
        http.max_redirects = 0
        http.headers["Accept"] = "application/dicom+json"
        http.hooks["response"] = [lambda answer, *_, **__: answers.append(answer)]
        try:
            secret = f"destination {destination.name}: stow"
            if stow.token is not None:
                http.headers["Authorization"] = f"Bearer {read_secret(stow.token, f'{secret}.token')}"
            if stow.user is not None and stow.password is not None:
                http.auth = (stow.user, read_secret(stow.password, f"{secret}.password"))
            context = client_context(tls, f"destination {destination.name}: tls")
        except ConfigError as error:
            raise AssociationLost(f"cannot be called ({error})") from error
        if context is not None and tls is not None:
            named: dict[str, Any] = {"ssl_context": context}
            named |= {"server_hostname": tls.name} if tls.name else {}
            named |= {} if tls.check_name else {"assert_hostname": False}
            http.verify = str(tls.ca)  # otherwise requests would add the public CAs to ours
            http.mount("https://", _Secured(named))
        yield StowSession(http, stow.url.rstrip("/"), destination.timeout_s, answers)


class _Secured(HTTPAdapter):
    """Connects by a TLS context of the node."""

    def __init__(self, named: dict[str, Any]) -> None:
        self._named = named
        super().__init__()

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **named: Any) -> None:
        """Make the pool as requests does, with the node's context."""
        super().init_poolmanager(connections, maxsize, block, **{**named, **self._named})


@contextmanager
def _translated(timeout_s: float) -> Iterator[None]:
    """Translate the errors of requests and dicomweb-client to AssociationLost."""
    try:
        yield
    except requests.HTTPError as error:
        raise AssociationLost(f"answered {_status_line(error.response)}") from error
    except requests.Timeout as error:
        raise AssociationLost(f"gave no answer within {timeout_s:g} s") from error
    except requests.TooManyRedirects as error:
        raise AssociationLost("redirects, which is not followed") from error
    except requests.exceptions.SSLError as error:
        raise AssociationLost(f"cannot be called over TLS ({_root_cause(error)})") from error
    except requests.ConnectionError as error:
        raise AssociationLost(f"cannot be reached ({_root_cause(error)})") from error
    except (requests.RequestException, ParseError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise AssociationLost(f"answered with what cannot be read ({type(error).__name__})") from error


def _status_line(answer: requests.Response) -> str:
    return f"{answer.status_code} {answer.reason}".strip()


def _root_cause(error: BaseException) -> str:
    """Return the innermost reason of an error, without addresses of objects."""
    while error.__cause__ or error.__context__:
        inner = error.__cause__ or error.__context__
        assert inner is not None
        error = inner
    return getattr(error, "strerror", None) or type(error).__name__
