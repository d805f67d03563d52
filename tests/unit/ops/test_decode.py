"""Files of other programs as states: right where they are right, a typed error where they are not, and never code."""

from __future__ import annotations

import contextlib
import os
import pickle
import struct
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import safetensors.torch
import torch

from casckpt.errors import (
    CasckptError,
    FormatError,
    MalformedFile,
    MissingLibrary,
    PickledObjects,
    StorageError,
    StoreFull,
    UnsafePath,
    UnsupportedType,
    UsageError,
)
from casckpt.ops import decode as module
from casckpt.ops import torch_files
from casckpt.ops.decode import decode
from tests.support import foreign


def read(path: Path, **words: Any) -> Any:
    return decode(path, path.name, None, **words)


class Evil:
    """Makes a file where it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.canary),)


def files(folder: Path) -> dict[str, Path]:
    """A whole file of each kind, with a tensor that is large enough to be cut into."""
    weight = torch.randn(300, 300)
    paths = {kind: folder / f"whole.{kind}" for kind in ("safetensors", "npz", "pt", "h5")}
    paths["old"] = folder / "old.bin"
    safetensors.torch.save_file({"w": weight, "b": torch.ones(3)}, paths["safetensors"])
    np.savez(paths["npz"], w=weight.numpy(), b=np.ones(3))
    torch.save({"m": {"w": weight}, "step": 3}, paths["pt"])
    torch.save({"m": {"w": weight}, "step": 3}, paths["old"], _use_new_zipfile_serialization=False)
    with h5py.File(paths["h5"], "w") as file:
        file["m/w"] = weight.numpy()
        file["m"].attrs["step"] = 3
    return paths


class TestWholeFiles:
    def test_safetensors_are_the_tensors_of_the_library(self, tmp_path: Path) -> None:
        state = {"a": torch.randn(3, 4), "b": torch.ones(3).bfloat16(), "c": torch.zeros(0, 3), "d": torch.tensor(2)}
        safetensors.torch.save_file(state, tmp_path / "m.safetensors")
        found = read(tmp_path / "m.safetensors")
        for name, wanted in state.items():
            assert found[name].dtype == wanted.dtype and torch.equal(found[name], wanted)

    def test_tensors_that_do_not_lie_on_their_boundary_are_right(self, tmp_path: Path) -> None:
        data = np.arange(5, dtype="<f4").tobytes()
        entries = {"a": foreign.entry(0, 3), "b": foreign.entry(3, 23, "F32", [5])}
        (tmp_path / "m.safetensors").write_bytes(foreign.safetensors(entries, b"abc" + data))
        assert torch.equal(read(tmp_path / "m.safetensors")["b"], torch.arange(5.0))

    def test_dtypes_that_torch_has_no_exact_form_for_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "m.safetensors").write_bytes(
            foreign.safetensors({"w": foreign.entry(0, 3, "F6_E2M3", [4])}, b"abc")
        )
        with pytest.raises(UnsupportedType, match=r"w: .*F6_E2M3"):
            read(tmp_path / "m.safetensors")

    @pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
    def test_npz_are_the_arrays_of_numpy(self, tmp_path: Path, save: Any) -> None:
        state = {
            "w": np.random.default_rng(0).standard_normal((300, 400)), "F": np.asfortranarray(np.ones((2, 3))),
            "zeros": np.zeros(1 << 20, "u1"), "0": np.array(3), "none": np.zeros((0, 2)), "a/b": np.array(["x"]),
            "big": np.arange(3, dtype=">i2"), "bool": np.array([True]),
        }  # fmt: skip
        save(tmp_path / "m.npz", **state)
        found = read(tmp_path / "m.npz")
        assert list(found) == list(state)
        for name, wanted in state.items():
            assert found[name].dtype == wanted.dtype and np.array_equal(found[name], wanted)
        assert found["F"].flags.f_contiguous

    def test_an_npz_that_python_streamed_is_read(self, tmp_path: Path) -> None:
        with open(tmp_path / "m.npz", "wb") as file, zipfile.ZipFile(_Stream(file), "w") as archive:
            array = np.arange(1000)
            with archive.open("a.npy", "w") as member:
                np.lib.format.write_array(member, array)
        assert np.array_equal(read(tmp_path / "m.npz")["a"], array)

    @pytest.mark.parametrize("is_zip", [True, False])
    def test_torch_files_are_their_states(self, tmp_path: Path, is_zip: bool) -> None:
        model = torch.nn.Linear(300, 4)
        state = {"m": model.state_dict(), "list": [1, (2.5, None)], "tied": model.state_dict()["weight"]}
        torch.save(state, tmp_path / "m.pt", _use_new_zipfile_serialization=is_zip)
        found = read(tmp_path / "m.pt")
        assert isinstance(found["m"], OrderedDict) and found["list"] == state["list"]
        assert torch.equal(found["m"]["weight"], model.weight)
        assert found["tied"].data_ptr() == found["m"]["weight"].data_ptr()

    def test_tensors_lie_in_the_file_and_what_is_done_to_them_does_not(self, tmp_path: Path) -> None:
        for kind, path in files(tmp_path).items():
            before = path.read_bytes()
            found = read(path)
            weight = found["m"]["w"] if "m" in found else found["w"]
            weight[0] = 7
            assert path.read_bytes() == before, kind

    def test_other_peoples_hdf5_is_dicts_of_arrays_and_attributes(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "m.h5", "w") as file:
            file.attrs["backend"], file.attrs["names"] = "x", ["a", "b"]
            file.attrs["raw"], file.attrs["empty"] = np.array([b"a"]), h5py.Empty("f")
            file.attrs["place"] = file.ref
            file.create_dataset("l/kernel", data=np.arange(10000.0), compression="gzip", chunks=(100,))
            file["l/kernel"].attrs["scale"] = 2
            file["text"], file["texts"], file["nothing"] = "é", ["a", "b"], h5py.Empty("f")
            file["fixed"] = np.array([b"ab", b"c"])
            file["same"] = file["l"]
        found = read(tmp_path / "m.h5")
        assert np.array_equal(found["l"]["kernel"], np.arange(10000.0))
        assert found["same"]["kernel"] is found["l"]["kernel"]
        assert found["l"]["kernel@attributes"] == {"scale": 2}
        assert (found["text"], found["texts"], found["nothing"]) == ("é", ["a", "b"], None)
        assert found["fixed"].tolist() == [b"ab", b"c"]
        attributes = found["@attributes"]
        assert set(attributes) == {"backend", "names", "raw", "empty"} and attributes["names"] == ["a", "b"]


class _Stream:
    """A file that cannot seek."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def write(self, data: bytes) -> int:
        return int(self._file.write(data))

    def flush(self) -> None:
        self._file.flush()


