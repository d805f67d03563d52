"""Working folders for transcripts: files to commit, and stores in the states users meet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from hashlib import shake_256
from pathlib import Path
from typing import Any

import numpy as np

import casckpt
from casckpt.format.config import StoreFormat
from casckpt.format.entry import Drop, Entry, RefMove
from casckpt.format.ids import CommitId, Kind, ObjectId, object_id
from casckpt.odb.repository import Repository
from casckpt.ops.commit import CommitOptions, commit_state
from casckpt.state.flatten import flatten
from casckpt.storage.local import LocalStorage

STORE = ".casckpt"


def state(seed: int, rows: int = 16) -> dict[str, Any]:
    """A small state of arrays, numbers and texts."""
    weight = np.nan_to_num(np.frombuffer(shake_256(b"%d" % seed).digest(rows * 64), "<f4").reshape(rows, 16))
    return {"model": {"weight": weight, "bias": np.zeros(16, "<f4")}, "step": seed, "name": "gpt"}


def empty(folder: Path) -> None:
    """Files, and no store."""
    out = folder / "out"
    (out / "sub").mkdir(parents=True)
    (out / "weights.bin").write_bytes(shake_256(b"weights").digest(5000))
    (out / "sub" / "notes.txt").write_text("notes\n")


def history(folder: Path) -> None:
    """Two runs of states, a rule for best, a tag, a config."""
    empty(folder)
    with casckpt.init(folder / STORE) as store:
        for number, loss in enumerate((0.5, 0.25, 0.375)):
            store.commit(
                state(number),
                run="gpt",
                step=1000 * (number + 1),
                metrics={"val/loss": loss},
                best="val/loss:min",
                message="warm restart\nsecond line" if number == 1 else "",
                config={"optim": {"lr": 1e-4, "betas": [0.9, 0.95]}, "seed": 7},
            )
        store.tag("v1", "gpt~1")
        wide = {"model": {"weight": np.ones((2, 3))}, "width": 4096}
        store.commit(wide, run="wide", step=10, epoch=0.5, kind="final", metrics={"val/loss": float("nan"), "n": 3})


def big(folder: Path) -> Path:
    """A store with one commit too large for the journal; the path of its pack."""
    with casckpt.init(folder / STORE) as store:
        store.commit(state(0, 1 << 16), run="gpt", step=1)
        store.commit({"other": 1}, run="gpt", step=2)
    [pack] = (folder / STORE / "packs").rglob("*.pack")
    return pack


def damaged(folder: Path) -> None:
    """A chunk of the first of two commits has a flipped bit."""
    pack = big(folder)
    data = bytearray(pack.read_bytes())
    data[len(data) // 2] ^= 1
    pack.chmod(0o600)
    pack.write_bytes(data)


def lost(folder: Path) -> None:
    """The only pack is gone."""
    big(folder).unlink()


def newer(folder: Path) -> None:
    """A store with a feature this release does not know."""
    history(folder)
    path = folder / STORE / "format"
    path.write_bytes(replace(StoreFormat.decode(path.read_bytes()), read=("quantum",)).encode())


def dropped(folder: Path) -> None:
    """The second commit of gpt was dropped."""
    history(folder)
    repository = Repository(LocalStorage(folder / STORE))
    identity = repository.database.ref("tags/v1")
    assert identity is not None
    drop = Drop(identity, None, "keep last 1", 1_700_000_000_000_000_000)
    append(repository, Entry("drop", drop.time_ns, drops=(drop,), by="test"))


def thinned(folder: Path) -> None:
    """Of a run of states and of a run of folders the first commits lost two components each."""
    for name in ("weights", "optim", "logs"):
        (folder / name).mkdir()
        (folder / name / f"{name}.txt").write_text(f"{name}\n")
    with casckpt.init(folder / STORE) as store:
        for step in (1, 2):
            more = {"optimizer": {"lr": 0.5}, "rng": {"seed": step}}
            store.commit({**state(step), **more}, run="gpt", step=step)
            store.commit_path(*(folder / name for name in ("weights", "optim", "logs")), run="files", step=step)
            (folder / "logs" / "logs.txt").write_text("more\n")
        store.drop("gpt@step=1", parts=["optimizer", "rng"])
        store.drop("files@step=1", parts="optim")
        store.drop("gpt@step=1", parts="optimizer")


def freeable(folder: Path) -> None:
    """Four commits with packs of their own, the first two of which were dropped: one long ago, one just now."""
    commits = []
    with casckpt.init(folder / STORE) as store:
        for step in range(1, 5):
            leaf = shake_256(bytes([step])).digest(300_000)
            info = store.commit({f"weights-{step}": leaf}, run="gpt", step=step, metrics={"loss": 1 / step})
            commits.append(info.id)
    first = ObjectId(bytes.fromhex(commits[0]))
    drop = Drop(CommitId(first), None, "keep_last=3", 1_700_000_000_000_000_000)
    append(Repository(LocalStorage(folder / STORE)), Entry("drop", drop.time_ns, drops=(drop,), by="test"))
    with casckpt.open(folder / STORE) as store:
        store.drop("gpt@step=2")


def ambiguous(folder: Path) -> None:
    """Two commits whose ids begin with the same four digits, tagged `one` and `two`."""
    history(folder)
    repository = Repository(LocalStorage(folder / STORE))
    named = repository.database.ref("tags/v1")
    assert named is not None
    commit = repository.database.commit(named)
    assert commit is not None
    seen: dict[str, tuple[CommitId, bytes]] = {}
    for number in range(1 << 16):
        data = replace(commit, run="twin", time_ns=commit.time_ns + number).encode()
        identity = CommitId(object_id(Kind.COMMIT, data))
        other = seen.setdefault(identity.hex()[:4], (identity, data))
        if other[0] != identity:
            break
    pair = {"one": other, "two": (identity, data)}
    refs = tuple(RefMove(f"tags/{name}", None, found) for name, (found, _) in pair.items())
    objects: list[tuple[ObjectId, Kind, bytes]] = [(found, Kind.COMMIT, data) for found, data in pair.values()]
    append(repository, Entry("pull", commit.time_ns, refs=refs, by="test"), objects)
    (folder / "twins").write_text(identity.hex()[:4])


def hostile(folder: Path) -> None:
    """Texts that would command a terminal, wherever a user can put them."""
    evil = "\x1b]0;owned\x07\x1b[2Jred\u202etxt"
    with casckpt.init(folder / STORE) as store:
        store.commit(
            {f"w{evil}": evil, "ok": 1},
            metrics={f"loss{evil}": 1.0},
            message=f"{evil}\n\r\x9b31m\u2028forged line",
            author=evil,
            config={evil: evil},
        )
        store.commit({f"v{evil}": evil, "ok": 2})


def checkpoints(folder: Path) -> None:
    """A store with two runs, and beside it a folder of checkpoints of which one is damaged."""
    history(folder)
    inner = folder / "ck"
    (inner / "checkpoint-500").mkdir(parents=True)
    np.savez(inner / "checkpoint-500" / "model.npz", **state(5)["model"])
    for epoch in (0, 1):
        np.savez(inner / f"{epoch}.npz", **state(epoch)["model"])
        (inner / f"{epoch}.npz").rename(inner / f"epoch={epoch}-step={1000 * epoch}-val_loss=0.{5 - epoch}.npz")
    (inner / "step_2000.safetensors").write_bytes(b"no safetensors")


def schema(folder: Path) -> None:
    """A commit whose schema requires paths, and one that was made without the look for them."""
    with casckpt.init(folder / STORE) as store:
        required = casckpt.Schema("train", 3, ["model/**", "step"])
        store.commit(state(0), run="gpt", step=1, schema=required)
        broken = {"model": {"weight": [1.0]}, "name": "broken"}
        commit_state(store._repository, flatten(broken), CommitOptions("gpt", 2, schema=required))


def diverged(folder: Path) -> None:
    """A run that broke down after its best commit, and checkpoints of which one holds NaN."""
    with casckpt.init(folder / STORE) as store:
        for number, loss in enumerate((0.5, 0.25, 0.125)):
            weights = state(number)
            if number == 2:
                weights["model"] |= {"weight": np.full((16, 16), np.nan, "<f4"), "bias": np.full(16, np.inf, "<f4")}
            store.commit(weights, run="gpt", step=1000 * (number + 1), metrics={"val/loss": loss}, best="val/loss:min")
    (folder / "ck").mkdir()
    for step in (3000, 4000):
        np.savez(folder / "ck" / f"step_{step}.npz", np.full(1 << 17, np.nan if step == 4000 else 1, "<f4"))


def trainings(folder: Path) -> None:
    """A run, one that was forked from it with another config and breaks once, and one of its own."""
    with casckpt.init(folder / STORE) as store:
        setting = {"optim": {"lr": 1e-4, "betas": [0.9, 0.95]}, "model": {"ratio": 4}, "seed": 7}

        def train(run: str, steps: range, config: Any, rate: float, start: tuple[str, ...] | None = None) -> None:
            for step in steps:
                metrics = {"val/loss": 2.0 ** (-step / 1000 * rate), "acc": 1 - 2.0 ** (-step / 500)}
                if (run, step) == ("wide", 3000):
                    metrics["val/loss"] = float("nan")
                weights = {"model": {"weight": np.full((4, 4), step * rate, "<f4"), "bias": np.zeros(4, "<f4")}}
                words: dict[str, Any] = {"metrics": metrics, "config": config, "best": "val/loss:min", "parents": start}
                store.commit(weights | {"step": step}, run=run, step=step, epoch=step / 1000, **words)
                start = None

        train("base", range(0, 2500, 500), setting, 1)
        wide = {"optim": {"lr": 3e-4, "betas": [0.9, 0.95], "warmup": 200}, "model": {"ratio": 6}, "seed": 7}
        train("wide", range(2500, 6000, 500), wide, 0.5, ("base",))
        train("base", range(2500, 5000, 500), setting, 1)
        train("odd", range(1, 4), {"seed": 8}, 1)


def walk(folder: Path) -> None:
    """A run whose weights change little from commit to commit, and are too large for the journal."""
    weights = np.frombuffer(shake_256(b"walk").digest(100_000), "<u2").astype("<f4")
    with casckpt.init(folder / STORE) as store:
        for number in range(6):
            steps = np.frombuffer(shake_256(b"step %d" % number).digest(100_000), "<u2").astype("<f4")
            weights = weights + steps * np.float32(1e-3)
            store.commit({"model": {"weight": weights}, "step": number}, run="gpt", step=100 * number)


def shared(folder: Path) -> None:
    """A store that pushed to the folder `nas`, and what another machine pushed there since: both runs went on."""
    history(folder)
    (folder / "nas").mkdir()
    with casckpt.open(folder / STORE) as store:
        store.add_remote("nas", str(folder / "nas"))
        store.push("nas", everything=True)
    with casckpt.clone(str(folder / "nas"), folder / "other") as other:
        other.commit(state(7), run="gpt", step=4000, metrics={"val/loss": 0.125})
        other.push("origin", "gpt")
        other.commit(state(8), run="new", step=1)
        other.push("origin", "new")
    with casckpt.open(folder / STORE) as store:
        store.commit({"width": 8192}, run="wide", step=20)


def backed_up(folder: Path) -> None:
    """A store of one commit, which is on the remote `nas`; and `rotten`, where a bit of the same has flipped."""
    for name in ("nas", "rotten"):
        (folder / name).mkdir()
    with casckpt.init(folder / STORE) as store:
        store.commit(state(0, 1 << 14), run="gpt", step=1)
        for name in ("nas", "rotten"):
            store.add_remote(name, str(folder / name))
            store.push(name)
    [pack] = (
        path for path in (folder / "rotten" / "packs").rglob("*") if path.is_file() and path.stat().st_size > 1 << 19
    )
    data = bytearray(pack.read_bytes())
    data[len(data) // 2] ^= 1
    pack.chmod(0o600)
    pack.write_bytes(data)


def parted(folder: Path) -> None:
    """The same, and the run gpt went on here too; what lost it was kept by a third machine."""
    shared(folder)
    with casckpt.open(folder / STORE) as store:
        store.commit(state(9), run="gpt", step=4001, metrics={"val/loss": 0.0625})
    with casckpt.clone(str(folder / "nas"), folder / "third", "wide") as third:
        third.commit({"width": 1}, run="wide", step=30)
        third.push("origin", "wide")


def append(repository: Repository, entry: Entry, objects: list[tuple[ObjectId, Kind, bytes]] | None = None) -> None:
    """Add one entry to the journal, then close."""
    with repository.session() as session:
        session.publish(lambda: (entry, list(objects or [])))
    repository.close()


SCENES: dict[str, Callable[[Path], object]] = {
    scene.__name__: scene
    for scene in (
        *(empty, history, big, damaged, lost, newer, dropped, thinned, ambiguous, hostile, checkpoints, schema),
        *(trainings, diverged, walk, freeable, shared, parted, backed_up),
    )
}
