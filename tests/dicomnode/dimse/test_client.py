"""Tests of what counts as an answer to a request of the node's."""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage
from pynetdicom import AE, evt
from pynetdicom.dimse_primitives import C_ECHO, C_STORE, N_ACTION, N_EVENT_REPORT
from pynetdicom.events import Event
from pynetdicom.presentation import build_context

from dicomnode.config.peers import Destination
from dicomnode.dimse.client import AssociationLost, answer, associated, echo, fault_of
from dicomnode.dimse.presentation_contexts import VERIFICATION
from dicomnode.errors import Undelivered

PUSH_MODEL, WELL_KNOWN = "1.2.840.10008.1.20.1", "1.2.840.10008.1.20.1.1"
KINDS = ("C-STORE", "C-ECHO", "N-ACTION", "N-EVENT-REPORT")


@contextmanager
def peer(answers: Callable[[Event], object]) -> Iterator[Destination]:
    """Start a destination whose answer to each request is what `answers` returns, after what it has sent itself."""
    ae = AE("TPS")
    for sop_class in (CTImageStorage, VERIFICATION, PUSH_MODEL):
        ae.add_supported_context(sop_class, scu_role=True, scp_role=True)
    kinds = (evt.EVT_C_STORE, evt.EVT_C_ECHO)
    handlers: list[evt.EventHandlerType] = [(kind, answers) for kind in kinds]
    handlers += [(kind, lambda event: (answers(event), None)) for kind in (evt.EVT_N_ACTION, evt.EVT_N_EVENT_REPORT)]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    assert server is not None
    try:
        yield Destination("planning", "TPS", "127.0.0.1", server.server_address[1], timeout_s=5)
    finally:
        server.shutdown()


def image(number: int) -> Dataset:
    data_set = Dataset()
    data_set.SOPClassUID, data_set.SOPInstanceUID = CTImageStorage, f"1.2.3.{number}"
    data_set.file_meta = FileMetaDataset()
    data_set.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return data_set


def ask(destination: Destination, *kinds: str) -> list[int]:
    """Make requests over one association; return their statuses."""
    contexts = [build_context(one) for one in (CTImageStorage, VERIFICATION, PUSH_MODEL)]
    contexts[0].transfer_syntax = [ExplicitVRLittleEndian]
    statuses: list[int] = []
    with associated(destination, "SCTNODE", contexts) as association:
        listed = Dataset()
        listed.TransactionUID = "1.2.3"
        requests: dict[str, Callable[[], Dataset]] = {
            "C-STORE": lambda: association.send_c_store(image(len(statuses))),
            "C-ECHO": association.send_c_echo,
            "N-ACTION": lambda: association.send_n_action(listed, 1, PUSH_MODEL, WELL_KNOWN)[0],
        }
        for kind in kinds:
            statuses.append(int(answer(destination, requests[kind]).Status))  # noqa: PERF401, the requests count them
    return statuses


def reply(event: Event, **changed: object) -> None:
    """Send an answer to the request of an event, with some of its values changed."""
    request = event.request
    answered = type(request)()
    answered.MessageIDBeingRespondedTo, answered.Status = request.MessageID, 0x0000
    for keyword in ("SOPClassUID", "SOPInstanceUID"):
        asked = getattr(request, f"Affected{keyword}", None) or getattr(request, f"Requested{keyword}", None)
        if asked is not None and hasattr(answered, f"Affected{keyword}"):
            setattr(answered, f"Affected{keyword}", asked)
    for keyword, value in changed.items():
        setattr(answered, keyword, value)
    event.assoc.dimse.send_msg(answered, event.context.context_id)


def test_every_request_over_an_association_has_a_message_id_of_its_own() -> None:
    seen: list[int] = []

    def note(event: Event) -> int:
        seen.append(event.request.MessageID or 0)
        return 0x0000

    with peer(note) as destination:
        asked = ["C-STORE", "C-ECHO", "N-ACTION", "C-STORE", "C-STORE", "N-ACTION"]
        assert ask(destination, *asked) == [0] * 6
    assert len(set(seen)) == 6
    assert all(0 < number <= 0xFFFF for number in seen)


