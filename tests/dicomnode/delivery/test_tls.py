"""Tests of TLS towards destinations, dcmtk's storescp and Orthanc: right, wrong, expired and missing certificates."""

import contextlib
import json
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dicomnode.config.load import load
from dicomnode.config.peers import ClientTls, Destination, Tls
from dicomnode.delivery.storage_scu import send
from dicomnode.dimse.client import echo
from dicomnode.errors import ConfigError, Undelivered
from tests.support.authority import Pair
from tests.support.receiver import Pki, Site

Find = Callable[[str], str]


def towards(pki: Pki, port: int, *, shows: Pair | None = None, **more: object) -> Destination:
    """Return a destination over TLS, to which the node shows a certificate."""
    own = shows or pki.node
    settings = Tls(certificate=own.certificate, key=own.key, ca=pki.hospital.ca)
    whole = ClientTls(**more).completed(settings)  # type: ignore[arg-type]
    return Destination("planning", "ANY", "127.0.0.1", port, timeout_s=5, tls=whole)


@contextlib.contextmanager
def storescp(program: str, folder: Path, port: int, *options: str) -> Iterator[Path]:
    """Start dcmtk's C-STORE SCP, and return the folder into which it writes."""
    folder.mkdir()
    with subprocess.Popen([program, "-od", str(folder), *options, str(port)], stderr=subprocess.DEVNULL) as process:
        try:
            wait_for(port)
            yield folder
        finally:
            process.terminate()


def wait_for(port: int) -> None:
    """Wait until the port accepts connections."""
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        else:
            return


def secured(pki: Pki, pair: Pair) -> list[str]:
    return ["+tls", str(pair.key), str(pair.certificate), "+cf", str(pki.hospital.ca)]


def unread(_receipt: object) -> None:
    """Ignore a receipt."""


def test_storescp_with_the_right_certificate_gets_every_image(
    pki: Pki, program: Find, tmp_path: Path, free_port: Callable[[], int], images: list[Path]
) -> None:
    with storescp(program("storescp"), tmp_path / "got", port := free_port(), *secured(pki, pki.kinds["right"])) as got:
        receipts = send(images, towards(pki, port), "SCTNODE", unread)
        assert [receipt.outcome for receipt in receipts] == ["accepted"] * len(images)
        assert len(list(got.iterdir())) == len(images)
        with pytest.raises(Undelivered, match=r"over TLS \(.*(certificate required|handshake failure|unknown ca)"):
            send(images, towards(pki, port, shows=pki.kinds["alien"]), "SCTNODE", unread)
        with pytest.raises(Undelivered, match="mismatch"):
            send(images, towards(pki, port, name="planning.hospital"), "SCTNODE", unread)
        assert len(list(got.iterdir())) == len(images)


def test_the_name_need_not_be_right_where_it_is_not_asked_for(
    pki: Pki, program: Find, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    named = pki.hospital.sign("planning", hosts=("planning.hospital",))
    with storescp(program("storescp"), tmp_path / "got", port := free_port(), *secured(pki, named)):
        with pytest.raises(Undelivered, match="IP address mismatch"):
            echo(towards(pki, port), "SCTNODE")
        echo(towards(pki, port, name="planning.hospital"), "SCTNODE")
        echo(towards(pki, port, check_name=False), "SCTNODE")


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("expired", "certificate has expired"),
        ("alien", "unable to get local issuer certificate"),
        ("same issuer name", "signature failure"),
        ("plain", "over TLS"),
    ],
)
def test_a_destination_that_is_not_right_gets_nothing_and_is_told_of(
    pki: Pki, program: Find, tmp_path: Path, free_port: Callable[[], int], images: list[Path], kind: str, why: str
) -> None:
    options = [] if kind == "plain" else [*secured(pki, pki.kinds[kind]), "-ic"]
    with storescp(program("storescp"), tmp_path / "got", port := free_port(), *options) as got:
        with pytest.raises(Undelivered) as caught:
            send(images, towards(pki, port), "SCTNODE", unread)
        assert why in caught.value.sentence
        assert list(got.iterdir()) == []


