"""Certificates for tests: CAs, and what they sign, with any time of validity, name and key."""

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True)
class Pair:
    """PEM files of a certificate and its key."""

    certificate: Path
    key: Path


def name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def written(folder: Path, stem: str, certificate: x509.Certificate, key: Key, password: str = "") -> Pair:
    """The files of a certificate and its key."""
    pair = Pair(folder / f"{stem}.crt", folder / f"{stem}.key")
    pair.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    locked = serialization.BestAvailableEncryption(password.encode()) if password else serialization.NoEncryption()
    pair.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked))
    return pair


class Authority:
    """A CA with its file `ca`."""

    def __init__(self, folder: Path, common: str = "Hospital CA") -> None:
        self.folder = folder
        self._name = name(common)
        self._key = ec.generate_private_key(ec.SECP256R1())
        folder.mkdir(parents=True, exist_ok=True)
        usage = x509.BasicConstraints(ca=True, path_length=None)
        certificate = self._signed(self._name, self._key, (-1, 3650), [(usage, True)])
        self.certificate = certificate
        self.ca = written(folder, "ca", certificate, self._key).certificate

    def sign(
        self,
        common: str,
        days: tuple[float, float] = (-1, 365),
        *,
        rsa_bits: int | None = None,
        password: str = "",
        stem: str = "",
        hosts: tuple[str, ...] = ("localhost", "127.0.0.1"),
    ) -> Pair:
        """A certificate for a name, valid from and until so many days from now, with its key."""
        key: Key = rsa.generate_private_key(65537, rsa_bits) if rsa_bits else ec.generate_private_key(ec.SECP256R1())
        names: list[x509.GeneralName] = [
            x509.IPAddress(ipaddress.ip_address(one)) if one[0].isdigit() else x509.DNSName(one) for one in hosts
        ]
        uses = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        extensions: list[tuple[x509.ExtensionType, bool]] = [(x509.SubjectAlternativeName(names), False), (uses, False)]
        certificate = self._signed(name(common), key, days, extensions)
        return written(self.folder, stem or common, certificate, key, password)

    def revoke(self, pair: Pair) -> Path:
        """A revocation list that holds a certificate."""
        now = datetime.datetime.now(datetime.UTC)
        bad = x509.load_pem_x509_certificate(pair.certificate.read_bytes())
        entry = x509.RevokedCertificateBuilder().serial_number(bad.serial_number).revocation_date(now).build()
        builder = x509.CertificateRevocationListBuilder().issuer_name(self._name).last_update(now)
        listed = builder.next_update(now + datetime.timedelta(days=7)).add_revoked_certificate(entry)
        file = self.folder / "ca.crl"
        file.write_bytes(listed.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        return file

    def _signed(
        self,
        subject: x509.Name,
        key: Key,
        days: tuple[float, float],
        extensions: list[tuple[x509.ExtensionType, bool]],
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self._name).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now + datetime.timedelta(days=days[0]))
        builder = builder.not_valid_after(now + datetime.timedelta(days=days[1]))
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(self._key, hashes.SHA256())
