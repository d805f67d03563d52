"""The sweeps of errands and of shared folders can fail: each rule that is broken on purpose here is caught by one."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from casckpt.format.remote import RemoteRoot
from casckpt.odb.repository import Repository
from casckpt.odb.session import Session
from casckpt.ops import aside, push
from casckpt.remote import view as views
from casckpt.remote.folder import RemoteFolder
from casckpt.remote.roots import empty_root
from casckpt.remote.view import RemoteView
from casckpt.storage import local_objects
from casckpt.storage.base import Storage
from casckpt.storage.local_objects import FolderObjects
from tests.crash.errands import Course, bundle_power_failures, errands, power_failures
from tests.crash.faults import FaultyStorage, on
from tests.crash.folders import ram_folder
from tests.crash.recorder import RecordingStorage
from tests.crash.seeded import Bug, assert_caught
from tests.crash.test_shared_folder import SCENES, fetch_of_another, flush_that_fails, losses

Patch = pytest.MonkeyPatch
Wrap = Callable[[RecordingStorage], Storage]
Sweep = Callable[[], list[str]]


# --- the sweeps -------------------------------------------------------------------------------------------------------


def folder(name: str, meanwhile: Any = None) -> Sweep:
    return lambda: losses(*SCENES[name], meanwhile, enough=1)[1]


def store(name: str, wrap: Wrap = lambda recording: recording) -> Sweep:
    def sweep() -> list[str]:
        with ram_folder() as path, errands(path) as found:
            return power_failures(Course.of(found[name], wrap), enough=1)[1]

    return sweep


def bundling() -> list[str]:
    with ram_folder() as path, errands(path) as found:
        return bundle_power_failures(found["push"].files, path, old=None)[1]


def skipped(call: str, prefix: str) -> Wrap:
    """A program that leaves one kind of call out."""
    return lambda recording: FaultyStorage(recording, on(call, "skip", prefix=prefix))


# --- the bugs ---------------------------------------------------------------------------------------------------------


def nothing(patch: Patch) -> None:
    """The disk does it."""


def objects_are_not_flushed(patch: Patch) -> None:
    def write(path: str, data: Any) -> None:
        with open(path, "xb") as file:
            file.write(data)

    patch.setattr(local_objects, "_write", write)


def names_are_not_flushed(patch: Patch) -> None:
    patch.setattr(FolderObjects, "_flushed", lambda self, path, outcome: outcome)


def folders_are_not_flushed(patch: Patch) -> None:
    def make_folder(self: FolderObjects, path: str) -> None:
        os.makedirs(path, exist_ok=True)

    patch.setattr(FolderObjects, "_make_folder", make_folder)


def names_are_told_early(patch: Patch) -> None:
    patch.setattr(FolderObjects, "_flush", lambda self, folder: None)


def seen_is_not_flushed(patch: Patch) -> None:
    inner = RemoteFolder.write

    def write(self: RemoteFolder, name: str, data: bytes, *, durable: bool = False) -> None:
        inner(self, name, data, durable=durable and name != "seen")

    patch.setattr(RemoteFolder, "write", write)


def seen_is_written_late(patch: Patch) -> None:
    """After the frame of what was fetched."""
    write, publish = RemoteFolder.write, Session.publish
    late: list[Callable[[], None]] = []

    def later(self: RemoteFolder, name: str, data: bytes, *, durable: bool = False) -> None:
        if name == "seen":
            late.append(lambda: write(self, name, data, durable=durable))
        else:
            write(self, name, data, durable=durable)

    def published(self: Session, settle: Any) -> int:
        number = publish(self, settle)
        while late:
            late.pop()()
        return number

    patch.setattr(RemoteFolder, "write", later)
    patch.setattr(Session, "publish", published)


def tracking_refs_go_first(patch: Patch) -> None:
    """A push moves them before the root that they tell of is there."""
    inner = push.append_root

    def append_root(view: RemoteView, change: Any, push_id: bytes, **words: Any) -> RemoteRoot:
        made = change(view.root or empty_root(push_id))
        push._track(Repository(view.folder._storage), "origin", made)
        return inner(view, lambda root: made, push_id, **words)

    patch.setattr(push, "append_root", append_root)


def bundles_are_not_flushed(patch: Patch) -> None:
    patch.setattr(aside, "os", SimpleNamespace(dup=os.dup, fsync=lambda fd: None))


def kept_segments_are_believed(patch: Patch) -> None:
    patch.setattr(views, "_is", lambda one, data: True)


def kept_roots_are_believed(patch: Patch) -> None:
    patch.setattr(views, "_kept", lambda folder, seen: folder.read("root", 1 << 20))


BUGS: dict[str, Bug] = {
    "objects of a folder are not flushed": (objects_are_not_flushed, folder("first push")),
    "names of a folder are not flushed": (names_are_not_flushed, folder("first push")),
    "folders of a folder are not flushed": (folders_are_not_flushed, folder("first push")),
    "a reader is told of names before they last": (
        names_are_told_early,
        folder("next push", fetch_of_another),
    ),
    "a pusher is told of names before they last": (
        names_are_told_early,
        folder("next push", flush_that_fails),
    ),
    "seen is not flushed": (seen_is_not_flushed, store("pull")),
    "seen is written after it was acted on": (seen_is_written_late, store("pull")),
    "tracking refs move before the root is there": (tracking_refs_go_first, store("first push")),
    "tracking refs move before the next root is there": (tracking_refs_go_first, store("push")),
    "what was fetched is named before it is flushed": (nothing, store("pull", skipped("sync", "tmp/pack"))),
    "the names of what was fetched are not flushed": (nothing, store("pull", skipped("sync_dir", "packs"))),
    "the frame of what was fetched is not flushed": (nothing, store("pull", skipped("sync", "journal/"))),
    "a bundle is not flushed": (bundles_are_not_flushed, bundling),
    "kept segments are believed": (kept_segments_are_believed, store("pull")),
    "kept roots are believed": (kept_roots_are_believed, store("pull")),
}


@pytest.mark.parametrize("name", BUGS)
def test_a_seeded_bug_is_caught(monkeypatch: Patch, name: str) -> None:
    """Without the bug the sweeps are silent, in the tests that are theirs."""
    assert_caught(name, BUGS[name], monkeypatch)
