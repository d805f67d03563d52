"""remotes: which remotes a store knows, what holds for each, and how one is opened.

What is known of a remote stands in the settings file of the store, in `[remote.NAME]`; the environment and `-c` may
say something else for one call. What was seen of it lies in the folder `remotes/NAME/`, and only saves requests.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from casckpt.errors import RemoteExists, RemoteNotFound, UsageError
from casckpt.format.entry import Entry, RefMove
from casckpt.odb.repository import Repository, writer_name
from casckpt.ops.lookup import close_names, did_you_mean
from casckpt.ops.publishing import publish
from casckpt.ops.settings import store_layer
from casckpt.plan.names import is_text
from casckpt.plan.remote_settings import REMOTE, REMOTE_KEYS, check_remote, checked, parsed, path_of, rate_of
from casckpt.plan.settings import CALL, Layer, Settings, Value
from casckpt.storage.base import Storage
from casckpt.units import SECOND, parse_duration

FOLDER = "remotes"
"""Where a store keeps what it saw of its remotes; also what their tracking refs begin with."""
USUAL = "origin"


@dataclass(frozen=True, slots=True)
class Remote:
    """A remote of a store, with all that holds for it. No field is a secret.

    Args:
        limit_rate: bytes a second; None for no limit. timeout_s: of one request, in seconds; None for the usual.
        cost: dollars for 1000 uploads (`put`) and downloads (`get`), a GB a month (`storage`) and a GB downloaded
            (`egress`), as far as they are known.
    """

    name: str
    url: str
    profile: str | None = None
    region: str | None = None
    endpoint: str | None = None
    path_style: bool = False
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
        prices = [key for key in REMOTE_KEYS if key in said and key.startswith("cost.")]
        cost = tuple((key.removeprefix("cost."), float(said[key])) for key in prices)
        return cls(name, cost=cost, **plain)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {key: getattr(self, key) for key in self.__slots__} | {"cost": dict(self.cost)}


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


def add_remote(storage: Storage, name: str, url: str, options: Mapping[str, Any], *, dry_run: bool = False) -> Remote:
    """Make a remote known under a name.

    Args:
        options: further keys with their values: see `REMOTE_KEYS`.

    Raises:
        InvalidName: a remote cannot be called so.
        RemoteExists: one is.
        UnknownSetting, InvalidSetting, SecretInUrl: an option or the address cannot be.
        DamagedSettings, ReadOnlyStore, BusyError, StorageError: the settings file cannot be changed.
    """
    from casckpt.ops.settings_edit import edit_remote

    known = remotes(storage)
    if check_remote(name) in known:
        raise RemoteExists(remote=name, url=known[name].url)
    values = _checked(name, {"url": url, **options})
    remote = Remote.of(name, values)
    if not dry_run:
        forget_seen(storage, name)  # another remote may have had the name
    edit_remote(storage, name, values, dry_run=dry_run)
    return remote


def set_remote(storage: Storage, name: str, key: str, value: Any, *, dry_run: bool = False) -> Remote:
    """Change one thing that is known of a remote; None for what holds if nothing is said.

    Raises:
        RemoteNotFound: there is no such remote.
        UsageError: a remote without an address is none.
        UnknownSetting, InvalidSetting, SecretInUrl, DamagedSettings, ReadOnlyStore, BusyError, StorageError: as of
            `add_remote`.
    """
    from casckpt.ops.settings_edit import edit_store

    remote_of(storage, name)
    if key == "url" and value is None:
        raise UsageError(problem="a remote needs an address; casckpt remote remove takes it away")
    values = _checked(name, {key: value})
    edit_store(storage, f"{REMOTE}.{name}.{key}", values.get(key), dry_run=dry_run)
    if not dry_run:
        return remote_of(storage, name)
    said = dict(store_layer(storage).values)
    said.pop(f"{REMOTE}.{name}.{key}", None)
    above = f"{REMOTE}.{name}."
    return Remote.of(name, {one.removeprefix(above): said[one] for one in said if one.startswith(above)} | values)


def _checked(name: str, options: Mapping[str, Any]) -> dict[str, Value]:
    """Keys of a remote with their values; texts are read as on a command line, and None says nothing."""
    found: dict[str, Value] = {}
    for key, value in options.items():
        path_of(f"{name}.{key}")
        if value is not None:
            plain = parsed(key, value) if isinstance(value, str) else value
            found[key] = checked(key, plain, f"the remote {name}", f"{REMOTE}.{name}.{key}")
    return found


def remove_remote(repository: Repository, name: str, *, dry_run: bool = False) -> tuple[Remote, dict[str, str]]:
    """Know a remote no more: (what it was, its tracking refs that went with it). What it holds stays there.

    Raises:
        RemoteNotFound: there is no such remote.
        DamagedSettings, ReadOnlyStore, BusyError, StorageError: the store cannot be changed.
    """
    from casckpt.ops.settings_edit import edit_remote

    storage, database = repository.storage, repository.database
    remote = remote_of(storage, name)
    database.refresh()

    def settle() -> Entry:
        refs = tuple(RefMove(ref, old, None) for ref, old in sorted(database.refs(f"{FOLDER}/{name}/").items()))
        return Entry("remote", time.time_ns(), refs=refs, by=writer_name(), note=f"remove {name}")

    tracked = {ref: commit.hex() for ref, commit in sorted(database.refs(f"{FOLDER}/{name}/").items())}
    # The file comes last: as long as it knows the remote, the same call again goes on.
    if tracked:
        publish(repository, settle, dry_run=dry_run)
    if not dry_run:
        forget_seen(storage, name)
    edit_remote(storage, name, None, dry_run=dry_run)
    return remote, tracked


def forget_seen(storage: Storage, name: str) -> None:
    """Remove what is kept of a remote, so that the next look at it is the first."""
    for folder in (f"{FOLDER}/{name}/index", f"{FOLDER}/{name}"):
        for file in storage.list(folder):
            if file != "index":
                with contextlib.suppress(FileNotFoundError):
                    storage.unlink(f"{folder}/{file}")
