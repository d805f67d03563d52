"""Which text is the address of a remote, and that none with a secret is."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casckpt.errors import SecretInUrl, UsageError
from casckpt.storage.addresses import Access, Address, parse, redacted


@pytest.mark.parametrize(
    ("text", "scheme", "host", "path", "url"),
    [
        ("s3://bucket", "s3", "bucket", "", "s3://bucket"),
        ("s3://bucket/", "s3", "bucket", "", "s3://bucket"),
        ("S3://my.bucket/a/b%20c/", "s3", "my.bucket", "a/b c", "s3://my.bucket/a/b c"),
        ("s3a://bucket//a//b", "s3", "bucket", "a/b", "s3://bucket/a/b"),
        ("gs://bucket/runs", "gs", "bucket", "runs", "gs://bucket/runs"),
        ("gcs://bucket", "gs", "bucket", "", "gs://bucket"),
        ("az://container/prefix", "az", "container", "prefix", "az://container/prefix"),
        ("azure://container", "az", "container", "", "az://container"),
        ("https://host:8443/a/b/", "https", "host:8443", "a/b", "https://host:8443/a/b"),
        ("http://host", "http", "host", "", "http://host"),
        ("file:///srv/share%20one", "file", "", "/srv/share one", "/srv/share one"),
        ("file://localhost/srv", "file", "", "/srv", "/srv"),
        ("/srv/../srv/a", "file", "", "/srv/a", "/srv/a"),
        ("memory:", "memory", "", "", "memory:"),
        ("memory:two", "memory", "two", "", "memory:two"),
        ("memory://two", "memory", "two", "", "memory:two"),
    ],
)
def test_an_address_is_read(text: str, scheme: str, host: str, path: str, url: str) -> None:
    assert parse(text) == Address(scheme, host, path, url)
    assert parse(parse(text).url) == parse(text)


def test_a_path_is_that_of_the_working_folder_or_of_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    assert parse("share/a").path == f"{tmp_path}/share/a"
    assert parse("~/share").path == "/home/me/share"


@pytest.mark.parametrize(
    "text",
    [
        "s3://KEY:SECRET@bucket/prefix",
        "s3://KEY@bucket",
        "https://user:password@host/path",
        "https://host/path?X-Amz-Signature=0123",
        "https://account.blob.core.windows.net/c?sv=1&sig=abc",
        "az://container/prefix?sig=abc",
        "https://host/path#token",
    ],
)
def test_an_address_with_a_secret_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(SecretInUrl) as refused:
        parse(text)
    for secret in ("KEY", "SECRET", "password", "0123", "abc"):
        assert secret not in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "ftp://host/a",
            "s3:",
            "s3://",
            "s3:///a",
            "s3://b",
            "s3://bad_/../x",
            "s3://bucket/../other",
            "s3://bucket/.",
        ),
        *("s3://bucket/a\nb", "s3://bucket/a%0Ab", "s3://bucket/a%00", "https:///a", "file://host/a", "file:a"),
        *("s3://bucket/\u202ea", "s3://bücket", "c:\\share"),
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse(text)


@given(st.text())
def test_any_text_is_an_address_or_refused(text: str) -> None:
    try:
        address = parse(text)
    except UsageError:
        return
    assert address.url.isprintable()


def test_an_endpoint_with_a_secret_is_refused() -> None:
    for endpoint in ("https://a:b@host", "https://host?token=1"):
        with pytest.raises(SecretInUrl):
            Access(endpoint=endpoint)


def test_what_access_cannot_be_is_refused() -> None:
    for wrong in ({"endpoint": "host:9000"}, {"credentials": "all"}, {"checksum": "md5"}, {"timeout_s": 0.1}):
        with pytest.raises(UsageError):
            Access(**wrong)  # type: ignore[arg-type]
    assert Access(endpoint="http://host").is_plain
    assert not Access(endpoint="https://host").is_plain


@pytest.mark.parametrize(
    "said",
    [
        "GET https://acc.blob.core.windows.net/c/k?sv=2021&sig=SECRET123%3D failed",
        "https://user:SECRET123@host/path",
        "Authorization: AWS4-HMAC-SHA256 Credential=SECRET123/2026/x, Signature=SECRET123",
        "The key AKIASECRET123456 is not known, token=SECRET123",
        "X-Amz-Security-Token: SECRET123",
        "bearer SECRET123",
        "password=SECRET123&x=1",
    ],
)
def test_what_a_service_says_is_shown_without_secrets(said: str) -> None:
    assert "SECRET123" not in redacted(said)


def test_what_a_service_says_is_one_short_harmless_line() -> None:
    assert redacted("a\r\n\tb \x1b[31mred\u202e") == "a b [31mred"
    assert len(redacted("x" * 10_000)) == 300
    assert redacted("403 AccessDenied Access Denied.") == "403 AccessDenied Access Denied."
