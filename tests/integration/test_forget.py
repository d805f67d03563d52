"""forget: no byte of a secret is left anywhere in the folder of a store, and everything else is whole."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import casckpt
from casckpt.errors import BusyError, ForgetUnfinished
from casckpt.odb import journal, locks
from casckpt.odb.journal import file_name
from casckpt.odb.repository import Repository
from casckpt.ops import purge as purging
from casckpt.storage.local import LocalStorage

SECRET = "hunter2-Xq7"
TEXT = SECRET.encode()


def noise(seed: int, size: int = 40_000) -> Any:
    return np.random.default_rng(seed).standard_normal(size, np.float32)


def holders(folder: Path) -> list[str]:
    """The files that hold the secret: in a name, in their bytes, or in what their objects decode to."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    found = [str(path) for path in folder.rglob("*") if SECRET in path.name]
    found += [str(path) for path in files if TEXT in path.read_bytes()]
    repository = Repository(LocalStorage(str(folder)))
    packs = repository.database.packs
    for path in files:
        if path.suffix == ".pack":
            name = f"packs/{path.name}"
            found += [name for one in packs.identify(name)[1].records if TEXT in bytes(packs.read_record(name, one))]
    for placed, entry in repository.database.history():
        name = file_name(placed.file)
        rows = (one._replace(offset=one.offset + placed.payload_offset) for one, _ in entry.objects)
        found += [name for one in rows if TEXT in bytes(packs.read_record(name, one))]
    repository.database.release()
    return found


def training(store: casckpt.Store, run: str = "gpt", steps: int = 4, start: int = 0) -> dict[str, Any]:
    """Commits with a pack of their own each, and a large tensor that never changes; what they hold, by id."""
    shared = noise(999, 80_000)
    states = {}
    for step in range(start, start + steps):
        state = {"model": {"w": noise(step), "shared": shared}, "words": ["a", step]}
        states[store.commit(state, run=run, step=step, metrics={"loss": 1 / (step + 1)}, best="loss:min").id] = state
    return states


def assert_whole(store: casckpt.Store, states: dict[str, Any]) -> None:
    assert store.fsck("full").ok
    for identity, state in states.items():
        found = store.checkout(identity)
        assert np.array_equal(found["model"]["w"], state["model"]["w"])
        assert np.array_equal(found["model"]["shared"], state["model"]["shared"])
        assert found["words"] == state["words"]


def in_a_message(store: casckpt.Store) -> None:
    store.commit({"w": noise(50)}, run="gpt", message=f"with {SECRET}")


def in_a_metric(store: casckpt.Store) -> None:
    store.commit({"w": noise(50)}, run="gpt", metrics={SECRET: 1.0})


def in_a_config(store: casckpt.Store) -> None:
    store.commit({"w": noise(50)}, run="gpt", config={"password": SECRET}, environment={SECRET: "x"})


def in_a_large_config(store: casckpt.Store) -> None:
    store.commit({"w": noise(50)}, run="gpt", config={"lines": [SECRET, *map(str, range(30_000))]})


def in_an_inline_value(store: casckpt.Store) -> None:
    store.commit({"w": noise(50), "key": SECRET}, run="gpt")


def in_a_tiny_commit(store: casckpt.Store) -> None:
    store.commit({"key": SECRET, "bytes": TEXT * 3}, run="gpt")


def in_a_tensor(store: casckpt.Store) -> None:
    letters = np.frombuffer(TEXT * 60_000, np.uint8)
    store.commit({"w": noise(50), "shared": noise(999, 80_000), "letters": letters}, run="gpt", compress="off")


def in_a_group_of_small_tensors(store: casckpt.Store) -> None:
    small = {f"n{number}": np.frombuffer(TEXT * 20, np.uint8).copy() for number in range(100)}
    store.commit({"w": noise(50), "small": small}, run="gpt", compress="off")


def in_a_path(store: casckpt.Store) -> None:
    store.commit({"w": noise(50), "layers": {SECRET: noise(51)}}, run="gpt")


def in_a_tag(store: casckpt.Store) -> None:
    store.commit({"w": noise(50)}, run="gpt")
    store.tag(SECRET, "gpt")


def in_a_note(store: casckpt.Store) -> None:
    store.commit({"w": noise(50)}, run="gpt")
    store.note("gpt", f"the word is {SECRET}")


def in_a_note_that_was_removed(store: casckpt.Store) -> None:
    in_a_note(store)
    store.note("gpt", "")


def in_a_tag_that_was_removed(store: casckpt.Store) -> None:
    in_a_tag(store)
    store.untag(SECRET)


WAYS = [
    in_a_message,
    in_a_metric,
    in_a_config,
    in_a_large_config,
    in_an_inline_value,
    in_a_tiny_commit,
    in_a_tensor,
    in_a_group_of_small_tensors,
    in_a_path,
    in_a_tag,
    in_a_note,
    in_a_note_that_was_removed,
    in_a_tag_that_was_removed,
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("seals", [False, True], ids=["one journal file", "many journal files"])
def test_no_byte_of_a_commit_is_left_and_its_neighbours_are_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: Callable[[casckpt.Store], None], seals: bool
) -> None:
    monkeypatch.setattr(journal, "SEAL_FRAMES", 2 if seals else 1000)
    folder = tmp_path / "ckpts"
    with casckpt.init(folder) as store:
        states = training(store)
        way(store)
        secret = store.show("gpt").id
        states |= training(store, start=10)
        assert holders(folder)
        store.forget(secret, force=True)
        assert holders(folder) == []
        assert_whole(store, states)
    with casckpt.open(folder) as store:
        assert holders(folder) == []
        assert [commit.step for commit in store.log("gpt")] == [13, 12, 11, 10, 3, 2, 1, 0]
        store._repository.rebuild_index()
        assert_whole(store, states)
        assert len(list(store.log("gpt"))) == 8


