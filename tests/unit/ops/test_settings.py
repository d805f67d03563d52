"""Settings files of stores and users: read within bounds, changed without loss of comments, honoured by `open`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

import casckpt
from casckpt.errors import DamagedSettings, InvalidSetting, ReadOnlyStore, RevisionNotFound, StorageError
from casckpt.ops.settings import StoreSettings, store_layer, user_layer
from casckpt.ops.settings_edit import edit_policy, edit_store, edit_user, with_policy
from casckpt.plan.policy import Retention
from casckpt.plan.settings_file import file_layer
from casckpt.storage.local import LocalStorage
from casckpt.storage.memory import MemoryStorage
from tests.support.policies import NESTED, TABLES


@pytest.fixture
def store(tmp_path: Path) -> Path:
    casckpt.init(tmp_path / "s").close()
    return tmp_path / "s"


def test_open_honours_the_file_of_the_store_and_a_call_wins(store: Path) -> None:
    (store / "config.toml").write_text('run = "gpt"\ncompress = "off"\nthreads = 1\n')
    with casckpt.open(store) as opened:
        assert opened.settings() == StoreSettings("gpt", "off", 1)
        assert opened.settings().to_dict() == {
            "run": "gpt",
            "compress": "off",
            "threads": 1,
            "upkeep": True,
            "health_gate": True,
            "fetch_on_demand": True,
        }
        assert opened.commit({"a": 1}).run == "gpt"
        assert opened.commit({"a": 2}, run="wide").run == "wide"
        assert opened.show("@").run == "gpt"  # though wide has the newest commit
        assert opened.show("last").run == "gpt"
        assert opened.commit_path(store / "format").run == "gpt"
    with casckpt.open(store, settings=StoreSettings()) as opened:
        assert opened.commit({"a": 3}).run == "main"
        assert opened.show("@").run == "main"


def test_without_settings_nothing_changes(store: Path) -> None:
    with casckpt.open(store) as opened:
        assert opened.settings() == StoreSettings()
        opened.commit({"a": 1}, run="one")
        opened.commit({"a": 1}, run="two")
        assert opened.show("@").run == "two"


def test_a_current_run_without_commits_is_named(store: Path) -> None:
    with casckpt.open(store, settings=StoreSettings(run="new")) as opened:
        opened.commit({"a": 1}, run="old")
        with pytest.raises(RevisionNotFound, match="'new'"):
            opened.show("@")


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"run = ", DamagedSettings),
        (b"\xff", DamagedSettings),
        (b"#" * (65 << 10), DamagedSettings),
        (b"threads = 0", InvalidSetting),
        (b"compress = 3", InvalidSetting),
    ],
)
def test_open_refuses_a_file_it_cannot_read_and_names_it(store: Path, data: bytes, error: type[Exception]) -> None:
    (store / "config.toml").write_bytes(data)
    with pytest.raises(error, match=r"config\.toml"):
        casckpt.open(store)


def test_a_settings_file_that_is_no_file_is_a_problem(store: Path) -> None:
    os.mkfifo(store / "config.toml")
    with pytest.raises(DamagedSettings):
        casckpt.open(store)


def test_a_change_keeps_comments_and_order(store: Path) -> None:
    (store / "config.toml").write_text('# ours\nthreads = 2  # two\nrun = "a"\n')
    storage = LocalStorage(store)
    edit_store(storage, "run", "b")
    edit_store(storage, "compress", "off")
    assert (store / "config.toml").read_text() == '# ours\nthreads = 2  # two\nrun = "b"\ncompress = "off"\n'
    edit_store(storage, "threads", None)
    edit_store(storage, "threads", None)
    assert casckpt.open(store).settings() == StoreSettings("b", "off")
    assert not os.listdir(store / "tmp")
    assert (store / "config.toml").stat().st_mode & 0o777 == 0o600


def test_a_rehearsed_change_writes_nothing(store: Path) -> None:
    edit_store(LocalStorage(store), "run", "b", dry_run=True)
    assert not (store / "config.toml").exists()


def test_a_damaged_file_is_never_overwritten(store: Path) -> None:
    (store / "config.toml").write_text("run gpt")
    with pytest.raises(DamagedSettings, match=r"config\.toml"):
        edit_store(LocalStorage(store), "run", "b")
    assert (store / "config.toml").read_text() == "run gpt"


def test_a_store_that_cannot_be_written_says_so(store: Path) -> None:
    with pytest.raises(ReadOnlyStore):
        edit_store(LocalStorage(store, read_only=True), "run", "b")


def test_a_failed_rename_leaves_the_file_as_it_was() -> None:
    class Failing(MemoryStorage):
        def rename(self, source: str, target: str) -> None:
            raise StorageError(operation="rename", path=source, problem="no")

    storage = Failing()
    with pytest.raises(StorageError):
        edit_store(storage, "run", "b")
    assert storage.list("tmp") == []


def test_the_users_file_is_made_with_its_folders_and_aliases_get_their_table(tmp_path: Path) -> None:
    path = str(tmp_path / "a" / "b" / "config.toml")
    edit_user(path, "time", "utc", dry_run=True)
    assert not (tmp_path / "a").exists()
    edit_user(path, "time", "utc")
    edit_user(path, "alias.best", "log -n 1")
    edit_user(path, "ascii", True)
    assert user_layer(path).values == {"time": "utc", "ascii": True, "alias.best": "log -n 1"}
    edit_user(path, "alias.best", None)
    edit_user(path, "alias.none", None)
    assert user_layer(path).values == {"time": "utc", "ascii": True}


def test_a_link_in_the_place_of_the_users_file_stays_one(tmp_path: Path) -> None:
    (tmp_path / "real.toml").write_text("# mine\n")
    (tmp_path / "config.toml").symlink_to(tmp_path / "real.toml")
    edit_user(str(tmp_path / "config.toml"), "time", "utc")
    assert (tmp_path / "config.toml").is_symlink()
    assert (tmp_path / "real.toml").read_text() == '# mine\ntime = "utc"\n'


def test_a_users_file_that_cannot_be_read_or_written_is_typed(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    assert isinstance(user_layer(str(tmp_path / "folder")).problems[0], DamagedSettings)
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        edit_user(str(tmp_path / "file" / "config.toml"), "time", "utc")


@given(TABLES | NESTED, TABLES | NESTED)
def test_a_policy_is_read_back_as_it_was_written(before: dict[str, Any], after: dict[str, Any]) -> None:
    text = '# ours\nthreads = 2  # two\n\n[alias]\nx = "log"\n'
    for policy in map(Retention.from_dict, (before, after)):
        text = with_policy("f", text, policy)
        assert file_layer("store", "f", text).policy == policy
    assert with_policy("f", text, None).rstrip() == '# ours\nthreads = 2  # two\n\n[alias]\nx = "log"'


def test_keys_of_a_policy_get_their_tables_and_lose_them(store: Path) -> None:
    storage = LocalStorage(store)
    (store / "config.toml").write_text("[retention]\nkeep_last_n = 3  # newest\n")
    edit_store(storage, "retention.keep_last", 5)
    edit_store(storage, "retention.runs.v1.2*.thin", {"keep_last": ["opt*"]})
    edit_store(storage, 'retention.runs."a.b".max_checkpoints', 1)
    assert store_layer(storage).values == {
        "retention.keep_last": 5,
        "retention.runs.v1.2*.thin": {"keep_last": ["opt*"]},
        "retention.runs.a.b.keep_last": 1,
    }
    for key in ("retention.runs.v1.2*.thin", "retention.runs.a.b.keep_last", "retention.max_checkpoints"):
        edit_store(storage, key, None)
    assert (store / "config.toml").read_text() == ""


@pytest.mark.parametrize("text", ["retention = 3", "[retention]\nruns = 3", "[[retention]]\nkeep_last = 3"])
def test_a_policy_in_the_place_of_a_value_is_refused_and_a_whole_one_replaces_it(store: Path, text: str) -> None:
    (store / "config.toml").write_text(text)
    with pytest.raises(DamagedSettings, match=r"config\.toml"):
        edit_store(LocalStorage(store), "retention.runs.a.keep_last", 1)
    edit_policy(LocalStorage(store), Retention(keep_last=1))
    assert store_layer(LocalStorage(store)).policy == Retention(keep_last=1)


def test_a_file_never_grows_past_what_is_read(store: Path) -> None:
    with pytest.raises(DamagedSettings, match="longer than"):
        edit_store(LocalStorage(store), "retention.metric", "x" * (64 << 10))
    assert not (store / "config.toml").exists()
