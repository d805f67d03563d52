"""remotes: which remotes a store knows, and what holds for each.

What is known of a remote stands in the settings file of the store, in `[remote.NAME]`; the environment and `-c` may
say something else for one call. What was seen of it lies in the folder `remotes/NAME/`, and only saves requests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from casckpt.errors import RemoteNotFound, UsageError
from casckpt.ops.lookup import close_names, did_you_mean
from casckpt.ops.settings import store_layer
from casckpt.plan.names import is_text
from casckpt.plan.policy import Retention
from casckpt.plan.remote_settings import REMOTE, REMOTE_KEYS, rate_of
from casckpt.plan.settings import CALL, Layer, Settings, Value
from casckpt.storage.base import Storage
from casckpt.units import SECOND, parse_duration

USUAL = "origin"


@dataclass(frozen=True, slots=True)
class Remote:
    """A remote of a store, with all that holds for it. No field is a secret.

    Args:
        limit_rate: bytes a second; None for no limit.
        timeout_s: how long an answer may stand still, in seconds; None for the usual.
        retention: what a collection keeps of the commits there; None for all.
        cost: dollars for 1000 uploads (`put`) and downloads (`get`), a GB a month (`storage`) and a GB downloaded
            (`egress`), as far as they are known.
    """

    name: str
    url: str
    profile: str | None = None
    region: str | None = None
    endpoint: str | None = None
    path_style: bool = True
    allow_http: bool = False
    credentials: str = "default"
    storage_class: str | None = None
    limit_rate: int | None = None
    concurrency: int = 4
    checksum: str = "auto"
    timeout_s: float | None = None
    single_writer: bool = False
    mirror: bool = False
    policy: str = "ff"
    retention: Retention | None = None
    cost: tuple[tuple[str, float], ...] = ()

    @classmethod
    def of(cls, name: str, said: Mapping[str, Any]) -> Remote:
        """A remote from the keys that are said of it, each known to be right.

        Raises:
            RemoteNotFound: its address is not among them.
        """
        if "url" not in said:
            raise RemoteNotFound(remote=repr(name), problem=f"{REMOTE}.{name}.url is not set")
        plain = {key: value for key, value in said.items() if not key.startswith("cost.")}
        if "limit_rate" in said:
            plain["limit_rate"] = rate_of(str(said["limit_rate"]))
        if "timeout" in said:
            plain["timeout_s"] = (parse_duration(str(plain.pop("timeout"))) or 0) / SECOND
        if "retention" in said:
            plain["retention"] = Retention.from_dict(said["retention"])
        prices = [key for key in REMOTE_KEYS if key in said and key.startswith("cost.")]
        cost = tuple((key.removeprefix("cost."), float(said[key])) for key in prices)
        return cls(name, cost=cost, **plain)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        plain = {key: getattr(self, key) for key in self.__slots__}
        return plain | {
            "retention": None if self.retention is None else self.retention.to_dict(),
            "cost": dict(self.cost),
        }


def remotes(storage: Storage, said: Mapping[str, Value] | None = None) -> dict[str, Remote]:
    """The remotes of a store by name, in the order of its settings file.

    Args:
        said: settings of remotes from stronger places than that file, as `remote.origin.profile`.

    Raises:
        UnknownSetting, InvalidSetting, SecretInUrl, DamagedSettings: something that is said of remotes cannot be read.
    """
    settings = Settings([store_layer(storage), Layer(CALL, "", said or {})])
    settings.refuse_mistakes(REMOTE)
    found: dict[str, dict[str, Value]] = {}
    for key in settings.said_of(REMOTE):
        _, name, part = key.split(".", 2)
        found.setdefault(name, {})[part] = settings.get(key)
    return {name: Remote.of(name, values) for name, values in found.items() if "url" in values}


def remote_of(storage: Storage, name: str | None, said: Mapping[str, Value] | None = None) -> Remote:
    """The remote with a name; without one `origin`, or the only one there is.

    Raises:
        RemoteNotFound: there is none of that name.
        UsageError: none is named, and which is meant is not clear.
        UnknownSetting, InvalidSetting, SecretInUrl, DamagedSettings: as of `remotes`.
    """
    known = remotes(storage, said)
    if name is None:
        if USUAL not in known and len(known) > 1:
            raise UsageError(problem=f"say which remote: {', '.join(known)}")
        name = USUAL if USUAL in known or not known else next(iter(known))
    if name not in known:
        near = did_you_mean(close_names(name, list(known))) if is_text(name) else ""
        problem = near or (f"there are {', '.join(known)}" if known else "this store has no remote yet")
        raise RemoteNotFound(remote=repr(name) if is_text(name) else ascii(name), problem=problem)
    return known[name]
