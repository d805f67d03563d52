"""What a store knows of each remote: the keys of `[remote.NAME]`, and which values they may have.

No value is a secret. An address that holds one is refused wherever it is said, before it is written or shown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from casckpt.errors import InvalidName, InvalidRetention, InvalidSetting, SecretInUrl, UnknownSetting
from casckpt.plan.names import check_name, is_text
from casckpt.units import HOUR, SECOND, GiB, KiB, MiB, parse_duration, parse_int, parse_number

REMOTE = "remote"
"""The table in the file of a store that holds a table for each remote."""
CONCURRENCY_MAX = 64
PRICE_MAX = 1e6
_RATE = re.compile(r"(\d{1,9}) *(|B|KB|MB|GB|KiB|MiB|GiB)(?:/s)?", re.ASCII)
_RATE_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": KiB, "MiB": MiB, "GiB": GiB}
_SECRET_PARAMETERS = ("signature", "token", "secret", "password", "credential", "key", "sig", "auth")
_YES, _NO = ("true", "1", "yes", "on"), ("false", "0", "no", "off")


class RemoteKey(NamedTuple):
    """One key: what kind of value it takes, what holds if nothing is said, and what it is for."""

    kind: str
    help: str
    default: str | int | float | bool | None = None
    choices: tuple[str, ...] = ()

    @property
    def expected(self) -> str:
        """What it may be, in words."""
        return {
            "url": "an address",
            "words": "a text",
            "flag": "true or false",
            "choice": "one of " + ", ".join(self.choices),
            "count": f"a whole number from 1 to {CONCURRENCY_MAX}",
            "rate": "bytes a second, as 500KB or 20MiB",
            "duration": "a length of time from 1s to 1h",
            "price": f"a number of dollars from 0 to {PRICE_MAX:g}",
            "retention": "a retention policy, as {keep_last = 3}",
        }[self.kind]


REMOTE_KEYS = {
    "url": RemoteKey("url", "Where it is."),
    "profile": RemoteKey("words", "The profile that has the credentials; they are never kept here."),
    "region": RemoteKey("words", "The region of the service."),
    "endpoint": RemoteKey("url", "The address of a service that speaks as S3 does."),
    "path_style": RemoteKey("flag", "Whether the bucket stands in the path of addresses, else in the host.", True),
    "allow_http": RemoteKey("flag", "Whether what is not encrypted on its way is allowed.", False),
    "credentials": RemoteKey(
        "choice", "Where credentials come from.", "default", choices=("default", "instance", "none")
    ),
    "storage_class": RemoteKey("words", "The storage class of new objects."),
    "limit_rate": RemoteKey("rate", "Most bytes a second, up and down each."),
    "concurrency": RemoteKey("count", "How many transfers go on at once.", 4),
    "checksum": RemoteKey(
        "choice", "What the service checks uploads by.", "auto", choices=("auto", "sha256", "crc64nvme", "none")
    ),
    "timeout": RemoteKey("duration", "How long an answer may stand still."),
    "single_writer": RemoteKey("flag", "Whether only one machine pushes, where one key can be written twice.", False),
    "mirror": RemoteKey("flag", "Whether commits are pushed as a training makes them.", False),
    "policy": RemoteKey("choice", "What a push does where both sides went on.", "ff", choices=("ff", "newest")),
    "retention": RemoteKey("retention", "What casckpt remote gc keeps of the commits there."),
    "cost.put": RemoteKey("price", "Dollars for 1000 uploads or listings."),
    "cost.get": RemoteKey("price", "Dollars for 1000 downloads."),
    "cost.storage": RemoteKey("price", "Dollars for a GB stored for a month."),
    "cost.egress": RemoteKey("price", "Dollars for a GB downloaded."),
}
"""All keys, in the order in which they are shown."""


def check_remote(name: str) -> str:
    """The name itself, if a remote may be called so.

    Raises:
        InvalidName: as of runs; and a dot, which settings give a meaning to.
    """
    if "." in check_name("remote", name):
        raise InvalidName(kind="remote", name=name, problem="the character '.' is not allowed")
    return name


def path_of(key: str) -> tuple[str, str]:
    """(remote, key) of what follows `remote.` in the name of a setting.

    Raises:
        UnknownSetting: there is no such key, or no remote can be called so.
    """
    name, _, rest = key.partition(".")
    try:
        check_remote(name)
    except InvalidName as error:
        raise UnknownSetting(key=f"{REMOTE}.{key}"[:80], problem=error.reason) from None
    if rest not in REMOTE_KEYS:
        problem = f"a remote has the keys {', '.join(REMOTE_KEYS)}"
        raise UnknownSetting(key=f"{REMOTE}.{key}"[:80], problem=problem)
    return name, rest


def parsed(key: str, text: str) -> str | int | float | bool | dict[str, Any]:
    """The value that a text says: numbers, flags and tables as such, everything else as it stands."""
    kind = REMOTE_KEYS[key].kind
    if kind == "retention":
        from casckpt.plan.policy_table import parsed as parsed_policy

        table = parsed_policy((key,), text)
        return dict(table) if isinstance(table, Mapping) else text
    if kind == "flag" and text.lower() in (*_YES, *_NO):
        return text.lower() in _YES
    number = {"count": parse_int, "price": parse_number}.get(kind, lambda _: None)(text)
    return text if number is None else number


def checked(key: str, value: object, place: str, shown_key: str) -> str | int | float | bool | dict[str, Any]:
    """The value itself, if the key may have it.

    Args:
        shown_key: how an error names the key.

    Raises:
        SecretInUrl: an address with a secret in it, which no message shows.
        InvalidSetting: any other that cannot be.
    """
    known = REMOTE_KEYS[key]
    if known.kind == "retention":
        return _policy(value, place, shown_key)
    if known.kind == "url" and is_text(value) and has_secret(str(value)):
        raise SecretInUrl(key=shown_key, place=place)
    if not _is_right(known, value):
        shown = value if isinstance(value, bool | int) and abs(value) < 1 << 63 else str(value)[:80]
        raise InvalidSetting(key=shown_key, value=shown, place=place, problem=f"it must be {known.expected}")
    assert isinstance(value, str | int | float)
    return value


def _policy(value: object, place: str, shown_key: str) -> dict[str, Any]:
    from casckpt.plan.policy import Retention  # few remotes have one

    try:
        return Retention.from_dict(value if isinstance(value, Mapping) else {}).to_dict()
    except InvalidRetention as error:
        key = f"{shown_key}.{error.facts['key']}" if isinstance(value, Mapping) else shown_key
        shown = str(value)[:80]
        raise InvalidSetting(key=key, value=shown, place=place, problem=error.facts["problem"]) from None


def _is_right(known: RemoteKey, value: object) -> bool:
    if known.kind == "flag":
        return type(value) is bool
    if known.kind == "count":
        return type(value) is int and 1 <= value <= CONCURRENCY_MAX
    if known.kind == "price":
        return type(value) in (int, float) and 0 <= value <= PRICE_MAX  # type: ignore[operator]
    if not is_text(value) or not str(value).isprintable() or not 1 <= len(str(value)) <= 2000:
        return False
    if known.kind == "rate":
        return rate_of(str(value)) is not None
    if known.kind == "duration":
        return SECOND <= (parse_duration(str(value)) or 0) <= HOUR
    return known.kind != "choice" or value in known.choices


def rate_of(text: str) -> int | None:
    """Bytes a second from a text as `20MiB`, `500 KB/s` or `1000000`; None if it is none, or nothing."""
    found = _RATE.fullmatch(text.strip(" "))
    return None if found is None else int(found[1]) * _RATE_UNITS[found[2]] or None


def has_secret(url: str) -> bool:
    """Whether an address holds a password or anything else that lets in whoever has it."""
    try:
        parts = urlsplit(url)
        names = [name.lower() for name, _ in parse_qsl(f"{parts.query}&{parts.fragment}", keep_blank_values=True)]
    except ValueError:
        return True  # what cannot be taken apart is not shown to anybody
    # `scheme:secret@host` without slashes has no user by the rules, and is one all the same.
    has_user = "@" in parts.netloc or (bool(parts.scheme) and not parts.netloc and "@" in parts.path.partition("/")[0])
    return has_user or any(word in name for name in names for word in _SECRET_PARAMETERS)