class TestPickles:
    @pytest.mark.parametrize("is_zip", [True, False])
    @pytest.mark.parametrize("name", ["m.pt", "m.ckpt", "m.bin", "m.pth"])
    def test_code_in_a_torch_file_is_refused_and_not_run(self, tmp_path: Path, is_zip: bool, name: str) -> None:
        evil = {"w": torch.ones(3), "x": Evil(tmp_path / "canary")}
        torch.save(evil, tmp_path / name, _use_new_zipfile_serialization=is_zip)
        with pytest.raises(PickledObjects, match=r"--as files.*--allow-pickle") as caught:
            read(tmp_path / name)
        assert "mkdir" in str(caught.value)
        assert not (tmp_path / "canary").exists()
        read(tmp_path / name, allow_pickle=True)
        assert (tmp_path / "canary").exists()

    def test_code_in_an_array_of_objects_is_refused_and_not_run(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "m.npz", x=np.array([Evil(tmp_path / "canary")], dtype=object))
        for allowed in (False, True):
            with pytest.raises(MalformedFile, match="Python objects"):
                read(tmp_path / "m.npz", allow_pickle=allowed)
        assert not (tmp_path / "canary").exists()

    def test_a_class_of_the_user_is_refused_by_name(self, tmp_path: Path) -> None:
        torch.save({"path": Path("x")}, tmp_path / "m.pt")
        with pytest.raises(PickledObjects, match="pathlib"):
            read(tmp_path / "m.pt")

    def test_a_file_that_unfolds_without_end_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch_files, "VISITS_FREE", 1000)
        bomb: Any = [1]
        for _ in range(40):
            bomb = [bomb, bomb]
        cycle: list[Any] = []
        cycle.append(cycle)
        for value in (bomb, {"a": cycle}):
            torch.save(value, tmp_path / "m.pt")
            with pytest.raises(MalformedFile, match="unfolds"):
                read(tmp_path / "m.pt")


