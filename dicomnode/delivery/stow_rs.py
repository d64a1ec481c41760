"""The DICOMweb STOW-RS user agent (PS3.18 10.5): one request an instance, one receipt as the answer comes.

    answer                                  receipt
    200, or 202 or 409 that names it        0x0000, its Warning Reason (0008,1196) or Failure Reason (0008,1197)
    any other                               none: undelivered, tried again later as after a C-STORE without an answer

Instances are sent byte for byte as they lie in out/<job>/. Redirects are not followed, proxies and passwords of the
environment are not used: what a patient's images are sent to is said in the configuration alone.
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
from dicomnode.config.peers import Destination, Stow, read_secret
from dicomnode.delivery.storage_scu import concluded
from dicomnode.dimse.client import AssociationLost
from dicomnode.errors import ConfigError, Undelivered
from dicomnode.receipt import ACCEPTED, Receipt, outcome
from dicomnode.security.tls import client_context
from dicomnode.spool.instance_file import Parcel, parcel

ALL_STORED: Final = 200
NAMED: Final = (ALL_STORED, 202, 409)
"""HTTP statuses after which an instance is looked for in the answer (PS3.18 table 10.5.3-1)."""
NOT_REFUSED: Final = (200, 204, 405, 501)
"""HTTP statuses of a search that show that the address is right; some servers only store."""
WARNED: Final = 0xB000
FAILED: Final = 0x0110


def send(
    paths: Sequence[Path],
    destination: Destination,
    on_receipt: Callable[[Receipt], None],
    already: Collection[str] = (),
    before: Callable[[], None] = lambda: None,
) -> list[Receipt]:
    """Send files as `deliver.send` does, to the destination's STOW-RS service. Raises Undelivered."""
    parcels = [one for one in map(parcel, paths) if one.sop_instance_uid not in already]
    receipts: list[Receipt] = []
    why: list[str] = []
    try:
        with _opened(destination) as line:
            for one in parcels:
                before()
                receipts.append(line.store(one))
                metrics.DELIVERED_INSTANCES.labels(destination.name, receipts[-1].outcome).inc()
                on_receipt(receipts[-1])
    except AssociationLost as error:
        why.append(str(error))
    return concluded(destination, parcels, receipts, why)


def reach(destination: Destination) -> None:
    """Ask the service for nothing much (QIDO-RS, PS3.18 10.6). Raises Undelivered when it is not there or refuses."""
    try:
        with _opened(destination) as line, _translated(destination.timeout_s):
            answer = line.session.get(f"{line.url}/studies?limit=1", timeout=destination.timeout_s)
    except AssociationLost as error:
        raise Undelivered((), f"{destination.name} ({destination.where}) {error}") from error
    if answer.status_code not in NOT_REFUSED:
        raise Undelivered((), f"{destination.name} ({destination.where}) answered {_said(answer)}")


@dataclass(frozen=True, slots=True)
class StowSession:
    """A session with a service; `answers` are those it gave."""

    session: requests.Session
    url: str
    timeout_s: float
    answers: list[requests.Response]

    def store(self, one: Parcel) -> Receipt:
        """Send one instance and wait for its answer. Raises Lost."""
        client = DICOMwebClient(self.url, self.session, timeout=self.timeout_s)
        client.set_http_retry_params(retry=False)
        data_set = dcmread(one.path)
        self.answers.clear()
        with _translated(self.timeout_s):
            try:
                told = client.store_instances([data_set])
            except requests.HTTPError as error:
                if error.response is None or error.response.status_code not in NAMED:
                    raise
                told = Dataset()
        answer = self.answers[-1]
        status, comment = status_of(told or _detail(answer), one.sop_instance_uid, answer.status_code)
        return Receipt(one.sop_instance_uid, status, datetime.datetime.now(datetime.UTC), comment)


def status_of(told: Dataset, sop_instance_uid: str, http_status: int) -> tuple[int, str]:
    """C-STORE status and comment for what a service said of an instance (PS3.18 10.5.3). Raises Lost when nothing."""
    for item in told.get("FailedSOPSequence") or ():
        if item.get("ReferencedSOPInstanceUID") == sop_instance_uid:
            reason = int(item.get("FailureReason") or FAILED)
            return (FAILED if outcome(reason) in ("accepted", "warning") else reason), ""
    for item in told.get("ReferencedSOPSequence") or ():
        if item.get("ReferencedSOPInstanceUID") == sop_instance_uid:
            reason = int(item.get("WarningReason") or ACCEPTED)
            known = reason == ACCEPTED or outcome(reason) == "warning"
            return (reason, "") if known else (WARNED, f"Warning Reason 0x{reason:04X}")
    if http_status != ALL_STORED:
        raise AssociationLost(f"answered {http_status}, and did not say what became of the instance")
    return ACCEPTED, "no details were given"


