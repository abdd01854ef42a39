"""Who a client is to the data plane, and who the data plane is to it: certificates, told by their fingerprints.

A transaction names its client's certificate (`spec.clientKey`), and `status.endpoint` the server's. Nobody signs them
and no name in them counts; the API server, which authenticates users, is where both learn them.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import ssl
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_FINGERPRINT = re.compile("[0-9a-f]{64}", re.ASCII)
_LIFE = timedelta(days=30)
"""Longer than any transaction; the grant says when it ends."""
_SKEW = timedelta(days=2)
"""The certificate is valid from before now, so that clocks need not agree."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a transaction's data plane is, as `status.endpoint` says. ValueError when a value can't be."""

    url: str
    """`https://host:port`."""
    certificate_fingerprint: str
    """SHA-256 of the server certificate's DER encoding, 64 lower-case hexadecimal digits."""

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        rest = (parts.path.strip("/"), parts.query, parts.fragment, parts.username)
        if parts.scheme != "https" or not parts.hostname or any(rest):
            raise ValueError(f"{self.url!r} is no address of a data plane: https://host:port")
        if not _FINGERPRINT.fullmatch(self.certificate_fingerprint):
            raise ValueError(f"{self.certificate_fingerprint!r} is no SHA-256 fingerprint of 64 hexadecimal digits")
        _ = self.port

    @property
    def host(self) -> str:
        """Name or address, an IPv6 address without its brackets."""
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        """Port; 443 where the address names none."""
        return urlsplit(self.url).port or 443


class Identity:
    """A key and its self-signed certificate, made for one transaction. Both live in memory only."""

    def __init__(self, certificate: bytes, key: bytes) -> None:
        """Take both as PEM. ValueError when the certificate is none."""
        self._certificate = certificate
        self._key = key
        der = x509.load_pem_x509_certificate(certificate).public_bytes(serialization.Encoding.DER)
        self.fingerprint = hashlib.sha256(der).hexdigest()
        """SHA-256 of the certificate's DER encoding: what `spec.clientKey` of the transaction says."""

    @classmethod
    def make(cls) -> Identity:
        """Make a new one: ECDSA on P-256 (RFC 8446 9.1: every implementation of TLS 1.3 has it)."""
        key = ec.generate_private_key(ec.SECP256R1())
        # OpenSSL finds certificates by their names, so no two may have the same in a server's store.
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"dsg-client-{secrets.token_hex(16)}")])
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _SKEW)
            .not_valid_after(now + _LIFE)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
            .sign(key, hashes.SHA256())
        )
        return cls(
            certificate.public_bytes(serialization.Encoding.PEM),
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
        )

    @property
    def certificate(self) -> bytes:
        """The certificate as PEM; no secret."""
        return self._certificate

    def __repr__(self) -> str:
        return f"Identity({self.fingerprint})"

    def show_in(self, context: ssl.SSLContext) -> None:
        """Make connections of a context show the certificate."""
        with _as_file(self._certificate + self._key) as path:
            context.load_cert_chain(path)


@contextlib.contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """Name a file with a content for as long as OpenSSL needs to read it, which takes keys from files only."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("identity", os.MFD_CLOEXEC)
        try:
            os.write(descriptor, content)
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
    else:
        with tempfile.NamedTemporaryFile() as file:  # mode 0600
            file.write(content)
            file.flush()
            yield file.name
