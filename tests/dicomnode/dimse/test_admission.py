"""Tests of admission: decisions as values, and associations that are rejected with the right reason (PS3.8 9.3.4)."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import MRImageStorage
from pynetdicom import AE
from pynetdicom.association import Association

from dicomnode.cli.conformance import statement
from dicomnode.commitment.scp import may_ask_about
from dicomnode.config.load import Config, load
from dicomnode.config.peers import EVERYONE, Admission, Caller
from dicomnode.dimse.admission import ALERTS_REMEMBERED, ANYONE, Alerts, Call, Refusal, admit, within
from dicomnode.errors import ConfigError
from tests.support.receiver import Pki, Site, closable

VERIFICATION = "1.2.840.10008.1.1"
COMMITMENT = "1.2.840.10008.1.20.1"
FIND = "1.2.840.10008.5.1.4.1.2.2.1"

SCANNER = Caller("MR1", addresses=("192.0.2.0/24", "2001:db8::7"), certificate="mr1.hospital", max_associations=2)
CLOSED = Admission(callers=(SCANNER, Caller("PROBE*", rights=("echo",)), Caller("MR1", addresses=("198.51.100.9",))))
RIGHT = frozenset({"mr1.hospital"})


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (Call("MR1", "ANY", "192.0.2.9", RIGHT), SCANNER),
        (Call(" MR1 ", "ANY", "192.0.2.9", RIGHT), SCANNER),
        (Call("MR1", "ANY", "2001:db8::7", RIGHT), SCANNER),
        (Call("MR1", "ANY", "::ffff:192.0.2.9", RIGHT), SCANNER),
        (Call("MR1", "ANY", "192.0.2.9", frozenset({"mr2.hospital"})), "certificate"),
        (Call("MR1", "ANY", "192.0.2.9", None), "certificate"),
        (Call("MR1", "ANY", "192.0.3.9", RIGHT), "caller_address"),
        (Call("MR1", "ANY", "198.51.100.9", None), CLOSED.callers[2]),
        (Call("mr1", "ANY", "192.0.2.9", RIGHT), "calling_ae"),
        (Call("MR12", "ANY", "192.0.2.9", RIGHT), "calling_ae"),
        (Call("PROBE7", "ANY", "203.0.113.1"), CLOSED.callers[1]),
        (Call("", "ANY", "192.0.2.9", RIGHT), "calling_ae"),
        (Call("MR1\n", "ANY", "192.0.2.9", RIGHT), "calling_ae"),
    ],
)
def test_an_entry_admits_its_ae_from_its_addresses_with_its_certificate(call: Call, expected: Caller | str) -> None:
    found = admit(CLOSED, (), call)
    assert (found.reason if isinstance(found, Refusal) else found) == expected


def test_without_entries_everyone_may_call_who_has_a_title() -> None:
    assert admit(EVERYONE, (), Call("ANYONE", "ANY", "203.0.113.1")) is ANYONE
    assert admit(EVERYONE, ("SCTNODE",), Call("X", " SCTNODE", "203.0.113.1")) is ANYONE
    assert admit(EVERYONE, ("SCTNODE",), Call("X", "OTHER", "203.0.113.1")) == Refusal("called_ae", (1, 1, 7))
    assert admit(EVERYONE, (), Call("X\x1b[31m", "ANY", "203.0.113.1")) == Refusal("calling_ae", (1, 1, 3))


def test_a_title_in_a_pattern_is_no_set_of_characters() -> None:
    admission = Admission(callers=(Caller("MR[12]"),))
    assert isinstance(admit(admission, (), Call("MR1", "ANY", "192.0.2.1")), Refusal)
    assert admit(admission, (), Call("MR[12]", "ANY", "192.0.2.1")) is admission.callers[0]


@given(st.ip_addresses(v=4))
def test_an_address_is_within_its_own_network_and_none_is_everyone(address: object) -> None:
    assert within(str(address), [f"{address}/32"])
    assert within(f"::ffff:{address}", [f"{address}/32"])
    assert within(str(address), [])
    assert not within(str(address), ["2001:db8::/32"])


def test_an_ae_asks_for_commitment_of_its_own_images_and_those_its_entry_names() -> None:
    admission = Admission(
        callers=(Caller("MR1"), Caller("CONSOLE", commits_for=("MR*",)), Caller("ANY", commits_for=("*",)))
    )
    assert may_ask_about(admission, "MR1", "MR1 ")
    assert not may_ask_about(admission, "MR1", "MR2")
    assert may_ask_about(admission, "CONSOLE", "MR2")
    assert not may_ask_about(admission, "CONSOLE", "CT1")
    assert may_ask_about(admission, "ANY", "CT1")
    assert may_ask_about(EVERYONE, "MR1", "MR2")


def test_an_alert_is_given_once_and_its_repetitions_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    alerts = Alerts()
    assert [alerts.due("tls", "192.0.2.1") for _ in range(4)] == [0, None, None, None]
    assert alerts.due("tls", "192.0.2.2") == 0
    now[0] = 61.0
    assert alerts.due("tls", "192.0.2.1") == 3
    for number in range(2 * ALERTS_REMEMBERED):
        alerts.due("tls", str(number))
    assert len(alerts._given) == ALERTS_REMEMBERED


# Associations


def called(here: Site, calling: str, *classes: str, called_ae: str = "SCTNODE") -> Association:
    """Request an association, and return it."""
    ae = AE(calling)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 10
    for one in classes or (VERIFICATION,):
        ae.add_requested_context(one)
    return ae.associate("127.0.0.1", here.receiver.port, ae_title=called_ae, evt_handlers=closable())


def rejection(association: Association) -> tuple[int | None, ...]:
    """Return result, source and reason of an A-ASSOCIATE-RJ (PS3.8 table 9-21)."""
    assert association.is_rejected
    answer = association.acceptor.primitive
    assert answer is not None
    return answer.result, answer.result_source, answer.diagnostic


def test_calls_are_rejected_with_the_reason_of_the_standard(receiver_site: Callable[..., Site]) -> None:
    callers = (Caller("MR1"), Caller("ELSEWHERE", addresses=("192.0.2.1",)), Caller("SECURED", certificate="x"))
    here = receiver_site(admission=Admission(called=("ALIAS",), callers=callers))
    assert rejection(called(here, "STRANGER")) == (1, 1, 3)
    assert rejection(called(here, "ELSEWHERE")) == (1, 1, 3)
    assert rejection(called(here, "SECURED")) == (1, 1, 3)
    assert rejection(called(here, "MR1", called_ae="OTHER")) == (1, 1, 7)
    for title in ("SCTNODE", "ALIAS"):
        association = called(here, "MR1", called_ae=title)
        assert association.send_c_echo().Status == 0x0000
        association.release()
    assert here.alerted("called_ae")
    assert sorted(here.alerts()) == ["called_ae", "caller_address", "calling_ae", "certificate"]


def test_an_ae_has_as_many_associations_as_its_entry_says(receiver_site: Callable[..., Site]) -> None:
    here = receiver_site(admission=Admission(callers=(Caller("MR1", max_associations=1), Caller("MR2"))))
    first = called(here, "MR1")
    assert first.is_established
    assert rejection(called(here, "MR1")) == (2, 3, 2)
    second = called(here, "MR2")
    assert second.is_established
    second.release()
    first.release()
    again = called(here, "MR1")
    assert again.is_established
    again.release()


def test_an_ae_gets_the_services_it_has_a_right_to_and_no_others(receiver_site: Callable[..., Site]) -> None:
    rights = {"ECHOER": ("echo",), "SENDER": ("echo", "store"), "ASKER": ("commitment",)}
    here = receiver_site(
        admission=Admission(callers=tuple(Caller(ae, rights=right) for ae, right in rights.items())),  # type: ignore[arg-type]
        services=(Committing(),),
    )
    classes = {VERIFICATION: "echo", MRImageStorage: "store", COMMITMENT: "commitment"}
    for ae, right in rights.items():
        association = called(here, ae, *classes, FIND)
        accepted = {classes[str(one.abstract_syntax)] for one in association.accepted_contexts}
        assert accepted == set(right)
        association.release()


class Committing:
    """A service of which only the negotiation is tested."""

    sop_class = COMMITMENT

    def handlers(self) -> list[object]:
        return []


def test_an_address_outside_is_closed_before_a_word_is_read(
    receiver_site: Callable[..., Site], dcmtk: Callable[..., int]
) -> None:
    here = receiver_site(admission=Admission(addresses=("192.0.2.0/24",)))
    assert dcmtk("echoscu", here.receiver.port) != 0
    assert here.alerted("address")


def test_a_right_certificate_of_another_is_not_enough(
    receiver_site: Callable[..., Site], pki: Pki, program: Callable[[str], str]
) -> None:
    admission = Admission(
        callers=(Caller("MR1", certificate="mr1.hospital"), Caller("MR2", certificate="mr2.hospital"))
    )
    here = receiver_site(tls=pki.tls(), admission=admission)

    def echoed(calling: str, kind: str) -> int:
        pair = pki.kinds[kind]
        options = ["+tls", str(pair.key), str(pair.certificate), "+cf", str(pki.hospital.ca), "-aet", calling]
        command = [program("echoscu"), *options, "127.0.0.1", str(here.receiver.tls_port)]
        return subprocess.run(command, capture_output=True, timeout=60).returncode

    assert echoed("MR1", "right") == 0
    assert echoed("MR2", "other") == 0
    assert echoed("MR1", "other") != 0
    assert here.alerted("certificate")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("admission: {addresses: [192.0.2.300]}", "admission.addresses: .* must hold addresses"),
        ("admission: {addresses: [192.0.2.1/24]}", "has host bits set"),
        ("admission: {callers: [{}]}", r"admission.callers\[0\].ae_title: is missing"),
        ("admission: {callers: [{ae_title: ABCDEFGHIJKLMNOPQ}]}", "1 to 16"),
        ("admission: {callers: [{ae_title: A, rights: [all]}]}", "write one of: echo, store, commitment"),
        ("admission: {callers: [{ae_title: A, max_associations: 0}]}", "must be from 1"),
        ("tls: {port: 2762}", "certificate and key are not"),
        ("tls: {certificate: a}", "a certificate goes with its key"),
        ("tls: {certificate: a, key: b, port: 2762}", "ca is not set"),
        ("tls: {plain: false}", "nobody could call"),
        ("tls: {minimum: '1.1'}", "write one of: 1.2, 1.3"),
    ],
)
def test_a_mistake_of_the_configuration_is_named(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "node.yaml").write_text(text)
    with pytest.raises(ConfigError, match=words):
        load(tmp_path / "node.yaml")


def test_the_conformance_statement_says_who_may_call_and_how(pki: Pki) -> None:
    config = Config(tls=pki.tls(port=2762), admission=Admission(callers=(Caller("MR1", rights=("store",)),)))
    text = statement(config)
    assert "TLS is offered on port 2762, plain text is not offered" in text
    assert "`MR1` (store)" in text
