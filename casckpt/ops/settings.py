"""Settings files: `config.toml` of a store and of a user, read as layers; what a store says for its own commits."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from casckpt.errors import CasckptError, DamagedSettings
from casckpt.plan.settings import CALL, ENVIRONMENT, MAX_FILE_BYTES, STORE, USER, Layer, Settings, Value, unreadable
from casckpt.storage.base import Storage, read_exact

if TYPE_CHECKING:
    from casckpt.odb.coder import Compress

FILE = "config.toml"
_OF_STORE = ("run", "compress", "threads", "upkeep", "health_gate", "fetch_on_demand")


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """What holds for the commits of an open store where a call does not say otherwise.

    Args:
        run: the current run: what commits belong to and `@` means; None for `main`, and for the run committed to last.
        compress: as of `Store.commit`.
        threads: as of `casckpt.open`.
        upkeep: whether policies are applied and space is freed after commits, within a twentieth of the time.
        health_gate: whether `best` and `recovery` pass over commits whose state holds NaN or infinities.
        fetch_on_demand: whether remotes are asked for what is read of a commit and is not here.
        remotes: what is said of remotes in place of the settings file of the store, as `remote.origin.profile`.
    """

    run: str | None = None
    compress: Compress = "auto"
    threads: int | None = None
    upkeep: bool = True
    health_gate: bool = True
    fetch_on_demand: bool = True
    remotes: Mapping[str, Value] = field(default_factory=dict, hash=False)

    @classmethod
    def of(cls, settings: Settings, *, strict: bool = True) -> StoreSettings:
        """Those among all settings.

        Raises:
            InvalidSetting, DamagedSettings: with `strict`, one of them cannot be read.
        """
        found = {key: settings.need(key) if strict else settings.get(key) for key in _OF_STORE}
        keys = settings.said_of("remote", ENVIRONMENT, CALL)
        return cls(**cast(Any, found), remotes={key: settings.get(key) for key in keys})

    def run_of(self, run: str | None) -> str:
        """The run of a commit, which a call may name."""
        return run if run is not None else self.run or "main"

    def compress_of(self, compress: Compress | None) -> Compress:
        """How a commit encodes new data, which a call may say."""
        return self.compress if compress is None else compress

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {key: getattr(self, key) for key in _OF_STORE}


def store_settings(storage: Storage) -> StoreSettings:
    """What the settings file of a store says.

    Raises:
        InvalidSetting, DamagedSettings: it cannot be read.
    """
    return StoreSettings.of(Settings([store_layer(storage)]))


def store_layer(storage: Storage) -> Layer:
    """The settings file of a store; empty if there is none."""
    path = FILE if storage.path is None else os.path.join(storage.path, FILE)
    try:
        file = storage.open_read(FILE)
    except FileNotFoundError:
        return Layer(STORE, path, {})
    except CasckptError as error:
        return unreadable(STORE, path, error.reason)
    try:
        return _layer(STORE, path, read_exact(file, 0, MAX_FILE_BYTES + 1))
    except CasckptError as error:
        return unreadable(STORE, path, error.reason)
    finally:
        file.close()


def user_layer(path: str) -> Layer:
    """The settings file of a user; empty if there is none."""
    try:
        with open(path, "rb") as file:
            return _layer(USER, path, file.read(MAX_FILE_BYTES + 1))
    except (FileNotFoundError, NotADirectoryError):
        return Layer(USER, path, {})
    except OSError as error:
        return unreadable(USER, path, os.strerror(error.errno or 0))


def _layer(origin: str, path: str, data: bytes) -> Layer:
    from casckpt.plan.settings_file import file_layer  # most calls have no file

    try:
        return file_layer(origin, path, decoded(path, data))
    except DamagedSettings as error:
        return Layer(origin, path, {}, (error,))


def decoded(path: str, data: bytes) -> str:
    """The text of a settings file.

    Raises:
        DamagedSettings: it is too long, or no UTF-8.
    """
    if len(data) > MAX_FILE_BYTES:
        raise DamagedSettings(file=path, problem=f"it is longer than {MAX_FILE_BYTES} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise DamagedSettings(file=path, problem=f"byte {error.start} is no UTF-8") from error
