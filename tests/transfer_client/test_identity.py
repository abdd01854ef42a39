"""Certificates of a transaction, and where its data plane is."""

from __future__ import annotations

import hashlib
import ssl
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from dsg.transfer.client import Endpoint, Identity

FINGERPRINT = "0" * 64


def test_the_fingerprint_is_that_of_the_certificate() -> None:
    identity = Identity.make()
    der = ssl.PEM_cert_to_DER_cert(identity.certificate.decode())
    assert identity.fingerprint == hashlib.sha256(der).hexdigest()


def test_each_identity_is_another_and_the_key_is_not_shown() -> None:
    one, other = Identity.make(), Identity.make()
    assert one.fingerprint != other.fingerprint
    assert b"PRIVATE" not in one.certificate
    assert "PRIVATE" not in repr(one)


def test_the_certificate_is_of_p256_and_valid_on_a_clock_that_is_a_day_off() -> None:
    found = x509.load_pem_x509_certificate(Identity.make().certificate)
    key = found.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp256r1"
    now = datetime.now(UTC)
    assert found.not_valid_before_utc < now - timedelta(days=1)
    assert found.not_valid_after_utc > now + timedelta(days=1)


def test_a_context_takes_the_identity_without_a_file() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    Identity.make().show_in(context)


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("https://node-1:8443", "node-1", 8443),
        ("https://10.0.0.7", "10.0.0.7", 443),
        ("https://[fd00::1]:9000/", "fd00::1", 9000),
    ],
)
def test_an_endpoint_is_taken_apart(url: str, host: str, port: int) -> None:
    endpoint = Endpoint(url, FINGERPRINT)
    assert (endpoint.host, endpoint.port) == (host, port)


@pytest.mark.parametrize(
    ("url", "fingerprint"),
    [
        ("http://node:1", FINGERPRINT),
        ("https://", FINGERPRINT),
        ("https://node:1/elsewhere", FINGERPRINT),
        ("https://user:secret@node", FINGERPRINT),
        ("https://node:70000", FINGERPRINT),
        ("https://node:1", "0" * 63),
        ("https://node:1", "A" * 64),
    ],
)
def test_an_endpoint_that_can_not_be_is_refused(url: str, fingerprint: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Endpoint(url, fingerprint)
