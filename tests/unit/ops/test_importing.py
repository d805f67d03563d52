"""Folders of checkpoints become runs: in order, once, with what their names say, and whatever is wrong with one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

import casckpt
from casckpt.errors import InvalidName, NotFoundError, StoreFull, UsageError
from casckpt.ops import importing
from casckpt.ops.reports import ImportReport
from casckpt.store import Store


@pytest.fixture
def store() -> Iterator[Store]:
    with casckpt.memory() as store:
        yield store


def weights(number: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(number)
    return {"w": torch.randn(300, 300, generator=generator), "b": torch.full((3,), float(number))}


def lightning(folder: Path) -> None:
    for epoch in range(3):
        state = {"state_dict": weights(epoch), "epoch": epoch, "global_step": 1000 * epoch}
        torch.save(state, folder / f"epoch={epoch}-step={1000 * epoch}-val_loss={1 / (1 + epoch):.2f}.ckpt")
    (folder / "last.ckpt").symlink_to("epoch=2-step=2000-val_loss=0.33.ckpt")


def trainer(folder: Path) -> None:
    """What a Trainer of Hugging Face leaves: the arguments are a pickled class."""
    for step in (500, 1000):
        inner = folder / f"checkpoint-{step}"
        inner.mkdir()
        safetensors.torch.save_file(weights(step), inner / "model.safetensors", metadata={"format": "pt"})
        torch.save({"state": {0: {"exp_avg": torch.ones(5)}}}, inner / "optimizer.pt")
        torch.save({"args": Path("x")}, inner / "training_args.bin")
        (inner / "trainer_state.json").write_text(f'{{"global_step": {step}}}')
    safetensors.torch.save_file(weights(1000), folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text("{}")


def deepspeed(folder: Path) -> None:
    for step in (20, 100):
        inner = folder / f"global_step{step}"
        inner.mkdir()
        torch.save({"module": weights(step)}, inner / "mp_rank_00_model_states.pt")
    (folder / "latest").write_text("global_step100")
    (folder / "zero_to_fp32.py").write_text("raise SystemExit")


def nanogpt(folder: Path) -> None:
    torch.save({"model": weights(1), "iter_num": 7}, folder / "ckpt.pt")


def steps(report: ImportReport) -> list[tuple[str, int | None]]:
    return [(one.name, one.step) for one in report.checkpoints]


def history(store: Store, run: str) -> list[Any]:
    """What of a run does not depend on when it was made, oldest first."""
    return [
        (one.step, one.epoch, dict(one.metrics), one.message, one.tree, store.metadata(f"id:{one.id}"))
        for one in reversed(list(store.log(run)))
    ]


class TestFolders:
    def test_of_lightning(self, store: Store, tmp_path: Path) -> None:
        lightning(tmp_path)
        report = store.import_path(tmp_path, run="lit")
        commits = list(reversed(list(store.log("lit"))))
        assert [(one.step, one.epoch, one.metrics) for one in commits] == [
            (0, 0, {"val_loss": 1.0}), (1000, 1, {"val_loss": 0.5}), (2000, 2, {"val_loss": 0.33}),
        ]  # fmt: skip
        assert [one.commit for one in report.checkpoints] == [one.id for one in commits]
        assert report.ok and not any(one.skipped for one in report.checkpoints)
        assert store.show("lit@step=1000").message == "import epoch=1-step=1000-val_loss=0.50.ckpt"

    def test_of_a_trainer_with_checkpoint_folders_and_a_final_model(self, store: Store, tmp_path: Path) -> None:
        trainer(tmp_path)
        report = store.import_path(tmp_path, run="bert")
        assert steps(report) == [("checkpoint-500", 500), ("checkpoint-1000", 1000), ("model.safetensors", None)]
        assert {leaf.path for leaf in store.leaves("bert@step=500")} == {
            "model.safetensors", "optimizer.pt", "trainer_state.json", "training_args.bin",
        }  # fmt: skip
        # The final model is that of the last step: nearly nothing new is stored.
        assert (report.checkpoints[2].added or 0) < 10_000

    def test_of_deepspeed(self, store: Store, tmp_path: Path) -> None:
        deepspeed(tmp_path)
        assert steps(store.import_path(tmp_path)) == [("global_step20", 20), ("global_step100", 100)]

    def test_of_nanogpt(self, store: Store, tmp_path: Path) -> None:
        nanogpt(tmp_path)
        assert steps(store.import_path(tmp_path)) == [("ckpt.pt", None)]

    def test_that_are_one_checkpoint_themselves(self, store: Store, tmp_path: Path) -> None:
        trainer(tmp_path)
        assert steps(store.import_path(tmp_path / "checkpoint-500", run="a")) == [("checkpoint-500", 500)]
        model = tmp_path / "llama"
        model.mkdir()
        for number in (1, 2):
            path = model / f"model-0000{number}-of-00002.safetensors"
            safetensors.torch.save_file(weights(number), path)
        assert steps(store.import_path(model, run="b")) == [("llama", None)]
        assert len(list(store.leaves("b"))) == 2

    def test_without_checkpoints_are_not_found(self, store: Store, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").write_text("x")
        with pytest.raises(NotFoundError, match="a checkpoint in"):
            store.import_path(tmp_path)
        with pytest.raises(NotFoundError):
            store.import_path(tmp_path / "absent")
        assert store.runs() == []

    def test_files_come_back_byte_for_byte_and_stay_as_they_are(self, store: Store, tmp_path: Path) -> None:
        source = tmp_path / "source"
        source.mkdir()
        trainer(source)
        before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in source.rglob("*") if path.is_file()}
        store.import_path(source, run="r")
        store.checkout_path("r@step=1000", tmp_path / "back")
        for path in (source / "checkpoint-1000").iterdir():
            assert (tmp_path / "back" / path.name).read_bytes() == path.read_bytes()
        assert before == {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in before}


class TestRepeating:
    def test_takes_only_what_is_new(self, store: Store, tmp_path: Path) -> None:
        lightning(tmp_path)
        store.import_path(tmp_path, run="r")
        before = history(store, "r")
        report = store.import_path(tmp_path, run="r")
        assert all(one.skipped and one.commit for one in report.checkpoints)
        assert history(store, "r") == before
        torch.save(weights(9), tmp_path / "epoch=3-step=3000.ckpt")
        report = store.import_path(tmp_path, run="r")
        assert [one.skipped for one in report.checkpoints] == [True, True, True, False]
        assert history(store, "r")[:3] == before and store.show("r").step == 3000

    def test_knows_a_file_that_was_only_touched_and_takes_one_that_changed(self, store: Store, tmp_path: Path) -> None:
        path = tmp_path / "step_1.npz"
        np.savez(path, w=np.zeros(10))
        store.import_path(path)
        os.utime(path, ns=(1, 1))
        assert store.import_path(path).checkpoints[0].skipped
        np.savez(path, w=np.ones(10))
        assert not store.import_path(path).checkpoints[0].skipped
        assert len(list(store.log("main"))) == 2

    def test_in_another_form_or_run_is_another_import(self, store: Store, tmp_path: Path) -> None:
        nanogpt(tmp_path)
        store.import_path(tmp_path)
        assert not store.import_path(tmp_path, form="state").checkpoints[0].skipped
        assert not store.import_path(tmp_path, run="other").checkpoints[0].skipped

    def test_goes_on_where_it_was_interrupted(self, store: Store, tmp_path: Path) -> None:
        lightning(tmp_path)
        store.import_path(tmp_path, run="whole")

        def stop(done: int, total: int) -> None:
            if done > total // 2:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            store.import_path(tmp_path, run="r", progress=stop)
        reached = len(list(store.log("r")))
        assert 0 < reached < 3
        report = store.import_path(tmp_path, run="r")
        assert sum(one.skipped for one in report.checkpoints) == reached
        assert history(store, "r") == history(store, "whole")

    def test_passes_over_metadata_of_other_commits(self, store: Store, tmp_path: Path) -> None:
        for data in (None, "text", {"import": 3}, {"import": {"name": "ckpt.pt"}}, {"other": 1}):
            store.commit({"x": 1}, data=data)
        nanogpt(tmp_path)
        assert not store.import_path(tmp_path).checkpoints[0].skipped


class TestStates:
    def test_are_equal_to_those_that_were_saved(self, store: Store, tmp_path: Path) -> None:
        lightning(tmp_path)
        store.import_path(tmp_path, run="r", form="state")
        state = {"state_dict": weights(1), "epoch": 1, "global_step": 1000}
        assert store.commit(state, run="live").tree == store.show("r@step=1000").tree

    def test_of_folders_are_dicts_of_files(self, store: Store, tmp_path: Path) -> None:
        trainer(tmp_path)
        (tmp_path / "checkpoint-500" / "sub").mkdir()
        np.savez(tmp_path / "checkpoint-500" / "sub" / "x.npz", a=np.ones(3))
        report = store.import_path(tmp_path, run="r", form="state")
        assert [one.opaque for one in report.checkpoints] == [("training_args.bin",), ("training_args.bin",), ()]
        state = store.checkout("r@step=500")
        assert state["training_args.bin"] == (tmp_path / "checkpoint-500" / "training_args.bin").read_bytes()
        assert torch.equal(state["model.safetensors"]["w"], weights(500)["w"])
        assert torch.equal(state["optimizer.pt"]["state"][0]["exp_avg"], torch.ones(5))
        assert state["trainer_state.json"] == b'{"global_step": 500}'
        assert np.array_equal(state["sub"]["x.npz"]["a"], np.ones(3))

    @pytest.mark.parametrize("kind", ["safetensors", "npz", "pt", "h5"])
    def test_go_out_as_they_came_in(self, store: Store, tmp_path: Path, kind: str) -> None:
        state: dict[str, Any] = dict(weights(3))
        if kind == "npz":
            state = {name: value.numpy() for name, value in state.items()}
        store.commit(state, run="live")
        store.export("live", tmp_path / f"a.{kind}")
        store.import_path(tmp_path / f"a.{kind}", run="r", form="state")
        store.export("r", tmp_path / f"b.{kind}")
        assert (tmp_path / f"a.{kind}").stat().st_size == (tmp_path / f"b.{kind}").stat().st_size
        store.import_path(tmp_path / f"b.{kind}", run="again", form="state")
        assert store.show("again").tree == store.show("r").tree

    def test_of_pickles_are_refused_and_the_others_imported(self, store: Store, tmp_path: Path) -> None:
        lightning(tmp_path)
        torch.save({"x": Touch(tmp_path / "canary")}, tmp_path / "step_1500.pt")
        (tmp_path / "step_1700.npz").write_bytes(b"PK\3\4 damaged")
        report = store.import_path(tmp_path, run="r", form="state")
        assert [one.problem is None for one in report.checkpoints] == [True, True, False, False, True]
        refused, damaged = report.checkpoints[2:4]
        assert (refused.code, damaged.code) == ("file.pickle", "file.malformed")
        assert report.exit_code == 2 and not report.ok
        assert len(list(store.log("r"))) == 3
        # Byte for byte they are imported, shown, and come out again.
        assert store.import_path(tmp_path, run="bytes").ok
        [leaf] = store.leaves("bytes@step=1500")
        assert leaf.kind == "file"
        store.export("bytes@step=1500", tmp_path / "out.pt")
        assert (tmp_path / "out.pt").read_bytes() == (tmp_path / "step_1500.pt").read_bytes()
        assert not (tmp_path / "canary").exists()

    def test_of_pickles_are_run_if_that_is_asked_for(self, store: Store, tmp_path: Path) -> None:
        torch.save({"x": Touch(tmp_path / "canary"), "w": torch.ones(2)}, tmp_path / "m.pt")
        store.import_path(tmp_path / "m.pt", form="state", allow_pickle=True)
        assert (tmp_path / "canary").exists()
        assert torch.equal(store.checkout("main")["w"], torch.ones(2))
        with pytest.raises(UsageError, match="form='state'"):
            store.import_path(tmp_path / "m.pt", allow_pickle=True)


class Touch:
    """Makes a folder where it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.canary),)


