"""Remotes over https: what the body is checked with, and whom the client trusts."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from casckpt.errors import RemoteDenied, RemoteUnavailable, UsageError
from casckpt.storage.objects import Outcome
from tests.remote.buckets import Bucket, set_keys
from tests.remote.faultproxy import FaultProxy
from tests.remote.servers import Server

DATA = bytes(range(256)) * 1000


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the certificate of a private authority, and the one that it gave to 127.0.0.1 with its key."""
    folder = tmp_path_factory.mktemp("authority")
    ours, theirs = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    root = _certificate("authority", ours, ours).add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
    leaf = _certificate("127.0.0.1", theirs, ours).add_extension(address, False)
    pem = serialization.Encoding.PEM
    (folder / "authority.pem").write_bytes(root.sign(ours, hashes.SHA256()).public_bytes(pem))
    secret = theirs.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "server.pem").write_bytes(secret + leaf.sign(ours, hashes.SHA256()).public_bytes(pem))
    return folder


def _certificate(
    name: str, key: ec.EllipticCurvePrivateKey, issuer: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key()), False)
    )


@pytest.fixture
def encrypted(weed: Server, authority: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """SeaweedFS behind https."""
    set_keys(monkeypatch)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority / "server.pem")
    with FaultProxy(weed.port, context) as proxy:
        yield proxy


def test_a_body_is_not_signed_but_has_a_checksum(
    encrypted: FaultProxy, authority: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(authority / "authority.pem"))
    objects = bucket.objects(encrypted.endpoint)
    assert objects.create("root/1", DATA) is Outcome.CREATED
    headers = encrypted.log[-1].headers
    assert headers["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD"
    assert headers["x-amz-checksum-crc64nvme"]
    assert objects.get("root/1", limit=len(DATA)) == DATA
    encrypted.add("corrupt_up", method="PUT", after=1000)
    with pytest.raises(RemoteUnavailable):
        objects.create("root/2", DATA)
    assert bucket.contents() == {"root/1": DATA}


def test_a_certificate_that_nobody_vouches_for_is_refused_for_good(encrypted: FaultProxy, bucket: Bucket) -> None:
    with pytest.raises(RemoteDenied, match="certificate"):
        bucket.objects(encrypted.endpoint).create("root/1", DATA)
    assert encrypted.log == []


def test_the_general_variable_is_read_too(
    encrypted: FaultProxy, authority: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority / "authority.pem"))
    assert bucket.objects(encrypted.endpoint).create("root/1", DATA) is Outcome.CREATED


def test_a_file_of_certificates_that_cannot_be_read_is_named(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", "/no/such/file")
    with pytest.raises(UsageError, match="/no/such/file"):
        bucket.objects()