@pytest.mark.parametrize("kind", ["C-STORE", "C-ECHO", "N-ACTION"])
def test_an_answer_that_repeats_the_answer_before_is_no_answer(kind: str) -> None:
    asked: list[int] = []

    def repeats(event: Event) -> int:
        asked.append(event.request.MessageID or 0)
        if len(asked) == 2:
            reply(event, MessageIDBeingRespondedTo=asked[0])
            return 0xA700
        return 0x0000

    with peer(repeats) as destination, pytest.raises(AssociationLost, match=f"answer of another message to {kind}"):
        ask(destination, kind, kind)
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("kind", "changed"),
    [
        ("C-STORE", {"AffectedSOPInstanceUID": "1.2.4"}),
        ("C-STORE", {"AffectedSOPClassUID": MRImageStorage}),
        ("C-ECHO", {"AffectedSOPClassUID": CTImageStorage}),
        ("N-ACTION", {"AffectedSOPInstanceUID": "1.2.4"}),
    ],
)
def test_an_answer_about_another_object_is_no_answer(kind: str, changed: dict[str, str]) -> None:
    def answers(event: Event) -> int:
        reply(event, **changed)
        return 0x0000

    with peer(answers) as destination, pytest.raises(AssociationLost, match="another Affected SOP"):
        ask(destination, kind)


@pytest.mark.parametrize("kind", ["C-STORE", "C-ECHO", "N-ACTION"])
def test_an_answer_with_a_pending_status_is_no_answer(kind: str) -> None:
    def answers(event: Event) -> int:
        reply(event, Status=0xFF00)
        return 0x0000

    with peer(answers) as destination, pytest.raises(AssociationLost, match="pending status"):
        ask(destination, kind)


@pytest.mark.parametrize("kind", ["C-STORE", "C-ECHO", "N-ACTION"])
@pytest.mark.parametrize("more", [0, 1])
def test_a_second_answer_to_one_request_ends_the_association(kind: str, more: int) -> None:
    def answers_twice(event: Event) -> int:
        reply(event)
        return 0xA700

    with peer(answers_twice) as destination, pytest.raises(AssociationLost, match=r"answer(ed once more| of another)"):
        ask(destination, kind, *[kind] * more)


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_that_names_no_object_counts(kind: str) -> None:
    message = request_of(kind, 0)
    for word in ("AffectedSOPClassUID", "AffectedSOPInstanceUID", "RequestedSOPClassUID", "RequestedSOPInstanceUID"):
        if hasattr(message, word):
            setattr(message, word, None)
    message.MessageID, message.MessageIDBeingRespondedTo, message.Status = None, 3, 0x0000
    assert fault_of(message, request_of(kind, 3)) == ""


def test_an_echo_that_gets_the_answer_of_another_message_fails_in_words() -> None:
    def answers(event: Event) -> int:
        reply(event, MessageIDBeingRespondedTo=9999)
        return 0x0000

    with peer(answers) as destination, pytest.raises(Undelivered) as caught:
        echo(destination, "SCTNODE")
    assert "planning" in caught.value.sentence
    assert "Message ID 9999 instead of 1" in caught.value.sentence


Message = C_STORE | C_ECHO | N_ACTION | N_EVENT_REPORT


def request_of(kind: str, number: int) -> Message:
    """Return a request as pynetdicom's send_* make it."""
    kinds: dict[str, type[Message]] = dict(zip(KINDS, (C_STORE, C_ECHO, N_ACTION, N_EVENT_REPORT), strict=True))
    made = kinds[kind]()
    made.MessageID = number
    word = "Requested" if kind == "N-ACTION" else "Affected"
    setattr(made, f"{word}SOPClassUID", PUSH_MODEL)
    if kind != "C-ECHO":
        setattr(made, f"{word}SOPInstanceUID", WELL_KNOWN)
    if isinstance(made, C_STORE):
        made.DataSet = io.BytesIO(b"")
    return made


@given(st.sampled_from(KINDS), st.sampled_from(KINDS), st.integers(1, 4), st.integers(1, 4), st.integers(0, 0xFFFF))
def test_a_message_is_the_answer_only_if_kind_and_message_id_agree_and_the_status_is_final(
    asked: str, answered: str, number: int, of: int, status: int
) -> None:
    message = request_of(answered, 0)
    message.MessageID, message.MessageIDBeingRespondedTo, message.Status = None, of, status
    right = asked == answered and number == of and status not in (0xFF00, 0xFF01)
    assert (fault_of(message, request_of(asked, number)) == "") == right


@pytest.mark.parametrize("kind", KINDS)
def test_a_request_of_the_peer_is_no_answer(kind: str) -> None:
    assert "instead of the answer" in fault_of(request_of(kind, 1), request_of(kind, 1))
