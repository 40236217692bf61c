"""Throwaway certificates: an authority, and what it signs, as PEM files in a folder of their own."""

from __future__ import annotations

import datetime
import ipaddress
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

LOOPBACK = ("dns:localhost", "ip:127.0.0.1")


@dataclass(frozen=True)
class Pair:
    """A certificate and its key."""

    certificate: Path
    key: Path

    @property
    def der(self) -> bytes:
        return x509.load_pem_x509_certificate(self.certificate.read_bytes()).public_bytes(
            serialization.Encoding.DER
        )

    def replace(self, other: Pair) -> None:
        """Moves copies of the other's files over these, the certificate first, as tools for renewal do."""
        for target, source in ((self.certificate, other.certificate), (self.key, other.key)):
            move_over(target, source.read_bytes())


def move_over(path: Path, data: bytes) -> None:
    """A new file in place of the old one, never half of it."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_bytes(data)
    os.replace(fresh, path)


def san(name: str) -> x509.GeneralName:
    """From "dns:…", "uri:…", "email:…" or "ip:…"."""
    kind, _, value = name.partition(":")
    match kind:
        case "dns":
            return x509.DNSName(value)
        case "uri":
            return x509.UniformResourceIdentifier(value)
        case "email":
            return x509.RFC822Name(value)
        case "ip":
            return x509.IPAddress(ipaddress.ip_address(value))
    raise ValueError(name)


class Authority:
    """Signs certificates for names. Each call makes new files."""

    def __init__(self, name: str = "A throwaway authority") -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="sbx-ca-"))
        self.path = self.folder / "authority.pem"
        self._count = 0
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = self._subject(name)
        own = (
            self._builder(self._name, self._key, None)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.path.write_bytes(own.public_bytes(serialization.Encoding.PEM))

    @staticmethod
    def _subject(common_name: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])

    def _builder(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        ends: datetime.datetime | None,
        issuer: x509.Name | None = None,
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.timezone.utc)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer or self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(ends or now + datetime.timedelta(days=1))
        )

    def issue(
        self, *names: str, common_name: str = "somebody", ends: datetime.datetime | None = None
    ) -> Pair:
        """For these alternative names; `ends` is to the second."""
        return self._issue(names, common_name, ends, self._name, self._key, b"")

    def issue_by(self, signer: Pair, *names: str) -> Pair:
        """Signed by one that is no authority, and with that one's certificate behind it, as a chain is."""
        chain = signer.certificate.read_bytes()
        key = serialization.load_pem_private_key(signer.key.read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        issuer = x509.load_pem_x509_certificate(chain).subject
        return self._issue(names, "somebody else", None, issuer, key, chain)

    def _issue(
        self,
        names: tuple[str, ...],
        common_name: str,
        ends: datetime.datetime | None,
        issuer: x509.Name,
        issuer_key: ec.EllipticCurvePrivateKey,
        chain: bytes,
    ) -> Pair:
        self._count += 1
        pair = Pair(self.folder / f"{self._count}.pem", self.folder / f"{self._count}.key")
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(self._subject(common_name), key, ends, issuer)
        if names:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([san(name) for name in names]), critical=False
            )
        certificate = builder.sign(issuer_key, hashes.SHA256())
        pair.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + chain)
        pair.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return pair

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
