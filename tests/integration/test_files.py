"""Files of other programs, from the disk into a store and back."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow.parquet
import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import casckpt
from casckpt.errors import DamagedLeaf, LinkRefused
from casckpt.format.ids import Kind
from casckpt.ops.history import require_tree
from casckpt.ops.load import Loader
from casckpt.ops.resolve import resolve
from tests.support import foreign
from tests.support.build import noise

MIB = 1 << 20
Writer = Any


@pytest.fixture
def store(tmp_path: Path) -> Iterator[casckpt.Store]:
    with casckpt.init(tmp_path / "store") as made:
        yield made


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def model(layers: int = 6, width: int = 700, seed: int = 0) -> dict[str, torch.Tensor]:
    """Weights of nearly 2 MB each, and biases."""
    made = torch.Generator().manual_seed(seed)
    state = {}
    for number in range(layers):
        state[f"layers.{number}.weight"] = torch.randn(width, width, generator=made)
        state[f"layers.{number}.bias"] = torch.randn(width, generator=made)
    return state


def write_npz(state: dict[str, torch.Tensor], path: Path) -> None:
    np.savez(path, **{name: tensor.numpy() for name, tensor in state.items()})


def write_h5(state: dict[str, torch.Tensor], path: Path) -> None:
    with h5py.File(path, "w") as file:
        for name, tensor in state.items():
            file[name] = tensor.numpy()


WRITERS: dict[str, Writer] = {
    "model.safetensors": safetensors.torch.save_file,
    "model.pt": torch.save,
    "model.npz": write_npz,
}


def files_of(folder: Path) -> dict[bytes, bytes]:
    """Content of every regular file below a folder, by its path as the system has it."""
    found = {}
    for base, _, names in os.walk(os.fsencode(folder)):
        for name in names:
            path = os.path.join(base, name)
            if os.path.islink(path):
                continue
            with open(path, "rb") as file:
                found[os.path.relpath(path, os.fsencode(folder))] = file.read()
    return found


def assert_comes_back(store: casckpt.Store, out: Path, target: Path) -> None:
    """A folder that was just committed is checked out as it is on the disk."""
    store.checkout_path("main", target)
    assert files_of(target / out.name) == files_of(out)


def test_files_of_every_kind_come_back_byte_for_byte(store: casckpt.Store, out: Path, tmp_path: Path) -> None:
    state = model(3)
    for name, write in {**WRITERS, "model.h5": write_h5}.items():
        write(state, out / name)
    np.savez_compressed(out / "packed.npz", **{name: tensor.numpy() for name, tensor in state.items()})
    np.save(out / "one.npy", state["layers.0.weight"].numpy())
    torch.save(state, out / "legacy.pt", _use_new_zipfile_serialization=False)
    columns = {name: np.frombuffer(noise(name, MIB), np.int64) for name in ("a", "b", "c")}
    pyarrow.parquet.write_table(pyarrow.table(columns), out / "rows.parquet")
    with zipfile.ZipFile(out / "mixed.zip", "w") as archive:
        archive.writestr("stored", noise("stored", MIB), zipfile.ZIP_STORED)
        archive.writestr("deflated", bytes(3 * MIB) + noise("deflated", MIB), zipfile.ZIP_DEFLATED)
        archive.writestr("../../tricky", noise("tricky", MIB))
    (out / "empty").touch()
    (out / "empty.pt").touch()
    (out / "run.sh").write_text("#!/bin/sh\n")
    (out / "run.sh").chmod(0o755)
    for name in (
        b"caf\xe9",
        b"\xff\xfe" * 20,
        "日本語 ✓".encode(),
        b"a\nb",
        b"-rf",
        b"%41",
        b'"q"',
        b":x",
        b"CON",
        b"0",
    ):
        with open(os.path.join(os.fsencode(out), name), "wb") as file:
            file.write(name * 9)
    store.commit_path(out)
    assert_comes_back(store, out, tmp_path / "back")
    assert os.access(tmp_path / "back" / "out" / "run.sh", os.X_OK)
    assert store.fsck("full").ok


def test_links_come_back_as_links_where_they_are_asked_for(store: casckpt.Store, out: Path, tmp_path: Path) -> None:
    (out / "blobs").mkdir()
    (out / "snapshots" / "1").mkdir(parents=True)
    (out / "blobs" / "abc").write_bytes(noise("abc", MIB))
    links = {
        "snapshots/1/model.pt": "../../blobs/abc",
        "latest": "snapshots/1",
        "loop": "./loop",
        "caf\udce9": "\udcff",
    }
    for name, target in links.items():
        (out / name).symlink_to(target)
    store.commit_path(out)
    with pytest.raises(LinkRefused):
        store.checkout_path("main", tmp_path / "back")
    store.checkout_path("main", tmp_path / "back", links=True)
    assert {name: os.readlink(tmp_path / "back" / "out" / name) for name in links} == links
    assert files_of(tmp_path / "back" / "out") == files_of(out)


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("first", ["state", "file"])
def test_a_file_and_a_live_state_share_their_tensors(
    store: casckpt.Store, out: Path, tmp_path: Path, name: str, first: str
) -> None:
    state = model()
    WRITERS[name](state, out / name)
    if first == "state":
        store.commit({"model": state, "step": 7})
        second = store.commit_path(out / name)
    else:
        store.commit_path(out / name)
        second = store.commit({"model": state, "step": 7})
    assert second.added is not None
    assert 1 - second.added / second.nbytes > 0.99
    if first == "state":
        store.checkout_path("main", tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == (out / name).read_bytes()
    else:
        found = store.checkout()["model"]
        assert all(torch.equal(found[key], state[key]) for key in state)


def test_files_of_three_formats_share_their_tensors_with_each_other(store: casckpt.Store, out: Path) -> None:
    state = model()
    for name, write in WRITERS.items():
        write(state, out / name)
    info = store.commit_path(out)
    assert info.added is not None
    assert info.added < info.nbytes / 3 * 1.02


def test_what_changed_in_a_file_is_what_is_stored_and_shown(store: casckpt.Store, out: Path, tmp_path: Path) -> None:
    state = model()
    safetensors.torch.save_file(state, out / "m.safetensors")
    store.commit_path(out)
    state["layers.2.weight"] += 1
    nbytes = state["layers.2.weight"].nbytes
    safetensors.torch.save_file(state, out / "m.safetensors", {"longer": "header" * 100})
    info = store.commit_path(out)
    assert info.added is not None
    assert nbytes < info.added < nbytes + 100_000
    (change,) = store.diff("main~1", "main").leaves
    assert change.path == "out/m.safetensors"
    assert nbytes <= change.differing < nbytes + 100_000
    assert_comes_back(store, out, tmp_path / "back")


@pytest.mark.parametrize("at", [100, 9_000_000])
def test_an_insertion_into_an_opaque_file_costs_the_chunks_near_it(store: casckpt.Store, out: Path, at: int) -> None:
    data = noise("opaque", 16 * MIB)
    (out / "log").write_bytes(data)
    store.commit_path(out)
    (out / "log").write_bytes(data[:at] + b"inserted" + data[at:])
    info = store.commit_path(out)
    assert info.added is not None
    assert info.added < 2 * MIB


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


def test_a_file_that_executes_code_is_kept_without_executing_it(
    store: casckpt.Store, out: Path, tmp_path: Path
) -> None:
    marker = tmp_path / "executed"
    state: dict[str, Any] = {**model(2), "payload": Evil(f"touch {marker}")}
    torch.save(state, out / "model.pt")
    torch.save(state, out / "legacy.pt", _use_new_zipfile_serialization=False)
    store.commit_path(out)
    state["layers.0.weight"] += 1
    torch.save(state, out / "model.pt")
    store.commit_path(out)
    list(store.leaves("main"))
    store.show("main")
    assert store.diff("main~1", "main", values=True).leaves
    store.export("main:out/model.pt", tmp_path / "exported.pt")
    assert (tmp_path / "exported.pt").read_bytes() == (out / "model.pt").read_bytes()
    assert_comes_back(store, out, tmp_path / "back")
    assert store.fsck("full").ok
    assert not marker.exists()
    torch.load(out / "model.pt", weights_only=False)
    assert marker.exists()


MALFORMED = {
    "safetensors": foreign.malformed_safetensors,
    "npy": foreign.malformed_npy,
    "zip": foreign.malformed_zip,
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_malformed_files_are_kept_byte_for_byte(store: casckpt.Store, out: Path, tmp_path: Path, kind: str) -> None:
    count = 0
    for number, (_, data) in enumerate(MALFORMED[kind]()):
        (out / f"{number}.{kind}").write_bytes(data)
        # Once more inside an archive, as a member that looks like an array.
        (out / f"{number}.in.zip").write_bytes(foreign.plain_zip({f"{number}.npy": data}))
        count += 1
    assert count >= 30
    store.commit_path(out)
    assert_comes_back(store, out, tmp_path / "back")


def _whole(kind: str) -> bytes:
    if kind == "safetensors":
        return safetensors.torch.save({"a": torch.arange(70_000), "b": torch.ones(80_000)})
    if kind == "npy":
        return foreign.npy()
    return foreign.plain_zip({"a/data/0": foreign.DATA, "b.npy": foreign.npy()})


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["safetensors", "npy", "zip"]),
    st.lists(st.tuples(st.floats(-1, 1), st.binary(max_size=6)), max_size=4),
    st.integers(0, 3000),
)
def test_mutated_files_are_kept_byte_for_byte(
    tmp_path: Path, kind: str, edits: list[tuple[float, bytes]], cut: int
) -> None:
    data = bytearray(_whole(kind))
    for where, new in edits:  # near both ends, where the tables are
        at = int(where * 600) % len(data)
        data[at : at + len(new)] = new
    data = data[: len(data) - cut // 2 * (cut % 2)]
    path = tmp_path / "mutated"
    path.write_bytes(data)
    with casckpt.memory() as store:
        store.commit_path(path)
        database = store._repository.database
        identity = resolve(database, "main")
        loader = Loader(database, identity, require_tree(database, identity))
        (loaded,) = loader.components(loader.tree())
        assert b"".join(loader.pieces(loaded, 0)) == data


def test_a_sparse_file_comes_back_byte_for_byte(store: casckpt.Store, out: Path, tmp_path: Path) -> None:
    with (out / "sparse").open("wb") as file:
        for at in (5, 33 * MIB + 1, 90 * MIB):
            file.seek(at)
            file.write(noise(f"island {at}", 2 * MIB + 3))
        file.truncate(128 * MIB + 1)
    (out / "all hole").touch()
    os.truncate(out / "all hole", 20 * MIB)
    info = store.commit_path(out)
    assert info.nbytes == 148 * MIB + 1
    assert info.added is not None
    assert info.added < 12 * MIB
    (out / "copy").write_bytes((out / "sparse").read_bytes())
    again = store.commit_path(out)
    assert again.added is not None
    assert again.added < 64 << 10
    assert_comes_back(store, out, tmp_path / "back")


def test_a_huge_sparse_file_costs_what_its_data_costs(
    store: casckpt.Store, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size, at = 50 << 30, 20 << 30
    with (out / "huge").open("wb") as file:
        file.seek(at)
        file.write(noise("island", 3 * MIB))
        file.truncate(size)
    read = 0
    plain = os.pread, os.preadv

    def pread(descriptor: int, length: int, offset: int) -> bytes:
        nonlocal read
        read += length
        return plain[0](descriptor, length, offset)

    def preadv(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        nonlocal read
        read += sum(map(len, buffers))
        return plain[1](descriptor, buffers, offset)

    monkeypatch.setattr(os, "pread", pread)
    monkeypatch.setattr(os, "preadv", preadv)
    info = store.commit_path(out)
    assert info.nbytes == size
    assert read < 24 * MIB
    assert info.added is not None
    assert info.added < 6 * MIB
    again = store.commit_path(out)
    assert again.added is not None
    assert again.added < 64 << 10


def test_damage_in_a_file_is_named_by_its_path(store: casckpt.Store, out: Path, tmp_path: Path) -> None:
    safetensors.torch.save_file(model(3), out / "m.safetensors")
    store.commit_path(out)
    database = store._repository.database
    (pack,) = database.pack_set()
    record = max(
        (record for record in database.packs.records(pack) if record.kind == Kind.CHUNK),
        key=lambda record: record.stored,
    )
    (path,) = (tmp_path / "store" / "packs").iterdir()
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.seek(record.offset + 10)
        file.write(b"damage")
    with pytest.raises(DamagedLeaf, match=r"out/m\.safetensors"):
        store.checkout_path("main", tmp_path / "back")
    assert not store.fsck("full").ok
    assert not (tmp_path / "back").exists()
