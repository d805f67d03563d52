"""What may be said of a remote, and that no secret gets through."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casckpt.errors import InvalidName, InvalidSetting, SecretInUrl, UnknownSetting
from casckpt.plan.remote_settings import REMOTE_KEYS, check_remote, checked, has_secret, parsed, path_of, rate_of
from casckpt.plan.settings import ENVIRONMENT, STORE, Settings, environment_layer, parse_value
from casckpt.plan.settings_file import file_layer


@pytest.mark.parametrize("name", ["origin", "lab-2", "größe", "a_b"])
def test_what_a_remote_may_be_called(name: str) -> None:
    assert check_remote(name) == name
    assert path_of(f"{name}.cost.put") == (name, "cost.put")


@pytest.mark.parametrize("name", ["", "a.b", "a/b", "..", "-x", "last", "runs", "a b", "x\n", "x" * 201])
def test_what_it_may_not(name: str) -> None:
    with pytest.raises(InvalidName):
        check_remote(name)
    with pytest.raises(UnknownSetting):
        path_of(f"{name}.url")


SECRETS = [
    "s3://key:secret@bucket/prefix",
    "s3://key@bucket",
    "https://host/x?X-Amz-Signature=abc",
    "https://host/x?sig=abc&se=1",
    "https://host/x?access_token",
    "az://box/x?SharedKey=1",
    "https://host/x#token=abc",
    "s3:key:secret@bucket",
    "https://[broken",
]


@pytest.mark.parametrize("url", SECRETS)
def test_an_address_with_a_secret_is_refused_and_never_shown(url: str) -> None:
    for key in ("url", "endpoint"):
        with pytest.raises(SecretInUrl) as caught:
            checked(key, url, "-c", f"remote.lab.{key}")
        assert url not in str(caught.value)
        assert url not in str(caught.value.facts)
    layer = file_layer(STORE, "/s", f"[remote.lab]\nurl = '{url}'\nregion = 'eu'\n")
    assert dict(layer.values) == {"remote.lab.region": "eu"}
    assert [type(problem) for problem in layer.problems] == [SecretInUrl]
    with pytest.raises(SecretInUrl):
        Settings([layer]).refuse_mistakes("remote")


@pytest.mark.parametrize(
    "url",
    ["s3://bucket/prefix", "/srv/shared@home/x", "../x", "file:///srv/x", "https://host:9000/x?versioning=1", "C:/x"],
)
def test_an_address_without_one_is_not(url: str) -> None:
    assert not has_secret(url)
    assert checked("url", url, "-c", "remote.lab.url") == url


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("path_style", "yes", True),
        ("concurrency", "8", 8),
        ("cost.put", "0.005", 0.005),
        ("limit_rate", "20MiB", "20MiB"),
        ("timeout", "10min", "10min"),
        ("policy", "newest", "newest"),
        ("profile", "8", "8"),
    ],
)
def test_a_text_becomes_the_value_of_its_key(key: str, text: str, value: object) -> None:
    assert checked(key, parsed(key, text), "-c", key) == value
    assert parse_value(f"remote.lab.{key}", text, "-c") == value


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("url", ""),
        ("url", "a\x1bb"),
        ("url", "x" * 2001),
        ("url", 3),
        ("path_style", "maybe"),
        ("path_style", 1),
        ("concurrency", 0),
        ("concurrency", 65),
        ("concurrency", True),
        ("credentials", "mine"),
        ("limit_rate", "fast"),
        ("limit_rate", "0"),
        ("timeout", "0s"),
        ("timeout", "2h"),
        ("cost.get", -1),
        ("cost.get", float("nan")),
        ("cost.get", True),
        ("policy", "lease"),
    ],
)
def test_what_cannot_be_meant_names_key_place_and_what_it_may_be(key: str, value: object) -> None:
    with pytest.raises(InvalidSetting, match=f"{key}.*/s, line 2.*it must be"):
        checked(key, value, "/s, line 2", f"remote.lab.{key}")


@pytest.mark.parametrize(
    ("text", "rate"),
    [("1000000", 10**6), ("500KB", 500_000), ("20 MiB/s", 20 << 20), ("1GB", 10**9), ("1.5MB", None), ("", None)],
)
def test_rates(text: str, rate: int | None) -> None:
    assert rate_of(text) == rate


@given(st.sampled_from(sorted(REMOTE_KEYS)), st.text(max_size=40))
def test_any_text_is_a_value_or_an_error_of_ours(key: str, text: str) -> None:
    try:
        value = checked(key, parsed(key, text), "-c", key)
    except (InvalidSetting, SecretInUrl):
        return
    assert checked(key, value, "-c", key) == value


def test_the_environment_speaks_of_remotes_that_are_known() -> None:
    environ = {"CASCKPT_REMOTE_MY_LAB_LIMIT_RATE": "1MB", "CASCKPT_REMOTE_MY_LAB_URL": "s3://k:s@b"}
    layer = environment_layer(environ, ["my-lab", "nas"])
    assert (dict(layer.values), layer.origin) == ({"remote.my-lab.limit_rate": "1MB"}, ENVIRONMENT)
    assert [type(problem) for problem in layer.problems] == [SecretInUrl]
    assert not environment_layer(environ, ["nas"]).values
    found = Settings([layer]).settled("remote.my-lab.limit_rate")
    assert found.place == "CASCKPT_REMOTE_MY_LAB_LIMIT_RATE"
