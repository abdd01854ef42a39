"""Who gets in: certificates and grants."""

from __future__ import annotations

import socket
import ssl
import time
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from dsg.transfer.grants import Grant, write_grant
from dsg.transfer.tls import CertificateError, KeyPair, Trust, make_key_pair, server_files
from tests.transfer.server import Client, Place, Served, digest_of, frames_of, incoming


def test_the_server_has_the_certificate_that_it_names_and_keeps_it(tmp_path: Path, place: Place) -> None:
    client = place.client("read", place.stage(), introduced=False)
    with client.raw(certificate=False) as connection:
        der = connection.getpeercert(binary_form=True)
        assert connection.version() == "TLSv1.3"
    assert der is not None
    assert server_files(place.served.state).fingerprint == place.served.files.fingerprint
    assert x509.load_der_x509_certificate(der).fingerprint(hashes.SHA256()).hex() == place.served.files.fingerprint
    assert place.served.files.key.stat().st_mode & 0o777 == 0o600


def test_older_tls_is_refused(place: Place) -> None:
    client = place.client("read", place.stage(), introduced=False)
    context = client.context(certificate=False)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        socket.create_connection(("127.0.0.1", place.served.port)) as plain,
        pytest.raises(ssl.SSLError),
        context.wrap_socket(plain),
    ):
        pass


def test_without_a_certificate_nothing_is_told(place: Place) -> None:
    client = place.client("read", place.stage(), introduced=False)
    for uid in (client.uid, "no-such"):
        answer = client.request("GET", "/grant", certificate=False, fresh=True, uid=uid)
        assert (answer.status, answer.error) == (401, "no-certificate")


def test_a_certificate_that_was_not_shown_is_refused_by_tls(place: Place) -> None:
    client = place.client("read", place.stage(), introduced=False)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        client.request("GET", "/grant", fresh=True)
    assert client.introduce().status == 204
    assert client.request("GET", "/grant", fresh=True).status == 200


def test_a_certificate_of_another_grant_is_refused(place: Place) -> None:
    mine = place.client("write", place.stage("mine"))
    theirs = place.client("write", place.stage("theirs"))
    answer = mine.request("POST", "/contents", frames_of([b"x"]), uid=theirs.uid)
    assert (answer.status, answer.error) == (403, "wrong-certificate")
    assert not incoming(place.base / "theirs")


def test_only_the_grants_certificate_can_be_shown(place: Place) -> None:
    client = place.client("read", place.stage(), introduced=False)
    other = make_key_pair("other", 1).certificate
    for body, code in (
        (other, "wrong-certificate"),
        (b"", "bad-request"),
        (client.pair.certificate + other, "bad-request"),
        (client.pair.key, "bad-request"),
        (b"\n" * 9000, "too-much"),
    ):
        answer = client.request("POST", "/certificate", body, certificate=False, fresh=True)
        assert answer.error == code
    answer = client.request("POST", "/certificate", client.pair.certificate, certificate=False, fresh=True, uid="none")
    assert (answer.status, answer.error) == (403, "grant-over")


def test_a_key_that_does_not_belong_to_the_certificate_is_of_no_use(place: Place, tmp_path: Path) -> None:
    """Whoever has only seen the certificate, which is no secret, can't use it."""
    client = place.client("read", place.stage())
    thief = make_key_pair("client", 1)
    (tmp_path / "stolen.pem").write_bytes(thief.key + client.pair.certificate)
    with pytest.raises(ssl.SSLError):
        client.context(certificate=False).load_cert_chain(tmp_path / "stolen.pem")


def _twin(of: KeyPair) -> KeyPair:
    """Return a certificate that says all that another says, with another key."""
    model = x509.load_pem_x509_certificate(of.certificate)
    key = ec.generate_private_key(ec.SECP256R1())
    builder = (
        x509.CertificateBuilder()
        .issuer_name(model.issuer)
        .subject_name(model.subject)
        .public_key(key.public_key())
        .serial_number(model.serial_number)
        .not_valid_before(model.not_valid_before_utc)
        .not_valid_after(model.not_valid_after_utc)
    )
    for one in model.extensions:
        builder = builder.add_extension(one.value, one.critical)
    made = builder.sign(key, hashes.SHA256())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return KeyPair(private, made.public_bytes(serialization.Encoding.PEM))


def test_a_certificate_of_the_same_name_keeps_nobody_out(place: Place) -> None:
    """OpenSSL looks certificates up by name; an author who copies another's must not lock them out."""
    first = place.client("read", place.stage("a"), introduced=False)
    pairs = [_twin(first.pair) for _ in range(3)]
    clients = []
    for number, pair in enumerate(pairs):
        uid = f"{first.uid}-{number}"
        root = place.stage(f"twin{number}")
        grant = Grant(
            uid=uid,
            namespace="n",
            repository="r",
            author="eve",
            client_key=pair.fingerprint,
            mode="read",
            root=str(root),
            expires=time.time() + 60,
        )
        write_grant(place.served.grants, grant)
        clients.append(Client(place.served, pair, place.base, uid))
    clients.insert(2, first)
    for client in clients:
        assert client.introduce().status == 204
    for client in clients:
        assert client.request("GET", "/grant", fresh=True).status == 200