@pytest.mark.parametrize("renamed", [False, True], ids=["named", "renamed"])
def test_a_run_goes_with_its_name_settings_and_tags(tmp_path: Path, renamed: bool) -> None:
    folder = tmp_path / "ckpts"
    with casckpt.init(folder) as store:
        states = training(store)
        training(store, run=SECRET, start=20)
        store.tag("v1", SECRET)
        store.pin(f"{SECRET}~1")
        store.finish_run(SECRET)
        run = SECRET
        if renamed:
            store.rename_run(SECRET, "other")
            run = "other"
        report = store.forget(run, force=True)
        assert report.runs == (run,) and len(report.forgotten) == 4
        assert holders(folder) == []
        assert_whole(store, states)
        assert [info.name for info in store.runs()] == ["gpt"]
        # The name is free again.
        training(store, run=run, start=30)
        assert [commit.step for commit in store.log(run)] == [33, 32, 31, 30]


def test_what_others_need_too_stays(tmp_path: Path) -> None:
    with casckpt.init(tmp_path / "ckpts") as store:
        states = training(store)
        secret = store.commit({"model": {"w": noise(2), "shared": noise(999, 80_000)}, "words": TEXT}, run="b").id
        store.forget(secret[:12], force=True)
        assert_whole(store, states)
        assert holders(tmp_path / "ckpts") == []


def test_hints_of_packs_that_others_need_go_too(tmp_path: Path) -> None:
    with casckpt.init(tmp_path / "ckpts") as store:
        store.commit({"w": noise(1, 80_000)}, run="oops", metrics={SECRET: 1.0})
        same = store.commit({"w": noise(1, 80_000)}, run="gpt", step=3)
        assert same.added is not None and same.added < 1000
        store.forget("oops")
        assert holders(tmp_path / "ckpts") == []
        assert np.array_equal(store.checkout("gpt")["w"], noise(1, 80_000))


def test_trash_is_emptied(tmp_path: Path) -> None:
    with casckpt.init(tmp_path / "ckpts") as store:
        training(store)
        (tmp_path / "ckpts" / "trash" / "journal-0.torn").write_bytes(TEXT)
        store.forget("gpt~1")
    assert holders(tmp_path / "ckpts") == []


def test_another_process_follows_and_commits_on(tmp_path: Path) -> None:
    folder = tmp_path / "ckpts"
    with casckpt.init(folder) as store, casckpt.open(folder) as other:
        states = training(store)
        in_a_message(store)
        secret = store.show("gpt").id
        assert other.show("gpt").id == secret
        lazy = other.tree("gpt~1")["model/w"]
        states |= training(store, start=10)
        store.forget(secret)
        assert other.show("gpt").step == 13
        assert np.array_equal(lazy[:], noise(3))
        states |= training(other, start=20)
        assert [commit.step for commit in store.log("gpt")] == [23, 22, 21, 20, 13, 12, 11, 10, 3, 2, 1, 0]
        assert_whole(store, states)
    assert holders(folder) == []


def test_while_somebody_commits_the_commits_are_forgotten_and_gc_removes_their_bytes(tmp_path: Path) -> None:
    folder = tmp_path / "ckpts"
    with casckpt.init(folder) as store:
        states = training(store)
        in_a_tensor(store)
        states |= training(store, steps=1, start=9)
        repository = Repository(LocalStorage(str(folder)))
        with locks.committing(repository.storage), pytest.raises(ForgetUnfinished) as caught:
            store.forget("gpt~1", wait_s=0)
        assert isinstance(caught.value, BusyError) and "commit" in str(caught.value)
        assert holders(folder)
        assert [commit.step for commit in store.log("gpt")] == [9, 3, 2, 1, 0]
        store.gc()
        assert holders(folder) == []
        assert_whole(store, states)
        repository.close()


def test_a_commit_that_takes_over_something_meanwhile_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "ckpts"
    letters = {"letters": np.frombuffer(b"abcdefgh" * 60_000, np.uint8)}
    with casckpt.init(folder) as store, casckpt.open(folder) as other:
        states = training(store)
        store.commit({**letters, "key": SECRET}, run="oops", compress="off")
        real = purging.rewrite

        def late(*given: Any, **words: Any) -> Any:
            done = real(*given, **words)
            monkeypatch.undo()
            other.commit(letters, run="late", compress="off")
            return done

        monkeypatch.setattr(purging, "rewrite", late)
        store.forget("oops")
        assert holders(folder) == []
        assert np.array_equal(other.checkout("late")["letters"], letters["letters"])
        assert_whole(store, states)


def test_a_training_commits_on_while_its_secrets_are_forgotten(tmp_path: Path) -> None:
    folder = tmp_path / "ckpts"
    states: dict[str, Any] = {}
    with casckpt.init(folder) as store, casckpt.open(folder) as other, ThreadPoolExecutor(1) as pool:
        training(store, run="oops", steps=1)

        def commit_on() -> None:
            for round_ in range(6):
                for step in range(4 * round_, 4 * round_ + 4):
                    states.update(training(other, steps=1, start=step))
                other.commit({"key": SECRET, "w": noise(500 + round_)}, run="oops", message=SECRET)

        running = pool.submit(commit_on)
        while not running.done():
            secrets = [commit.id for commit in store.log("oops") if commit.message == SECRET]
            store.forget(*secrets, force=True)
        running.result()
        store.forget("oops")
        assert holders(folder) == []
        assert_whole(store, states)
        assert sorted(commit.step or 0 for commit in store.log("gpt")) == list(range(24))
    with casckpt.open(folder) as store:
        assert_whole(store, states)