class TestTrouble:
    @pytest.mark.parametrize("form", ["files", "state"])
    def test_a_file_that_changes_meanwhile_is_reported_and_not_committed(
        self, store: Store, tmp_path: Path, form: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for step in (1, 2, 3):
            torch.save(weights(step), tmp_path / f"step_{step}.pt")
        changing = tmp_path / "step_2.pt"
        commit = importing._commit

        def change(*given: Any) -> Any:
            if given[1].path == changing:
                os.utime(changing, ns=(5, 5))
            return commit(*given)

        monkeypatch.setattr(importing, "_commit", change)
        report = store.import_path(tmp_path, form=form)
        assert [one.code for one in report.checkpoints] == [None, "file.changed", None]
        assert [one.step for one in store.log("main")] == [3, 1]
        monkeypatch.undo()
        assert [one.skipped for one in store.import_path(tmp_path, form=form).checkpoints] == [True, False, True]

    def test_a_file_that_is_gone_or_locked_is_reported(self, store: Store, tmp_path: Path) -> None:
        trainer(tmp_path)
        odd = tmp_path / "checkpoint-500" / "model.safetensors"
        odd.unlink()
        odd.symlink_to("/etc/hostname")
        report = store.import_path(tmp_path)
        assert [one.problem is None for one in report.checkpoints] == [False, True, True]

    def test_a_disk_that_is_full_ends_the_import(
        self, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lightning(tmp_path)

        def full(*_: Any) -> Any:
            raise StoreFull(operation="write", path="packs/x", problem="full")

        monkeypatch.setattr(importing, "_commit", full)
        with pytest.raises(StoreFull):
            store.import_path(tmp_path)

    def test_two_of_one_name_are_refused(self, store: Store, tmp_path: Path) -> None:
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            nanogpt(tmp_path / name)
        with pytest.raises(UsageError, match=r"ckpt\.pt"):
            store.import_path(tmp_path / "a", tmp_path / "b")

    def test_a_name_that_is_no_text_is_reported(self, store: Store, tmp_path: Path) -> None:
        (tmp_path / os.fsdecode(b"\xff.pt")).write_bytes(b"x")
        report = store.import_path(tmp_path)
        assert report.checkpoints[0].exit_code == 2 and store.runs() == []

    def test_wrong_words_are_refused_before_anything_is_done(self, store: Store, tmp_path: Path) -> None:
        nanogpt(tmp_path)
        with pytest.raises(InvalidName):
            store.import_path(tmp_path, run="a:b")
        with pytest.raises(UsageError, match="form is one of"):
            store.import_path(tmp_path, form="tensors")  # type: ignore[arg-type]

    def test_an_empty_file_is_imported_as_it_is(self, store: Store, tmp_path: Path) -> None:
        (tmp_path / "step_1.bin").write_bytes(b"")
        assert store.import_path(tmp_path).ok
        assert store.import_path(tmp_path).checkpoints[0].skipped


def test_a_dry_run_says_what_would_be_done_and_does_nothing(store: Store, tmp_path: Path) -> None:
    lightning(tmp_path)
    report = store.import_path(tmp_path, run="r", dry_run=True)
    assert report.dry_run and [one.step for one in report.checkpoints] == [0, 1000, 2000]
    assert not any(one.commit or one.skipped for one in report.checkpoints)
    assert store.runs() == []
    store.import_path(tmp_path / "epoch=0-step=0-val_loss=1.00.ckpt", run="r")
    report = store.import_path(tmp_path, run="r", dry_run=True)
    assert [one.skipped for one in report.checkpoints] == [True, False, False]


@pytest.mark.parametrize("form", ["files", "state"])
def test_progress_counts_the_bytes_of_all(store: Store, tmp_path: Path, form: Any) -> None:
    lightning(tmp_path)
    told: list[tuple[int, int]] = []
    store.import_path(tmp_path, form=form, progress=lambda *said: told.append(said))
    total = sum(path.stat().st_size for path in tmp_path.iterdir() if not path.is_symlink())
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert {of for _, of in told} == {total} and told[-1][0] == total