def _detail(answer: requests.Response) -> Dataset:
    """The Store Instances Response Module of an answer, as JSON; empty when there is none."""
    kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if not answer.content or kind not in ("application/dicom+json", "application/json"):
        return Dataset()
    try:
        told: Any = answer.json()
        return Dataset.from_json(told[0] if isinstance(told, list) and told else told)
    except Exception as error:  # pydicom raises whatever the garbage leads it into
        raise AssociationLost(f"answered {_said(answer)} with what cannot be read") from error


@contextmanager
def _opened(destination: Destination) -> Iterator[StowSession]:
    """A session with the destination's credentials and TLS, closed at the end. Raises Lost."""
    stow = destination.stow
    assert stow is not None, "only a DICOMweb destination"
    answers: list[requests.Response] = []
    with requests.Session() as session:
        session.trust_env = False
        session.max_redirects = 0
        session.headers["Accept"] = "application/dicom+json"
        session.hooks["response"] = [lambda answer, *_, **__: answers.append(answer)]
        try:
            _authorize(session, stow, destination.name)
            _secure(session, destination)
        except ConfigError as error:
            raise AssociationLost(f"cannot be called ({error})") from error
        yield StowSession(session, stow.url.rstrip("/"), destination.timeout_s, answers)


def _authorize(session: requests.Session, stow: Stow, name: str) -> None:
    """Bearer token (RFC 6750) or user and password (RFC 7617), read anew. Raises ConfigError."""
    path = f"destination {name}: stow"
    if stow.token is not None:
        session.headers["Authorization"] = f"Bearer {read_secret(stow.token, f'{path}.token')}"
    if stow.user is not None and stow.password is not None:
        session.auth = (stow.user, read_secret(stow.password, f"{path}.password"))


def _secure(session: requests.Session, destination: Destination) -> None:
    """TLS as the destination's `tls` says; without that, https by the system's CAs. Raises ConfigError."""
    context = client_context(destination.tls, f"destination {destination.name}: tls")
    if context is None or destination.tls is None:
        return
    named: dict[str, Any] = {"ssl_context": context}
    if destination.tls.name:
        named |= {"server_hostname": destination.tls.name}
    if not destination.tls.check_name:
        named |= {"assert_hostname": False}
    session.verify = str(destination.tls.ca)  # else requests would add the public CAs to ours
    session.mount("https://", _Secured(named))


class _Secured(HTTPAdapter):
    """Connections by a TLS context of ours."""

    def __init__(self, named: dict[str, Any]) -> None:
        self._named = named
        super().__init__()

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **named: Any) -> None:
        """As requests makes it, with our context."""
        super().init_poolmanager(connections, maxsize, block, **{**named, **self._named})


@contextmanager
def _translated(timeout_s: float) -> Iterator[None]:
    """What requests and dicomweb-client raise becomes Lost."""
    try:
        yield
    except requests.HTTPError as error:
        raise AssociationLost(f"answered {_said(error.response)}") from error
    except requests.Timeout as error:
        raise AssociationLost(f"gave no answer within {timeout_s:g} s") from error
    except requests.TooManyRedirects as error:
        raise AssociationLost("redirects, which is not followed") from error
    except requests.exceptions.SSLError as error:
        raise AssociationLost(f"cannot be called over TLS ({_root(error)})") from error
    except requests.ConnectionError as error:
        raise AssociationLost(f"cannot be reached ({_root(error)})") from error
    except (requests.RequestException, ParseError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise AssociationLost(f"answered with what cannot be read ({type(error).__name__})") from error


def _said(answer: requests.Response) -> str:
    return f"{answer.status_code} {answer.reason}".strip()


def _root(error: BaseException) -> str:
    """The innermost reason, without addresses of objects."""
    while error.__cause__ or error.__context__:
        inner = error.__cause__ or error.__context__
        assert inner is not None
        error = inner
    return getattr(error, "strerror", None) or type(error).__name__
