"""Certificates of the data plane: both sides are known by SHA-256 fingerprints that the transaction carries.

No authority signs anything. The server has one key and certificate of its own, made when it starts for the first time;
the operator puts its fingerprint into the transaction's status. A client makes a certificate for one transaction and
puts its fingerprint into the spec. TLS (RFC 8446) then proves to each side that the other one has the key.
"""

from __future__ import annotations

import datetime
import hashlib
import os
import secrets
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

MAX_CERTIFICATE = 8192
"""Bytes of a client's certificate as PEM."""
SERVER_DAYS = 3653
"""How long the server's certificate is valid. Clients know it by its fingerprint and do not look at the dates."""
_BACKDATED = datetime.timedelta(days=2)
"""Validity begins that long ago: the other side's clock may be behind."""
_TRUSTED_AT_LEAST = 256
"""Certificates that a context takes before one without the old ones takes its place."""


class CertificateError(Exception):
    """A certificate or key that can't be used. The message says which, why, and what to do."""


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A private key and its self-signed certificate, both PEM."""

    key: bytes
    certificate: bytes

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate's DER encoding, in hexadecimal."""
        return fingerprint(ssl.PEM_cert_to_DER_cert(self.certificate.decode("ascii")))


@dataclass(frozen=True, slots=True)
class ServerFiles:
    """Where the server's key and certificate lie, and the latter's fingerprint."""

    key: Path
    certificate: Path
    fingerprint: str


def fingerprint(der: bytes) -> str:
    """Return the fingerprint of a certificate in DER."""
    return hashlib.sha256(der).hexdigest()


def make_key_pair(name: str, days: int) -> KeyPair:
    """Make an ECDSA key on P-256 and a certificate for it that is valid for so many days.

    `name` is for people who look at it: at most 64 characters.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return KeyPair(private, certificate.public_bytes(pem))


def server_files(state: Path) -> ServerFiles:
    """Return the server's key and certificate, made if there are none yet. Raises CertificateError.

    The key is written first: a key without certificate was never shown to anyone, and is replaced.
    """
    key, certificate = state / "key.pem", state / "certificate.pem"
    try:
        if not certificate.exists():
            made = make_key_pair("dsg-data-plane", SERVER_DAYS)
            _write(key, made.key)
            _write(certificate, made.certificate)
        pem = certificate.read_bytes()
        if key.stat().st_mode & 0o077:
            raise CertificateError(
                f"others can read the key {key}: set its mode to 0600, or remove key and certificate"
            )
    except OSError as error:
        raise CertificateError(f"cannot use the key and certificate in {state}: {error.strerror}") from error
    try:
        return ServerFiles(key, certificate, fingerprint(_der(pem)))
    except ValueError as error:
        raise CertificateError(f"{certificate} is no certificate: {error}. {_REMOVE}") from error


_REMOVE = (
    "Remove it and the key beside it, and start again; transactions that are open now then can't reach this server "
    "and must be made anew"
)


def read_client_certificate(pem: bytes) -> bytes:
    """Return the DER encoding of the one certificate in a PEM text. Raises CertificateError."""
    if len(pem) > MAX_CERTIFICATE:
        raise CertificateError(f"the certificate has more than {MAX_CERTIFICATE} bytes")
    try:
        found = x509.load_pem_x509_certificates(pem)
    except ValueError:
        found = []
    if len(found) != 1:
        raise CertificateError("the body is not one certificate in PEM (RFC 7468)")
    return found[0].public_bytes(serialization.Encoding.DER)


class Trust:
    """The server's TLS contexts: TLS 1.3 only, and clients' certificates are taken that were added before.

    OpenSSL offers no way to ask for a certificate that it does not know, nor to forget one that it knows. So there is
    one context that listens, and hands each connection on to the newest; when that one has taken many certificates, one
    takes its place that holds those of open transactions only. A certificate that is still known lets nobody in: each
    request is held against its grant. To be used from one thread.
    """

    def __init__(self, files: ServerFiles, *, at_least: int = _TRUSTED_AT_LEAST) -> None:
        """`at_least` is the number of certificates after which the old ones are left out. Raises CertificateError."""
        self._files = files
        self._at_least = at_least
        self._most = at_least
        self._known: dict[str, bytes] = {}
        self._added = 0
        self._newest = self._make()
        self.listening = self._make()
        """The context to listen with."""
        self.listening.sni_callback = self._hand_on

    def __len__(self) -> int:
        """Return how many certificates the newest context holds."""
        return self._added

    def add(self, der: bytes, still_open: Callable[[str], bool]) -> None:
        """Trust a certificate. `still_open` tells by a fingerprint whether its transaction is open.

        Raises CertificateError for what OpenSSL takes for none.
        """
        mark = fingerprint(der)
        if mark in self._known:
            return
        if self._added >= self._most:
            self._known = {known: one for known, one in self._known.items() if still_open(known)}
            self._most = max(self._at_least, 2 * len(self._known))
            self._newest = self._make()
            self._added = 0
            for one in self._known.values():
                self._load(one)
        self._load(der)
        self._known[mark] = der

    def _load(self, der: bytes) -> None:
        try:
            self._newest.load_verify_locations(cadata=der)
        except (ssl.SSLError, ValueError) as error:
            raise CertificateError(f"the certificate can't be used: {error}") from error
        self._added += 1

    def _make(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_OPTIONAL
        # A certificate is trusted by being known as a whole. Without this OpenSSL looks for an issuer by name, and may
        # find another client's certificate of the same name.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        # A resumed session would bring a certificate that this context may not know.
        context.num_tickets = 0
        context.options |= ssl.OP_NO_TICKET
        try:
            context.load_cert_chain(self._files.certificate, self._files.key)
        except (OSError, ssl.SSLError) as error:
            text = f"cannot use {self._files.certificate} with {self._files.key}: {error}. {_REMOVE}"
            raise CertificateError(text) from error
        return context

    def _hand_on(self, connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._newest


def _der(pem: bytes) -> bytes:
    return x509.load_pem_x509_certificate(pem).public_bytes(serialization.Encoding.DER)


def _write(path: Path, content: bytes) -> None:
    aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        with suppress(OSError):
            aside.unlink()
        raise