def test_a_destination_over_tls_is_not_called_without(
    pki: Pki, program: Find, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    plain = Destination("planning", "ANY", "127.0.0.1", port := free_port(), timeout_s=3)
    options = secured(pki, pki.kinds["right"])
    with storescp(program("storescp"), tmp_path / "got", port, *options), pytest.raises(Undelivered):
        echo(plain, "SCTNODE")


def test_files_that_vanish_later_are_a_reason_to_try_again_later(pki: Pki, tmp_path: Path) -> None:
    gone = Pair(tmp_path / "gone.crt", pki.node.key)
    with pytest.raises(Undelivered, match=r"over TLS \(destination planning: tls.certificate: .* cannot be read"):
        echo(towards(pki, 9, shows=gone), "SCTNODE")


def test_what_a_destination_names_not_it_has_from_the_node(pki: Pki) -> None:
    own = Tls(certificate=pki.node.certificate, key=pki.node.key, ca=pki.hospital.ca, minimum="1.3")
    right = pki.kinds["right"]
    assert ClientTls().completed(own).certificate == pki.node.certificate
    assert ClientTls().completed(own).minimum == "1.3"
    differs = ClientTls(certificate=right.certificate, key=right.key).completed(own)
    assert (differs.certificate, differs.key_password, differs.ca) == (right.certificate, None, pki.hospital.ca)
    with pytest.raises(ValueError, match="no CA is named"):
        ClientTls().completed(Tls())


# Orthanc


@contextlib.contextmanager
def orthanc(program: str, folder: Path, pki: Pki, pair: Pair, ports: tuple[int, int], node_port: int) -> Iterator[str]:
    """Start Orthanc with TLS and client certificates, and return its REST address."""
    folder.mkdir()
    configuration = {
        "Name": "secured",
        "StorageDirectory": str(folder / "store"),
        "IndexDirectory": str(folder / "store"),
        "DicomAet": "ORTHANC",
        "DicomPort": ports[0],
        "DicomAlwaysAllowEcho": True,
        "DicomAlwaysAllowStore": True,
        "DicomTlsEnabled": True,
        "DicomTlsCertificate": str(pair.certificate),
        "DicomTlsPrivateKey": str(pair.key),
        "DicomTlsTrustedCertificates": str(pki.hospital.ca),
        "DicomTlsRemoteCertificateRequired": True,
        "DicomModalities": {"node": {"AET": "SCTNODE", "Host": "127.0.0.1", "Port": node_port, "UseDicomTls": True}},
        "HttpPort": ports[1],
        "AuthenticationEnabled": False,
        "HttpsCACertificates": "",
        "Plugins": [],
    }
    (folder / "orthanc.json").write_text(json.dumps(configuration))
    with (folder / "log").open("wb") as said:
        process = subprocess.Popen([program, str(folder / "orthanc.json")], stdout=said, stderr=said)
    try:
        wait_for(ports[1])
        wait_for(ports[0])
        yield f"http://127.0.0.1:{ports[1]}"
    finally:
        process.terminate()
        process.wait(30)


def asked(url: str, body: bytes) -> int:
    """Make a POST request, and return the HTTP status."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, method="POST"), timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_orthanc_sends_to_the_node_and_is_sent_to_over_tls(
    pki: Pki,
    program: Find,
    tmp_path: Path,
    free_port: Callable[[], int],
    images: list[Path],
    receiver_site: Callable[..., Site],
) -> None:
    here = receiver_site(tls=pki.tls())
    ports = (free_port(), free_port())
    node_port = here.receiver.tls_port
    with orthanc(program("Orthanc"), tmp_path / "o", pki, pki.kinds["right"], ports, node_port) as url:
        receipts = send(images, towards(pki, ports[0]), "SCTNODE", unread)
        assert all(receipt.stored for receipt in receipts)
        held = json.loads(urllib.request.urlopen(f"{url}/instances", timeout=30).read())
        assert len(held) == len(images)
        assert asked(f"{url}/modalities/node/store", json.dumps(held).encode()) == 200
        assert len(here.stored()) == len(images)
        for wrong in ("alien", "expired"):
            with pytest.raises(Undelivered, match="over TLS"):
                echo(towards(pki, ports[0], shows=pki.kinds[wrong]), "SCTNODE")


@pytest.mark.parametrize("kind", ["expired", "alien"])
def test_an_orthanc_that_is_not_right_is_refused_both_ways(
    pki: Pki,
    program: Find,
    tmp_path: Path,
    free_port: Callable[[], int],
    receiver_site: Callable[..., Site],
    kind: str,
) -> None:
    here = receiver_site(tls=pki.tls())
    ports = (free_port(), free_port())
    node_port = here.receiver.tls_port
    with orthanc(program("Orthanc"), tmp_path / "o", pki, pki.kinds[kind], ports, node_port) as url:
        with pytest.raises(Undelivered, match="over TLS"):
            echo(towards(pki, ports[0]), "SCTNODE")
        assert asked(f"{url}/modalities/node/echo", b"{}") != 200
    assert here.alerted("tls: ")


def test_a_destination_without_a_ca_is_a_mistake_of_the_configuration(tmp_path: Path) -> None:
    file = tmp_path / "node.yaml"
    file.write_text("destinations: [{name: tps, ae_title: TPS, host: 192.0.2.1, port: 104, tls: {}}]\n")
    with pytest.raises(ConfigError, match=r"destinations\[0\].tls: no CA is named"):
        load(file)