def malformed_npz() -> Iterator[tuple[str, bytes]]:
    """Archives that no reader of npz may believe, and whole ones around arrays that none may."""
    yield from foreign.malformed_zip()
    for what, data in foreign.malformed_npy():
        yield f"an array: {what}", _archive({"w.npy": data})
    good = _array(np.arange(100_000))
    yield "no array", _archive({"w.txt": b"text"})
    yield "something behind the data", _archive({"w.npy": good + b"x"})
    yield "less data than the shape", _archive({"w.npy": good[:-1]})
    yield "another compression", _archive({"w.npy": good}, zipfile.ZIP_BZIP2)
    stored, packed = _archive({"w.npy": good}), _archive({"w.npy": good}, zipfile.ZIP_DEFLATED)
    flipped = bytearray(stored)
    flipped[len(flipped) // 2] ^= 1
    yield "a flipped bit in an array", bytes(flipped)
    for at in range(200, len(packed) - 200, len(packed) // 8):
        flipped = bytearray(packed)
        flipped[at] ^= 0x10
        yield f"a flipped bit at {at} in a compressed array", bytes(flipped)
    for lie in (1, 100, 1 << 31):
        # The length of the plain bytes, in the local header (22) and in the directory (24).
        lying = bytearray(packed)
        at = packed.index(b"PK\1\2")
        for place in (22, at + 24):
            lying[place : place + 4] = struct.pack("<I", lie)
        yield f"a compressed array of {lie} bytes", bytes(lying)


def _array(array: Any) -> bytes:
    import io

    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _archive(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    import io

    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def malformed_torch() -> Iterator[tuple[str, bytes]]:
    """Archives of torch and old files that are cut, flipped, or have pickles that lead nowhere."""
    import io

    whole = io.BytesIO()
    torch.save({"w": torch.randn(300, 300), "s": "text"}, whole)
    data = whole.getvalue()
    for stop in range(0, len(data) - 1, len(data) // 12):
        yield f"cut after {stop} bytes", data[:stop]
    with zipfile.ZipFile(whole) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    pickled = next(name for name in members if name.endswith("data.pkl"))
    storage = next(name for name in members if name.endswith("data/0"))
    plain = members[pickled]
    for stop in range(0, len(plain), len(plain) // 8):
        yield f"a pickle of {stop} bytes", _archive({**members, pickled: plain[:stop]})
    for what, inner in {
        "text": b"hello", "an unknown opcode": b"\x80\x02\xff.", "an empty stack": b"\x80\x02.",
        "a memo that is not there": b"\x80\x02h\x05.", "a long of 2 GB": b"\x80\x02\x8b\xff\xff\xff\x7f.",
        "bytes of 8 EB": b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7f.", "a global": b"\x80\x02cos\nsystem\n.",
        "a persistent id": b"\x80\x02X\1\0\0\0aQ.", "another protocol": b"\x80\x09.",
        "a storage that is longer than its member": plain.replace(b"J\x90\x5f\x01\0", b"J\x91\x5f\x01\0"),
        "a storage that is longer than the file": plain.replace(b"J\x90\x5f\x01\0", b"J\xff\xff\xff\x7f"),
        "a tensor that is larger than its storage": plain.replace(b"M\x2c\x01", b"M\x2d\x01"),
    }.items():  # fmt: skip
        assert inner != plain
        yield f"a pickle: {what}", _archive({**members, pickled: inner})
    yield "a storage that is cut", _archive({**members, storage: members[storage][:100]})
    yield "no storage", _archive({name: data for name, data in members.items() if name != storage})
    yield "no pickle", _archive({name: data for name, data in members.items() if name != pickled})
    yield "compressed members", _archive(members, zipfile.ZIP_DEFLATED)
    yield from ((f"an archive: {what}", data) for what, data in foreign.malformed_zip())
    old = io.BytesIO()
    torch.save({"w": torch.randn(300, 300)}, old, _use_new_zipfile_serialization=False)
    data = old.getvalue()
    for stop in range(0, len(data) - 1, len(data) // 8):
        yield f"an old file cut after {stop} bytes", data[:stop]
    yield "a plain pickle of a list", pickle.dumps([1, 2])[:-1]


def malformed_h5(folder: Path) -> Iterator[tuple[str, bytes]]:
    """HDF5 files that are cut or flipped, lie about their size, or reach outside of themselves."""

    def made(fill: Any) -> bytes:
        path = folder / "made.h5"
        path.unlink(missing_ok=True)
        with h5py.File(path, "w") as file:
            fill(file)
        return path.read_bytes()

    whole = made(lambda file: file.create_dataset("m/w", data=np.arange(9000.0)))
    for stop in range(0, len(whole), len(whole) // 20):
        yield f"cut after {stop} bytes", whole[:stop]
    for at in (0, 3, 7, 8, 13):
        flipped = bytearray(whole)
        flipped[at] ^= 0xFF
        yield f"a flipped byte at {at} of the superblock", bytes(flipped)
    ours = {"casckpt_version": 1}

    def lists(file: Any) -> None:
        file.attrs.update(ours)
        file.create_group("l").attrs["casckpt_kind"] = "list"
        file["l/1"] = 1
        file["l/1"].attrs["casckpt_kind"] = "int"

    def kinds(**attributes: Any) -> Any:
        def fill(file: Any) -> None:
            file.attrs.update(ours)
            file["x"] = np.arange(4, dtype="u2")
            file["x"].attrs.update(attributes)

        return fill

    def cycle(file: Any) -> None:
        file.create_group("a")
        file["a/again"] = file["a"]

    def bomb(file: Any) -> None:
        inner = file.create_group("g0")
        for number in range(1, 40):
            outer = file.create_group(f"g{number}")
            outer["a"] = outer["b"] = inner
            inner = outer

    for what, fill in {
        "claims 8 TB": lambda file: file.create_dataset("x", (1 << 40,), "f8", chunks=(1 << 20,)),
        "claims 100 MB thrice": lambda file: [file.create_dataset(n, (100 << 17,), "f8", chunks=True) for n in "abc"],
        "an external link": lambda file: file.__setitem__("x", h5py.ExternalLink("/etc/hostname", "/")),
        "a soft link": lambda file: file.__setitem__("x", h5py.SoftLink("/y")),
        "external storage": lambda file: file.create_dataset("x", (4,), "u1", external=[("/etc/hostname", 0, 4)]),
        "a virtual dataset": _virtual,
        "references": lambda file: file.create_dataset("x", data=np.array([file.ref], h5py.ref_dtype)),
        "a named type": lambda file: file.__setitem__("x", np.dtype("f8")),
        "vlen arrays": lambda file: file.create_dataset("x", (2,), h5py.vlen_dtype(np.int32)),
        "a list with a gap": lists, "a cycle": cycle, "a bomb": bomb,
        "no kind": kinds(), "an unknown kind": kinds(casckpt_kind="thing"),
        "a tensor of no dtype": kinds(casckpt_kind="tensor"), "a number that is many": kinds(casckpt_kind="int"),
        "a tensor of an unknown dtype": kinds(casckpt_kind="tensor", casckpt_dtype="float9"),
        "a tensor of a wider dtype": kinds(casckpt_kind="tensor", casckpt_dtype="float32"),
        "a tensor with unknown flags": kinds(casckpt_kind="tensor", casckpt_dtype="int16", casckpt_flags=64),
        "a scalar that is many": kinds(casckpt_kind="scalar", casckpt_dtype="<f4"),
        "an array of objects": kinds(casckpt_kind="array", casckpt_dtype="|O"),
    }.items():  # fmt: skip
        yield what, made(fill)


def _virtual(file: Any) -> None:
    layout = h5py.VirtualLayout((4,), "u1")
    layout[:] = h5py.VirtualSource("/etc/hostname", "x", (4,))
    file.create_virtual_dataset("x", layout)


class TestMalformedFiles:
    def check(self, path: Path, cases: Iterator[tuple[str, bytes]], least: int) -> None:
        """Each is a typed error that names the file."""
        seen = {}
        for what, data in cases:
            path.write_bytes(data)
            try:
                read(path)
            except CasckptError as error:
                seen[what] = error
            else:
                raise AssertionError(what)
        wrong = {what: error for what, error in seen.items() if not isinstance(error, UsageError | FormatError)}
        assert not wrong
        assert [what for what, error in seen.items() if path.name not in str(error)] == []
        assert len(seen) >= least

    def test_safetensors(self, tmp_path: Path) -> None:
        self.check(tmp_path / "m.safetensors", foreign.malformed_safetensors(), 30)

    def test_npz(self, tmp_path: Path) -> None:
        self.check(tmp_path / "m.npz", malformed_npz(), 30)

    def test_torch(self, tmp_path: Path) -> None:
        self.check(tmp_path / "m.pt", malformed_torch(), 30)

    def test_hdf5(self, tmp_path: Path) -> None:
        self.check(tmp_path / "m.h5", malformed_h5(tmp_path), 30)

    def test_hdf5_with_flipped_bytes_is_read_or_refused(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "whole.h5", "w") as file:
            file["m/w"] = np.arange(100.0)
            file["m"].attrs["step"] = 3
        whole = (tmp_path / "whole.h5").read_bytes()
        for at in range(0, len(whole) - 800, 41):
            flipped = bytearray(whole)
            flipped[at] ^= 0xFF
            (tmp_path / "m.h5").write_bytes(flipped)
            with contextlib.suppress(MalformedFile):
                assert isinstance(read(tmp_path / "m.h5"), dict)

    def test_a_storage_in_another_place_than_a_member_is_read_by_torch_itself(self, tmp_path: Path) -> None:
        # An array of bytes of its own, next to tensors of the file.
        state = {"w": torch.randn(50), "sparse": torch.eye(3).to_sparse()}
        torch.save(state, tmp_path / "m.pt")
        found = read(tmp_path / "m.pt")
        assert torch.equal(found["w"], state["w"]) and found["sparse"].is_sparse


class TestWhatIsNoFile:
    def test_unknown_suffixes_are_refused_by_name(self, tmp_path: Path) -> None:
        (tmp_path / "m.gguf").write_bytes(b"GGUF")
        with pytest.raises(UsageError, match=r"m\.gguf.*safetensors"):
            read(tmp_path / "m.gguf")

    @pytest.mark.parametrize("suffix", sorted(module.DECODED))
    def test_links_pipes_and_folders_are_refused_unread(self, tmp_path: Path, suffix: str) -> None:
        link, pipe, folder = (tmp_path / f"{kind}{suffix}" for kind in ("link", "pipe", "folder"))
        link.symlink_to("/etc/hostname")
        os.mkfifo(pipe)
        folder.mkdir()
        for path in (link, pipe, folder, tmp_path / f"absent{suffix}"):
            with pytest.raises((UnsafePath, StorageError)):
                read(path)

    def test_a_member_that_has_no_room_to_be_unpacked_is_not(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        np.savez_compressed(tmp_path / "m.npz", w=np.zeros(10_000))
        monkeypatch.setattr(module.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000}))
        with pytest.raises(StoreFull):
            read(tmp_path / "m.npz")

    def test_torch_files_without_torch_say_how_to_get_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import sys

        torch.save([1], tmp_path / "m.pt")
        monkeypatch.setitem(sys.modules, "torch", None)
        monkeypatch.delitem(sys.modules, "casckpt.ops.torch_files", raising=False)
        with pytest.raises(MissingLibrary, match=r"casckpt\[torch\]"):
            read(tmp_path / "m.pt")

    def test_check_sums_are_compared(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "m.npz", w=np.arange(100_000))
        data = bytearray((tmp_path / "m.npz").read_bytes())
        data[len(data) // 2] ^= 1
        (tmp_path / "m.npz").write_bytes(data)
        assert zlib.crc32(bytes(data)) and np.load(tmp_path / "m.npz").files == ["w"]
        with pytest.raises(MalformedFile, match="check sum"):
            read(tmp_path / "m.npz")
