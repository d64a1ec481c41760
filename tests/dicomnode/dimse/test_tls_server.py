"""Tests of the node's TLS port with dcmtk, openssl and bare sockets: right, wrong, expired and missing certificates."""

import dataclasses
import os
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from pynetdicom import AE

from dicomnode.config.load import Config
from dicomnode.config.peers import ClientTls, Destination, Secret, Tls
from dicomnode.dimse import tls_server
from dicomnode.dimse.client import echo
from dicomnode.errors import ConfigError, Undelivered
from dicomnode.metrics import REGISTRY
from dicomnode.security import tls
from tests.support.authority import Pair
from tests.support.receiver import Pki, Site, eventually, shown

Start = Callable[..., Site]
Run = Callable[..., int]


@pytest.fixture(scope="module")
def secured(sites: Start, pki: Pki) -> Site:
    """Start a receiver with mutual TLS only."""
    return sites(tls=pki.tls())


def self_signed(pki: Pki) -> Pair:
    return Pair(pki.stranger.ca, pki.stranger.ca.with_suffix(".key"))


def test_storescu_with_the_right_certificate_pushes_an_image(
    secured: Site, pki: Pki, dcmtk: Run, images: list[Path]
) -> None:
    options = shown(pki.kinds["right"], pki.hospital.ca)
    assert dcmtk("storescu", secured.receiver.tls_port, *options, images[0]) == 0
    assert len(secured.stored()) == 1
    assert secured.alerts() == []


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("expired", "certificate has expired"),
        ("not yet valid", "certificate is not yet valid"),
        ("alien", "unable to get local issuer certificate"),
        ("same issuer name", "signature"),
        ("self-signed", "self-signed certificate"),
    ],
)
def test_a_certificate_that_is_not_right_is_refused_and_recorded(
    secured: Site, pki: Pki, dcmtk: Run, images: list[Path], kind: str, why: str
) -> None:
    before = secured.stored()
    pair = self_signed(pki) if kind == "self-signed" else pki.kinds[kind]
    assert dcmtk("storescu", secured.receiver.tls_port, *shown(pair, pki.hospital.ca), images[0]) != 0
    assert secured.stored() == before
    assert secured.alerted(why)


def test_a_revoked_certificate_is_refused(receiver_site: Start, pki: Pki) -> None:
    revoked = pki.hospital.sign("stolen")
    here = receiver_site(tls=pki.tls(crl=pki.hospital.revoke(revoked)))
    with pytest.raises(ssl.SSLError, match="revoked"):
        talked(here, client(pki, revoked))
    talked(here, client(pki, pki.kinds["right"]))


def test_no_certificate_is_refused_where_authentication_is_mutual_and_taken_where_it_is_not(
    secured: Site, receiver_site: Start, pki: Pki
) -> None:
    one_way = receiver_site(tls=pki.tls(mutual=False))
    with pytest.raises(ssl.SSLError, match="certificate required"):
        talked(secured, client(pki, None))
    talked(one_way, client(pki, None))
    with pytest.raises(ssl.SSLError, match="expired"):
        talked(one_way, client(pki, pki.kinds["expired"]))


def test_plain_text_on_the_tls_port_is_refused_and_tls_on_the_plain_port_as_well(
    receiver_site: Start, pki: Pki, dcmtk: Run
) -> None:
    here = receiver_site(tls=pki.tls(plain=True))
    assert dcmtk("echoscu", here.receiver.tls_port) != 0
    assert dcmtk("echoscu", here.receiver.port, *shown(pki.kinds["right"], pki.hospital.ca)) != 0
    assert here.alerted("tls: ")
    assert dcmtk("echoscu", here.receiver.port) == 0


def test_without_a_plain_port_there_is_only_tls(secured: Site, pki: Pki, dcmtk: Run) -> None:
    with pytest.raises(AssertionError, match="not started"):
        _ = secured.receiver.port
    assert dcmtk("echoscu", secured.receiver.tls_port, *shown(pki.kinds["right"], pki.hospital.ca)) == 0


