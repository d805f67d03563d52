"""What a store knows of its remotes is changed: one is added, changed, or known no more."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from typing import Any

from casckpt.errors import RemoteExists, UsageError
from casckpt.format.entry import Entry, RefMove
from casckpt.odb.repository import Repository, writer_name
from casckpt.ops.connecting import access, probe_remote
from casckpt.ops.publishing import publish
from casckpt.ops.remotes import Remote, remote_of, remotes
from casckpt.ops.settings import store_layer
from casckpt.ops.settings_edit import edit_remote, edit_store
from casckpt.plan.remote_settings import REMOTE, check_remote, checked, parsed, path_of
from casckpt.plan.settings import Value
from casckpt.storage.addresses import parse
from casckpt.storage.base import Storage

FOLDER = "remotes"
"""Where a store keeps what it saw of its remotes; also what their tracking refs begin with."""


def add_remote(
    storage: Storage,
    name: str,
    url: str,
    options: Mapping[str, Any],
    *,
    probe: bool = True,
    again: bool = False,
    dry_run: bool = False,
) -> Remote:
    """Make a remote known under a name.

    Args:
        options: further keys with their values: see `REMOTE_KEYS`.
        probe: try it out before.
        again: it may be known already, if it is at that address.

    Raises:
        InvalidName: a remote cannot be called so.
        RemoteExists: one is.
        UsageError, UnknownSetting, InvalidSetting, SecretInUrl: an option or the address cannot be.
        RemoteUnfit, RemoteNotFound, RemoteDenied, RemoteUnavailable: it cannot be a remote, or cannot be reached.
        DamagedSettings, ReadOnlyStore, BusyError, StorageError: the settings file cannot be changed.
    """
    remote, known = checked_remote(name, url, options), remotes(storage)
    if name in known:
        if again and known[name].url == remote.url:
            return known[name]
        raise RemoteExists(remote=name, url=known[name].url)
    if probe:
        probe_remote(remote, dry_run=dry_run)
    if not dry_run:
        forget_seen(storage, name)  # another remote may have had the name
    edit_remote(storage, name, _checked(name, {"url": url, **options}), dry_run=dry_run)
    return remote


def checked_remote(name: str, url: str, options: Mapping[str, Any]) -> Remote:
    """A remote as it would be known; raises as `add_remote`."""
    remote = Remote.of(check_remote(name), _checked(name, {"url": url, **options}))
    access(remote)
    return remote


def set_remote(storage: Storage, name: str, key: str, value: Any, *, dry_run: bool = False) -> Remote:
    """Change one thing that is known of a remote; None for what holds if nothing is said.

    Raises:
        RemoteNotFound: there is no such remote.
        UsageError: a remote without an address is none.
        UnknownSetting, InvalidSetting, SecretInUrl, DamagedSettings, ReadOnlyStore, BusyError, StorageError: as of
            `add_remote`.
    """
    remote_of(storage, name)
    if key == "url" and value is None:
        raise UsageError(problem="a remote needs an address; casckpt remote remove takes it away")
    values = _checked(name, {key: value})
    above = f"{REMOTE}.{name}."
    known = store_layer(storage).values
    said = {one.removeprefix(above): known[one] for one in known if one.startswith(above) and one != above + key}
    remote = Remote.of(name, said | values)
    access(remote)
    edit_store(storage, above + key, values.get(key), dry_run=dry_run)
    return remote


def _checked(name: str, options: Mapping[str, Any]) -> dict[str, Value]:
    """Keys of a remote with their values; texts are read as on a command line, and None says nothing."""
    found: dict[str, Value] = {}
    for key, value in options.items():
        path_of(f"{name}.{key}")
        if value is not None:
            plain = parsed(key, value) if isinstance(value, str) else value
            found[key] = checked(key, plain, f"the remote {name}", f"{REMOTE}.{name}.{key}")
    if "url" in found:
        found["url"] = parse(str(found["url"])).url  # whoever reads it may be in another folder
    return found


def remove_remote(repository: Repository, name: str, *, dry_run: bool = False) -> tuple[Remote, dict[str, str]]:
    """Know a remote no more: (what it was, its tracking refs that went with it). What it holds stays there.

    Raises:
        RemoteNotFound: there is no such remote.
        DamagedSettings, ReadOnlyStore, BusyError, StorageError: the store cannot be changed.
    """
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