def test_a_certificate_signed_by_a_known_one_is_of_no_use(place: Place, tmp_path: Path) -> None:
    client = place.client("read", place.stage())
    issuer = x509.load_pem_x509_certificate(client.pair.certificate)
    signer = serialization.load_pem_private_key(client.pair.key, None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "child")]))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(issuer.not_valid_before_utc)
        .not_valid_after(issuer.not_valid_after_utc)
        .sign(signer, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    chain = made.public_bytes(serialization.Encoding.PEM) + client.pair.certificate
    child = Client(place.served, KeyPair(private, chain), tmp_path, client.uid)
    with suppress(ssl.SSLError, ConnectionError):
        assert child.request("GET", "/grant", fresh=True).error == "wrong-certificate"


def test_old_certificates_are_left_out_of_the_store(tmp_path: Path) -> None:
    served = Served(tmp_path, at_least=4)
    try:
        place = Place(tmp_path, served)
        kept = place.client("read", place.stage("kept"))
        for number in range(20):
            client = place.client("read", place.stage(f"s{number}"))
            assert client.request("GET", "/grant", fresh=True).status == 200
            client.end()
            served.call(served.plane.look)
        assert len(served.plane.trust) <= 6
        assert kept.request("GET", "/grant", fresh=True).status == 200
        assert not set(served.plane.certificates.values()) - {kept.uid}
    finally:
        served.stop()


def test_a_grant_that_is_over_is_over_at_once(place: Place) -> None:
    stage = place.stage()
    client = place.client("write", stage)
    assert client.request("POST", "/contents", frames_of([b"a"])).status == 200
    client.end()
    for method, path, body in (
        ("POST", "/contents", frames_of([b"b"])),
        ("PUT", "/changes", b""),
        ("POST", "/complete", None),
        ("GET", "/grant", None),
    ):
        answer = client.request(method, path, body)
        assert (answer.status, answer.error) == (403, "grant-over")
    assert list(incoming(stage)) == [digest_of(b"a")]


def test_a_grant_that_has_expired_is_over(place: Place) -> None:
    client = place.client("read", place.stage(), expires=time.time() + 0.5)
    assert client.request("GET", "/grant").status == 200
    time.sleep(0.6)
    assert client.request("GET", "/grant").error == "grant-over"


def test_a_grant_that_can_not_be_read_is_told_from_one_that_is_over(place: Place) -> None:
    client = place.client("read", place.stage())
    (place.served.grants / f"{client.uid}.json").write_text("{}")
    answer = client.request("GET", "/grant")
    assert (answer.status, answer.error) == (503, "storage")
    assert str(place.base) not in answer.body.decode()


@pytest.mark.parametrize(
    ("mode", "method", "path"),
    [
        ("read", "PUT", "/changes"),
        ("read", "POST", "/missing"),
        ("read", "POST", f"/large/{'a' * 64}"),
        ("read", "PUT", f"/large/{'a' * 64}?offset=0"),
        ("read", "POST", f"/large/{'a' * 64}/complete"),
        ("read", "POST", "/complete"),
        ("write", "GET", "/header"),
        ("write", "GET", "/history/s1-s64"),
        ("write", "POST", "/nodes"),
        ("write", "GET", "/content?path=a"),
        ("write", "POST", "/chunks"),
    ],
)
def test_a_grant_is_good_for_one_thing(place: Place, mode: str, method: str, path: str) -> None:
    stage = place.stage(files={"a": b"secret"})
    answer = place.client(mode, stage).request(method, path, b"")
    assert (answer.status, answer.error) == (403, "wrong-mode")
    assert not incoming(stage)


def test_what_the_grant_says_is_told(place: Place) -> None:
    client = place.client("write", place.stage(), size_limit=5, version="s3")
    told = client.request("GET", "/grant").json
    assert told.pop("expires") > time.time()
    assert told == {
        "mode": "write",
        "namespace": "research",
        "repository": "justice",
        "version": "s3",
        "sizeLimit": 5,
    }


def test_a_server_with_half_of_its_state_says_so(tmp_path: Path) -> None:
    files = server_files(tmp_path)
    files.key.write_bytes(make_key_pair("other", 1).key)
    with pytest.raises(CertificateError, match="start again"):
        Trust(server_files(tmp_path))
    files.key.chmod(0o644)
    with pytest.raises(CertificateError, match="0600"):
        server_files(tmp_path)
    files.certificate.write_bytes(b"no certificate")
    files.key.chmod(0o600)
    with pytest.raises(CertificateError, match="is no certificate"):
        server_files(tmp_path)
    # A key alone was never shown to anyone.
    files.certificate.unlink()
    assert server_files(tmp_path).fingerprint != files.fingerprint