def client(pki: Pki, pair: Pair | None) -> ssl.SSLContext:
    """Return a client context that accepts every server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(pki.hospital.ca)
    if pair is not None:
        context.load_cert_chain(pair.certificate, pair.key)
    return context


def talked(here: Site, context: ssl.SSLContext) -> str | None:
    """Make a handshake, wait until the server has judged our certificate, and return the version. Raises SSLError."""
    plain = socket.create_connection(("127.0.0.1", here.receiver.tls_port), timeout=5)
    with context.wrap_socket(plain) as secured:
        secured.settimeout(0.3)
        try:
            secured.recv(1)
        except TimeoutError:
            return secured.version()
    return None


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_both_versions_of_the_profile_are_spoken(secured: Site, pki: Pki, version: ssl.TLSVersion) -> None:
    context = client(pki, pki.kinds["right"])
    context.maximum_version = version
    assert talked(secured, context) == version.name.replace("_", ".")


def test_the_newer_version_alone_where_it_is_asked_for(receiver_site: Start, pki: Pki) -> None:
    context = client(pki, pki.kinds["right"])
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError, match="version"):
        talked(receiver_site(tls=pki.tls(minimum="1.3")), context)


@pytest.mark.parametrize(
    "offer",
    [
        ("-tls1", "-cipher", "ALL:@SECLEVEL=0"),
        ("-tls1_1", "-cipher", "ALL:@SECLEVEL=0"),
        ("-tls1_2", "-cipher", "AES128-SHA256"),
        ("-tls1_2", "-cipher", "AES256-GCM-SHA384"),
        ("-tls1_2", "-cipher", "ECDHE-RSA-AES256-SHA384"),
        ("-tls1_2", "-cipher", "DHE-RSA-AES256-GCM-SHA384"),
        ("-tls1_2", "-cipher", "ECDHE-RSA-CHACHA20-POLY1305"),
        ("-tls1_2", "-cipher", "eNULL:@SECLEVEL=0"),
        ("-tls1_2", "-cipher", "aNULL:@SECLEVEL=0"),
    ],
    ids=" ".join,
)
def test_older_versions_and_other_ciphers_are_refused(
    secured: Site, pki: Pki, program: Callable[[str], str], offer: tuple[str, ...]
) -> None:
    right = pki.kinds["right"]
    command = [program("openssl"), "s_client", "-connect", f"127.0.0.1:{secured.receiver.tls_port}", *offer]
    command += ["-cert", str(right.certificate), "-key", str(right.key)]
    done = subprocess.run(command, input=b"", capture_output=True, timeout=30)
    assert b"Cipher is (NONE)" in done.stdout
    assert b"alert" in done.stderr


def test_a_key_that_is_too_short_is_refused(secured: Site, pki: Pki) -> None:
    context = client(pki, None)
    context.set_ciphers("ALL:@SECLEVEL=0")
    weak = pki.kinds["weak key"]
    context.load_cert_chain(weak.certificate, weak.key)
    with pytest.raises(ssl.SSLError):
        talked(secured, context)


def test_handshakes_that_stall_keep_nobody_waiting_and_are_ended(receiver_site: Start, pki: Pki, dcmtk: Run) -> None:
    here = receiver_site(tls=pki.tls(handshake_s=2.0))
    address = ("127.0.0.1", here.receiver.tls_port)
    stalled = [socket.create_connection(address, timeout=10) for _ in range(tls_server.HANDSHAKES_AT_ONCE + 40)]
    for one in stalled[::2]:
        one.send(b"\x16\x03\x01")
    assert dcmtk("echoscu", here.receiver.tls_port, *shown(pki.kinds["right"], pki.hospital.ca)) == 0
    with pytest.raises(ConnectionError):
        drip(stalled[-1])
    for one in stalled:
        with one:
            one.settimeout(5)
            try:
                while one.recv(1024):
                    pass
            except ConnectionError:
                continue


def test_a_probe_that_connects_and_goes_again_is_no_alert(secured: Site) -> None:
    def refused() -> float:
        return REGISTRY.get_sample_value("sct_node_tls_handshakes_total", {"outcome": "refused"}) or 0.0

    before, alerts = refused(), secured.alerts()
    for _ in range(3):
        socket.create_connection(("127.0.0.1", secured.receiver.tls_port), timeout=5).close()
    assert eventually(lambda: refused() == before + 3)
    assert secured.alerts() == alerts


def drip(slow: socket.socket) -> None:
    """Send a byte now and then, which must not prolong the handshake."""
    for _ in range(100):
        slow.send(b"\x16")
        time.sleep(0.1)


def test_after_a_renewal_new_calls_get_the_new_certificate_and_open_associations_go_on(
    receiver_site: Start, pki: Pki, tmp_path: Path
) -> None:
    own = Pair(tmp_path / "own.crt", tmp_path / "own.key")
    replace(own, pki.node)
    here = receiver_site(tls=pki.tls(certificate=own.certificate, key=own.key))
    ae = AE("MR1")
    ae.add_requested_context("1.2.840.10008.1.1")
    right = client(pki, pki.kinds["right"])
    association = ae.associate("127.0.0.1", here.receiver.tls_port, tls_args=(right, "node"))
    before = serial(here, pki)
    replace(own, pki.hospital.sign("node", stem="renewed"))
    assert serial(here, pki) != before
    assert association.send_c_echo().Status == 0x0000
    association.release()


def test_new_files_that_are_no_good_leave_the_old_ones_in_use(receiver_site: Start, pki: Pki, tmp_path: Path) -> None:
    own = Pair(tmp_path / "own.crt", tmp_path / "own.key")
    replace(own, pki.node)
    here = receiver_site(tls=pki.tls(certificate=own.certificate, key=own.key))
    before, failures = serial(here, pki), reloads("failed")
    renewed = pki.hospital.sign("node", stem="renewed again")
    replace(own, Pair(renewed.certificate, pki.node.key))
    assert serial(here, pki) == before
    assert reloads("failed") == failures + 1
    replace(own, renewed)
    assert serial(here, pki) != before


def replace(own: Pair, new: Pair) -> None:
    """Replace the files of a pair, as `mv` does."""
    for target, source in ((own.key, new.key), (own.certificate, new.certificate)):
        fresh = target.with_suffix(".new")
        shutil.copyfile(source, fresh)
        fresh.rename(target)


def serial(here: Site, pki: Pki) -> bytes:
    """Return the certificate that a new call receives."""
    plain = socket.create_connection(("127.0.0.1", here.receiver.tls_port), timeout=5)
    with client(pki, pki.kinds["right"]).wrap_socket(plain) as secured:
        return secured.getpeercert(binary_form=True) or b""


def reloads(outcome: str) -> float:
    return REGISTRY.get_sample_value("sct_node_tls_reloads_total", {"outcome": outcome}) or 0.0


# Configuration


def test_a_file_that_is_no_good_is_said_with_its_key_and_what_to_do(pki: Pki, tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    locked = pki.hospital.sign("locked", password="sesame")
    expired = pki.kinds["expired"]
    wrong = Secret(environment="SCT_TEST_TLS")
    os.environ["SCT_TEST_TLS"] = "open"
    for settings, path, words in (
        (pki.tls(certificate=tmp_path / "no.crt"), "tls.certificate", "cannot be read (No such file"),
        (pki.tls(certificate=tmp_path), "tls.certificate", "cannot be read (Is a directory"),
        (pki.tls(certificate=empty), "tls.certificate", "holds no certificate"),
        (pki.tls(certificate=expired.certificate, key=expired.key), "tls.certificate", "has expired"),
        (pki.tls(certificate=pki.kinds["not yet valid"].certificate), "tls.certificate", "is not valid before"),
        (pki.tls(key=tmp_path / "no.key"), "tls.key", "cannot be read (No such file"),
        (pki.tls(key=empty), "tls.key", "holds no key"),
        (pki.tls(key=pki.kinds["right"].key), "tls.key", "does not belong to the certificate"),
        (pki.tls(certificate=locked.certificate, key=locked.key), "tls.key", "is locked"),
        (
            pki.tls(certificate=locked.certificate, key=locked.key, key_password=wrong),
            "tls.key",
            "cannot be opened with key_password",
        ),
        (pki.tls(ca=empty), "tls.ca", "holds no certificate"),
        (pki.tls(ca=expired.certificate), "tls.ca", "every certificate has expired"),
        (pki.tls(crl=empty), "tls.crl", "is no revocation list"),
    ):
        with pytest.raises(ConfigError) as caught:
            tls.check(Config(tls=settings))
        assert (caught.value.path, words in caught.value.problem) == (path, True), caught.value


def test_a_key_is_opened_with_the_secret_that_is_kept_elsewhere(pki: Pki, tmp_path: Path) -> None:
    locked = pki.hospital.sign("locked too", password="sesame")
    (tmp_path / "secret").write_text("sesame\n")
    (tmp_path / "secret").chmod(0o600)
    secret = Secret(file=tmp_path / "secret")
    tls.check(Config(tls=pki.tls(certificate=locked.certificate, key=locked.key, key_password=secret)))


def test_a_certificate_that_ends_soon_is_warned_of_once_a_day(
    pki: Pki, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    soon = pki.hospital.sign("ends soon", (-1, 3))
    settings = pki.tls(certificate=soon.certificate, key=soon.key)
    for _ in range(3):
        tls.server_context(settings)
    assert [vars(record)["code"] for record in caplog.records] == ["certificate_expires"]
    ends = REGISTRY.get_sample_value("sct_node_tls_certificate_expires_timestamp_seconds", {"certificate": "own"})
    assert ends == pytest.approx(time.time() + 3 * tls.DAY_S, abs=60)
    caplog.clear()
    later = time.time() + 4 * tls.DAY_S
    monkeypatch.setattr(time, "time", lambda: later)
    tls.inwards(settings).warn()
    assert [vars(record)["code"] for record in caplog.records] == ["certificate_expired"]


def test_a_client_of_the_node_speaks_to_its_own_tls_port(secured: Site, pki: Pki) -> None:
    right = pki.kinds["right"]
    whole = ClientTls().completed(Tls(certificate=right.certificate, key=right.key, ca=pki.hospital.ca))
    destination = Destination("self", "SCTNODE", "127.0.0.1", secured.receiver.tls_port, timeout_s=5, tls=whole)
    echo(destination, "MR1")
    alien = dataclasses.replace(whole, certificate=pki.kinds["alien"].certificate, key=pki.kinds["alien"].key)
    with pytest.raises(Undelivered, match=r"over TLS \(.*unknown ca"):
        echo(dataclasses.replace(destination, tls=alien), "MR1")
