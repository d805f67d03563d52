"""Exports load in the libraries they are for, bit for bit; what a format cannot hold is refused before writing."""

from __future__ import annotations

import json
import sys
from collections import Counter, OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import casckpt
from casckpt.errors import (
    MissingLibrary,
    NotExportable,
    NotFoundError,
    PickleBlocked,
    TargetExists,
    UsageError,
)
from casckpt.foreign import safetensors_header
from casckpt.ops import dense
from casckpt.ops.decode import decode
from casckpt.store import Store

NUMPY = ("bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float16", "float32")
NUMPY += ("float64", "complex64", "complex128")
SMALL_FLOATS = ("bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu")


@pytest.fixture
def store() -> Iterator[Store]:
    with casckpt.memory() as store:
        yield store


def tensor(dtype: str, *shape: int) -> torch.Tensor:
    """A tensor of any dtype with every kind of bits in it."""
    kind = getattr(torch, dtype)
    count = int(np.prod(shape)) * kind.itemsize
    bits = torch.from_numpy(np.random.default_rng(count).integers(0, 256, count, np.uint8))
    if dtype == "bool":
        bits &= 1
    return bits.view(kind).reshape(shape) if count else torch.zeros(shape, dtype=kind)


def bits(value: Any) -> Any:
    """The bytes of a tensor or array, in C order."""
    if isinstance(value, torch.Tensor):
        value = value.detach().contiguous().flatten().view(torch.uint8).numpy()
    return np.ascontiguousarray(value).tobytes()


def assert_same(found: Any, wanted: Any) -> None:
    assert (str(found.dtype), tuple(found.shape)) == (str(wanted.dtype), tuple(wanted.shape))
    assert bits(found) == bits(wanted)


def tensors() -> dict[str, torch.Tensor]:
    """Tensors of every dtype that safetensors has, and all the ways they can lie."""
    found = {f"of.{dtype}": tensor(dtype, 3, 5) for dtype in (*NUMPY, *SMALL_FLOATS) if dtype != "complex128"}
    whole = tensor("float32", 40, 30)
    return found | {
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 7),
        "transposed": whole.T,
        "channels": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "expanded": torch.randn(1, 4).expand(6, 4),
        "view": whole[10:20],
        "gaps": torch.randn(50)[::3],
        "grad": torch.nn.Parameter(torch.randn(4)),
    }


class TestSafetensors:
    def test_every_dtype_and_layout_loads_in_the_library_bit_for_bit(self, store: Store, tmp_path: Path) -> None:
        state = tensors()
        store.commit(state)
        report = store.export("main", tmp_path / "m.safetensors")
        found = safetensors.torch.load_file(tmp_path / "m.safetensors")
        assert set(found) == set(state)
        for name, wanted in state.items():
            assert_same(found[name], wanted)
        assert (report.format, report.leaves, report.part) == ("safetensors", len(state), "")
        assert report.nbytes == (tmp_path / "m.safetensors").stat().st_size

    def test_the_file_is_what_the_library_writes_byte_for_byte(self, store: Store, tmp_path: Path) -> None:
        state = {name: value.detach().clone().contiguous() for name, value in tensors().items()}
        state['ünïcode "quoted"\\'] = torch.ones(2)
        store.commit(state)
        store.export("main", tmp_path / "m.safetensors")
        safetensors.torch.save_file(state, tmp_path / "theirs.safetensors", metadata={"format": "pt"})
        assert (tmp_path / "m.safetensors").read_bytes() == (tmp_path / "theirs.safetensors").read_bytes()

    def test_names_are_the_keys_joined_by_dots(self, store: Store, tmp_path: Path) -> None:
        store.commit({"model": {"fc.weight": torch.ones(2), "blocks": [torch.zeros(1)], 7: {"x": torch.ones(1)}}})
        store.export("main", tmp_path / "a.safetensors")
        assert set(safetensors.torch.load_file(tmp_path / "a.safetensors")) == {
            "model.fc.weight", "model.blocks.0", "model.7.x",
        }  # fmt: skip
        store.export("main:model", tmp_path / "b.safetensors")
        assert set(safetensors.torch.load_file(tmp_path / "b.safetensors")) == {"fc.weight", "blocks.0", "7.x"}
        store.export("main:model/fc.weight", tmp_path / "c.safetensors")
        assert set(safetensors.torch.load_file(tmp_path / "c.safetensors")) == {"fc.weight"}

    def test_a_state_dict_keeps_its_names_and_loses_its_metadata_only(self, store: Store, tmp_path: Path) -> None:
        model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
        store.commit({"model": model.state_dict()})
        store.export("main:model.safetensors", tmp_path / "m.safetensors")
        other = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
        other.load_state_dict(safetensors.torch.load_file(tmp_path / "m.safetensors"))
        for name, value in other.state_dict().items():
            assert_same(value, model.state_dict()[name])

    def test_tied_weights_are_written_for_each_name_and_told(self, store: Store, tmp_path: Path) -> None:
        weight = torch.randn(5, 5)
        state = {"a": {"w": weight, "other": weight[1:]}, "b": {"w": weight}}
        store.commit(state)
        store.export("main", tmp_path / "m.safetensors")
        with safetensors.safe_open(tmp_path / "m.safetensors", "pt") as file:
            assert json.loads(file.metadata()["casckpt.aliases"]) == {"b.w": "a.w"}
            assert_same(file.get_tensor("b.w"), weight)
        found = decode(tmp_path / "m.safetensors", "m", None)
        assert found["a.w"].data_ptr() == found["b.w"].data_ptr() != found["a.other"].data_ptr()

    def test_aliases_that_lie_are_not_believed(self, tmp_path: Path) -> None:
        data = {"x": torch.ones(3), "y": torch.zeros(3), "z": torch.ones(4)}
        lies = json.dumps({"y": "x", "z": "x", "x": "nobody", "nobody": "x", "a": 3})
        safetensors.torch.save_file(data, tmp_path / "m.safetensors", metadata={"casckpt.aliases": lies})
        found = decode(tmp_path / "m.safetensors", "m", None)
        for name, wanted in data.items():
            assert_same(found[name], wanted)

    @pytest.mark.parametrize("text", ["{", "[]", "3", '{"y": ["x"]}', "[" * 100_000])
    def test_aliases_that_are_no_map_are_passed_over(self, tmp_path: Path, text: str) -> None:
        data = {"x": torch.ones(3), "y": torch.ones(3)}
        safetensors.torch.save_file(data, tmp_path / "m.safetensors", metadata={"casckpt.aliases": text})
        assert set(decode(tmp_path / "m.safetensors", "m", None)) == {"x", "y"}

    def test_arrays_are_written_for_numpy(self, store: Store, tmp_path: Path) -> None:
        state = {"a": np.arange(6.0).reshape(2, 3), "f": np.asfortranarray(np.arange(6).reshape(2, 3))}
        store.commit(state)
        store.export("main", tmp_path / "m.safetensors")
        found = decode(tmp_path / "m.safetensors", "m", None)
        for name, wanted in state.items():
            assert isinstance(found[name], np.ndarray)
            assert_same(found[name], wanted)

    @pytest.mark.parametrize(
        ("value", "word"),
        [
            (3, "int"), (None, "None"), ("text", "str"),
            (list(range(100)), "a list of numbers"), (b"x" * 2000, "bytes"),
            (np.float32(1), "numpy scalar"), (np.array(["a"]), "<U1"), (np.array([1.0], ">f8"), ">f8"),
            (torch.zeros(2, dtype=torch.complex128), "complex128"), (np.array(["2020"], "M8[D]"), "M8"),
            (Counter(a=1), "Counter"), ({1, 2}, "set"),
        ],
    )  # fmt: skip
    def test_what_it_cannot_hold_is_refused_by_name(self, store: Store, tmp_path: Path, value: Any, word: str) -> None:
        store.commit({"model": {"w": torch.ones(2)}, "extra": {"odd": value}})
        with pytest.raises(NotExportable, match="extra/odd") as caught:
            store.export("main", tmp_path / "m.safetensors")
        assert word in str(caught.value)
        assert list(tmp_path.iterdir()) == []
        store.export("main", tmp_path / "m.safetensors", select="model/**")
        assert set(safetensors.torch.load_file(tmp_path / "m.safetensors")) == {"model.w"}

    def test_two_leaves_of_one_name_are_refused_with_both(self, store: Store, tmp_path: Path) -> None:
        store.commit({"a": {"b": torch.ones(1)}, "a.b": torch.ones(1), "m": {0: torch.ones(1), "0": torch.ones(1)}})
        with pytest.raises(NotExportable) as caught:
            store.export("main", tmp_path / "m.safetensors")
        assert len(caught.value.facts["paths"]) == 2
        assert "a/b" in str(caught.value)

    @pytest.mark.parametrize("key", [1.5, b"k", (1, 2), None, True, "\ud800", "__metadata__"])
    def test_keys_without_a_name_are_refused(self, store: Store, tmp_path: Path, key: Any) -> None:
        store.commit({"m": {"x": 1}, key: torch.ones(1)})
        with pytest.raises(NotExportable):
            store.export("main", tmp_path / "m.safetensors", select=["**", "__metadata__"])
        assert list(tmp_path.iterdir()) == []

    def test_a_header_that_no_reader_accepts_is_refused(
        self, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(safetensors_header, "HEADER_MAX", 60)
        store.commit({"a" * 100: torch.ones(1)})
        with pytest.raises(NotExportable, match="names take more"):
            store.export("main", tmp_path / "m.safetensors")

    def test_large_ranges_are_gathered_through_a_file(
        self, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(dense, "IN_MEMORY_BYTES", 1000)
        monkeypatch.setattr(dense, "PIECE_BYTES", 4096)
        state = {"t": torch.randn(300, 200).T, "c": torch.randn(4, 8, 30, 30).to(memory_format=torch.channels_last)}
        state["b"] = torch.randn(77, 333).bfloat16().T
        store.commit(state)
        store.export("main", tmp_path / "m.safetensors")
        found = safetensors.torch.load_file(tmp_path / "m.safetensors")
        for name, wanted in state.items():
            assert_same(found[name], wanted)
        assert [path.name for path in tmp_path.iterdir()] == ["m.safetensors"]

    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["float32", "int64", "bfloat16", "uint8"]),
                st.lists(st.integers(0, 6), max_size=4),
                st.randoms(use_true_random=False),
            ),
            max_size=6,
        )
    )
    def test_any_layout_round_trips(self, tmp_path: Path, entries: list[Any]) -> None:
        state = {}
        for number, (dtype, shape, random) in enumerate(entries):
            order = list(range(len(shape)))
            random.shuffle(order)
            state[str(number)] = tensor(dtype, *shape).permute(order)
        with casckpt.memory() as store:
            store.commit({"m": state})
            store.export("main:m", tmp_path / "m.safetensors", replace=True)
        found = safetensors.torch.load_file(tmp_path / "m.safetensors")
        assert set(found) == set(state)
        for name, wanted in state.items():
            assert_same(found[name], wanted)


class TestNpz:
    def test_every_dtype_and_layout_loads_in_numpy_bit_for_bit(self, store: Store, tmp_path: Path) -> None:
        state: dict[str, Any] = {dtype: tensor(dtype, 3, 4) for dtype in NUMPY}
        state |= {
            "big": np.arange(5, dtype=">i4"), "text": np.array(["a", "bcd"]), "raw": np.array([b"ab", b"c"]),
            "time": np.array(["2020-01-01"], "M8[D]"), "void": np.zeros(3, "V5"), "none": np.zeros((0, 3)),
            "F": np.asfortranarray(np.arange(12.0).reshape(3, 4)), "0d": np.array(1.5), "t": torch.randn(4, 3).T,
        }  # fmt: skip
        store.commit(state)
        store.export("main", tmp_path / "m.npz")
        with np.load(tmp_path / "m.npz") as found:
            assert set(found) == set(state)
            for name, wanted in state.items():
                array = wanted.numpy() if isinstance(wanted, torch.Tensor) else wanted
                assert_same(found[name], array)
            assert found["F"].flags.f_contiguous

    def test_equal_states_are_equal_files(self, store: Store, tmp_path: Path) -> None:
        store.commit({"w": np.arange(10.0)})
        for name in ("a.npz", "b.npz"):
            store.export("main", tmp_path / name)
        assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()

    @pytest.mark.parametrize("dtype", [*SMALL_FLOATS, "complex32"])
    def test_what_numpy_has_no_dtype_for_is_refused_by_name(self, store: Store, tmp_path: Path, dtype: str) -> None:
        store.commit({"model": {"w": tensor(dtype, 4)}})
        with pytest.raises(NotExportable, match=f"model/w.*{dtype}"):
            store.export("main", tmp_path / "m.npz")
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("names", [["w", "w.npy"], ["a\0b"], ["x" * 61_000]])
    def test_names_that_numpy_would_not_find_are_refused(self, store: Store, tmp_path: Path, names: list[str]) -> None:
        store.commit({name: np.ones(1) for name in names})
        with pytest.raises(NotExportable):
            store.export("main", tmp_path / "m.npz")


class TestPt:
    def test_a_state_loads_with_weights_only(self, store: Store, tmp_path: Path) -> None:
        model = torch.nn.Linear(3, 4)
        optimizer = torch.optim.AdamW(model.parameters())
        model(torch.ones(1, 3)).sum().backward()
        optimizer.step()
        store.commit({"model": model.state_dict(), "opt": optimizer.state_dict(), "step": 3})
        store.export("main", tmp_path / "all.pt")
        found = torch.load(tmp_path / "all.pt", weights_only=True)
        optimizer.load_state_dict(found["opt"])
        assert found["step"] == 3
        assert found["model"]._metadata == model.state_dict()._metadata
        store.export("main:model.pt", tmp_path / "model.bin")
        model.load_state_dict(torch.load(tmp_path / "model.bin", weights_only=True))

    def test_what_shares_memory_is_written_once(self, store: Store, tmp_path: Path) -> None:
        weight = torch.randn(500, 500)
        store.commit({"a": {"w": weight}, "b": {"w": weight}})
        report = store.export("main", tmp_path / "m.pt")
        found = torch.load(tmp_path / "m.pt", weights_only=True)
        assert found["a"]["w"].data_ptr() == found["b"]["w"].data_ptr()
        assert report.nbytes < 1.1 * weight.nbytes

    def test_a_pickle_inside_is_not_run_to_export_it(self, store: Store, tmp_path: Path) -> None:
        store.commit({"m": {"w": torch.ones(1)}, "p": slice_of_code}, allow_pickle=True)
        with pytest.raises(PickleBlocked):
            store.export("main", tmp_path / "m.pt")
        assert list(tmp_path.iterdir()) == []
        store.export("main:m", tmp_path / "m.pt")

    def test_a_full_disk_is_an_error_of_the_disk(self, store: Store) -> None:
        from casckpt.ops.torch_files import save

        with open("/dev/full", "r+b", buffering=0) as full, pytest.raises(OSError, match="No space"):
            save({"w": torch.ones(100_000)}, full)


def slice_of_code() -> None:
    """A function, which only a pickle can hold."""


class TestJson:
    def test_values_are_there_to_be_read(self, store: Store, tmp_path: Path) -> None:
        state = {
            "t": torch.tensor([[1.5, float("nan")]]),
            "h": torch.ones(2).bfloat16(),
            "f8": torch.zeros(1).to(torch.float8_e5m2),
            "large": torch.zeros(4097),
            "a": np.array([1, 2]),
            "inf": float("-inf"),
            "l": [1, (None, True)],
            1: "int",
            "1": "text",
            "b": b"\x01\xff",
            "long": b"x" * 5000,
            "c": 1j,
            "s": np.int8(3),
            "odd": "a\ud800",
            "big": 1 << 99,
            "set": {3},
            "numbers": list(range(70)),
            "od": OrderedDict(x=1),
            "cx": torch.ones(1, dtype=torch.complex64),
            "u": np.array(["é"]),
            "empty": {},
            "none": [],
        }
        store.commit(state)
        report = store.export("main", tmp_path / "m.json")
        found = json.loads((tmp_path / "m.json").read_text())
        assert found["t"] == {"dtype": "float32", "shape": [1, 2], "values": [[1.5, "NaN"]]}
        assert found["h"]["values"] == [1.0, 1.0] and found["f8"]["values"] == [0.0]
        assert found["large"] == {"dtype": "float32", "shape": [4097], "values": None}
        assert found["a"] == {"dtype": "<i8", "shape": [2], "values": [1, 2]}
        assert found["inf"] == "-Infinity" and found["l"] == [1, [None, True]] and found["big"] == 1 << 99
        assert (found["1"], found['"1"']) == ("int", "text")
        assert found["b"] == {"bytes": 2, "hex": "01ff"} and found["long"] == {"bytes": 5000, "hex": None}
        assert found["c"] == [0.0, 1.0] and found["s"] == {"dtype": "|i1", "value": 3}
        assert found["set"] == {"type": "set", "value": [3]} and found["numbers"] == list(range(70))
        assert found["cx"]["values"] == [[1.0, 0.0]] and found["u"]["values"] == ["é"]
        assert (found["empty"], found["none"], found["od"]) == ({}, [], {"x": 1})
        assert report.format == "json"


class TestH5:
    def state(self) -> dict[str, Any]:
        tied = torch.randn(10)
        array = np.arange(6.0).reshape(2, 3)
        return {
            "model": torch.nn.Linear(3, 4).state_dict(),
            "tensors": {d: tensor(d, 3, 4) for d in (*NUMPY, *SMALL_FLOATS)},
            "c32": tensor("complex32", 3),
            "p": torch.nn.Parameter(torch.ones(2)),
            "t1": tied,
            "t2": tied,
            "array": array,
            "texts": np.array(["a", "bé"]),
            "raw": np.array([b"ab", b"c"]),
            "time": np.array(["2020"], "M8[D]"),
            "void": np.zeros(2, "V3"),
            "mask": np.array([True, False]),
            "big-endian": np.arange(3, dtype=">i4"),
            "none": None,
            "true": True,
            "int": 7,
            "big": 1 << 80,
            "negative": -(1 << 70),
            "float": float("nan"),
            "cx": 1j,
            "text": "é",
            "odd": "x\0\ud800",
            "long": "é" * 3000,
            "bytes": b"\0\xff",
            "empty": b"",
            "array-of": bytearray(b"x"),
            "long-bytes": b"x" * 3000,
            "scalar": np.float32(2),
            "np-text": np.str_("ab"),
            "numbers": list(range(100)),
            "flags": [True] * 70,
            "floats": [0.5] * 70,
            "list": [1, (2, [], {})],
            "od": OrderedDict(b=1, a=2),
            "e": {},
            "a/b": 1,
            ".": 2,
            "7": 3,
            7: 4,
            None: 5,
            True: 6,
            "": 7,
            "x\0y": 8,
            "%2E": 9,
            "\ud800": 10,
            "0-d": torch.tensor(3.0),
            "zero": torch.zeros(0, 3),
            "zeros": np.zeros((2, 0)),
        }

    def test_a_state_comes_back_with_every_type(self, store: Store, tmp_path: Path) -> None:
        state = self.state()
        store.commit(state, run="a")
        store.export("a", tmp_path / "m.h5")
        found = decode(tmp_path / "m.h5", "m", None)
        assert list(found) == list(state)
        assert found["t1"] is found["t2"]
        store.commit(found, run="b")
        assert store.diff("a", "b").leaves == ()
        assert found["model"]._metadata == state["model"]._metadata

    def test_any_reader_finds_groups_and_datasets(self, store: Store, tmp_path: Path) -> None:
        import h5py

        weight = torch.randn(6, 4).T
        store.commit({"model": {"w": weight, "h": torch.ones(2).bfloat16()}, "l": [1, 2]})
        store.export("main", tmp_path / "m.h5")
        with h5py.File(tmp_path / "m.h5") as file:
            assert np.array_equal(file["model/w"][()], weight.numpy())
            assert file["model/h"].dtype == np.uint16
            assert file["model/h"].attrs["casckpt_dtype"] == "bfloat16"
            assert file["l"].attrs["casckpt_kind"] == "list" and list(file["l"]) == ["0", "1"]

    def test_a_part_that_is_one_leaf_has_its_name(self, store: Store, tmp_path: Path) -> None:
        import h5py

        store.commit({"m": {"w": np.ones(3)}})
        store.export("main:m/w", tmp_path / "w.h5")
        with h5py.File(tmp_path / "w.h5") as file:
            assert list(file) == ["w"]

    def test_what_it_cannot_hold_is_refused_by_name(self, store: Store, tmp_path: Path) -> None:
        odd = {"key": {1.5: 1}, "bytes": {b"k": 1}, "set": {1}, "dims": np.ones((1,) * 33), "width": np.empty(2, "V0")}
        for name, value in odd.items():
            store.commit({"m": {name: value}})
            with pytest.raises(NotExportable, match=f"m/{name}"):
                store.export("main", tmp_path / "m.h5")
        assert list(tmp_path.iterdir()) == []

    def test_without_h5py_the_error_says_how_to_get_it(
        self, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "h5py", None)
        monkeypatch.delitem(sys.modules, "casckpt.ops.h5", raising=False)
        store.commit({"m": {"w": np.ones(1)}})
        with pytest.raises(MissingLibrary, match=r"pip install casckpt\[h5\]"):
            store.export("main", tmp_path / "m.h5")
        assert list(tmp_path.iterdir()) == []


class TestTheTarget:
    def test_one_that_is_there_stays_unless_it_is_to_be_replaced(self, store: Store, tmp_path: Path) -> None:
        store.commit({"w": np.ones(2)})
        target = tmp_path / "m.npz"
        target.write_text("mine")
        with pytest.raises(TargetExists):
            store.export("main", target)
        assert target.read_text() == "mine"
        store.export("main", target, replace=True)
        with np.load(target) as found:
            assert list(found) == ["w"]
        assert target.stat().st_mode & 0o777 == 0o600
        assert list(tmp_path.iterdir()) == [target]

    def test_a_folder_is_never_replaced(self, store: Store, tmp_path: Path) -> None:
        store.commit({"w": np.ones(2)})
        (tmp_path / "m.npz").mkdir()
        with pytest.raises(TargetExists):
            store.export("main", tmp_path / "m.npz", replace=True)

    @pytest.mark.parametrize("form", ["safetensors", "npz", "pt", "h5", "json"])
    @pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
    def test_an_interrupt_leaves_what_was_there_and_nothing_else(
        self, store: Store, tmp_path: Path, form: str, error: type[BaseException]
    ) -> None:
        store.commit({"m": {"w": torch.randn(600_000), "v": torch.randn(600_000)}})
        target = tmp_path / f"m.{form}"
        target.write_text("mine")

        def stop(done: int, total: int) -> None:
            assert 0 < done <= total
            raise error

        with pytest.raises(error):
            store.export("main", target, replace=True, progress=stop)
        assert target.read_text() == "mine"
        assert list(tmp_path.iterdir()) == [target]

    @pytest.mark.parametrize("form", ["safetensors", "npz", "h5"])
    def test_progress_counts_to_the_end(self, store: Store, tmp_path: Path, form: str) -> None:
        store.commit({"m": {"w": torch.randn(600_000), "t": torch.randn(300, 700).T}})
        told: list[tuple[int, int]] = []
        store.export("main", tmp_path / f"m.{form}", progress=lambda *said: told.append(said))
        assert [done for done, _ in told] == sorted(done for done, _ in told)
        assert len({total for _, total in told}) == 1
        assert told[-1][0] == told[-1][1]


class TestWhatIsAskedFor:
    @pytest.mark.parametrize("form", ["safetensors", "npz", "pt", "json", "h5"])
    def test_a_dry_run_says_what_the_file_would_be_and_leaves_nothing(
        self, store: Store, tmp_path: Path, form: str
    ) -> None:
        store.commit({"w": torch.arange(40_000.0), "b": torch.ones(3)})
        said = store.export("@", tmp_path / f"out.{form}", dry_run=True)
        assert list(tmp_path.iterdir()) == []
        done = store.export("@", tmp_path / f"out.{form}")
        assert (said.dry_run, done.dry_run) == (True, False)
        assert (
            (said.leaves, said.nbytes) == (done.leaves, done.nbytes) == (2, (tmp_path / f"out.{form}").stat().st_size)
        )
        with pytest.raises(TargetExists):
            store.export("@", tmp_path / f"out.{form}", dry_run=True)

    def test_a_suffix_of_the_path_is_a_view_unless_the_commit_has_that(self, store: Store, tmp_path: Path) -> None:
        store.commit({"model": {"w": torch.ones(2)}, "model.npz": {"v": torch.ones(3)}})
        assert store.export("main:model.safetensors", tmp_path / "a").part == "model"
        with pytest.raises(UsageError, match="does not say a format"):
            store.export("main:model.npz", tmp_path / "b")
        store.export("main:model.npz", tmp_path / "c.npz")
        with np.load(tmp_path / "c.npz") as found:
            assert list(found) == ["v"]
        assert store.export("main:model.npz.npz", tmp_path / "d").part == "model.npz"
        assert store.export("main:.json", tmp_path / "e").part == ""
        assert store.export("main:model/w.h5", tmp_path / "f").leaves == 1

    def test_checkout_of_a_view_is_its_export(self, store: Store, tmp_path: Path) -> None:
        store.commit({"model": {"w": torch.ones(2)}, "x.npz": {"v": torch.ones(3)}}, run="a")
        report = store.checkout_path("a:model.safetensors", tmp_path / "m")
        assert (report.files, report.nbytes) == (1, (tmp_path / "m").stat().st_size)
        assert set(safetensors.torch.load_file(tmp_path / "m")) == {"w"}
        with pytest.raises(TargetExists):
            store.checkout_path("a:model.npz", tmp_path / "m")
        store.checkout_path("a:model.npz", tmp_path / "m", replace=True)
        with pytest.raises(UsageError):  # what is committed there is no file
            store.checkout_path("a:x.npz", tmp_path / "n")
        (tmp_path / "w.json").write_text("mine")
        store.commit_path(tmp_path / "w.json", run="files")
        store.checkout_path("files:w.json", tmp_path / "back")
        assert (tmp_path / "back").read_text() == "mine"
        with pytest.raises(NotFoundError):
            store.checkout_path("files:other.json", tmp_path / "n")

    def test_suffixes_and_format_must_agree(self, store: Store, tmp_path: Path) -> None:
        store.commit({"model": {"w": torch.ones(2)}})
        with pytest.raises(UsageError, match="npz and pt"):
            store.export("main:model.npz", tmp_path / "x.pt")
        with pytest.raises(UsageError, match="json and npz"):
            store.export("main:model.npz", tmp_path / "x", format="json")
        with pytest.raises(UsageError, match="format is one of"):
            store.export("main", tmp_path / "x", format="onnx")
        store.export("main:model", tmp_path / "weights.bin", format="safetensors")
        store.export("main:model", tmp_path / "odd.pt", format="npz")
        with np.load(tmp_path / "odd.pt") as found:
            assert list(found) == ["w"]

    def test_parts_that_are_not_there_are_not_found(self, store: Store, tmp_path: Path) -> None:
        store.commit({"model": {"w": torch.ones(2)}})
        for path in ("mode", "model/w/x", "model/", "x.json"):
            with pytest.raises(NotFoundError):
                store.export(f"main:{path}", tmp_path / "x.json")
        with pytest.raises(NotFoundError):
            store.export("main:model", tmp_path / "x.json", select="other")
        assert list(tmp_path.iterdir()) == []

    def test_a_committed_file_comes_out_as_it_is(self, store: Store, tmp_path: Path) -> None:
        source = tmp_path / "evil.pt"
        source.write_bytes(b"PK\3\4 no archive at all")
        store.commit_path(source)
        report = store.export("main", tmp_path / "one.pt")
        assert (report.format, report.part) == ("file", "evil.pt")
        store.export("main:evil.pt", tmp_path / "two")
        assert (tmp_path / "one.pt").read_bytes() == (tmp_path / "two").read_bytes() == source.read_bytes()
        with pytest.raises(UsageError, match="--as state"):
            store.export("main", tmp_path / "m.safetensors")
        with pytest.raises(UsageError, match="--as state"):
            store.export("main:evil.pt", tmp_path / "m", format="json")

    def test_damage_leaves_no_target(self, tmp_path: Path) -> None:
        with casckpt.init(tmp_path / "store") as store:
            store.commit({"m": {"w": torch.randn(600_000)}})
        [pack] = (tmp_path / "store" / "packs").rglob("*.pack")
        data = bytearray(pack.read_bytes())
        data[len(data) // 2] ^= 1
        pack.chmod(0o600)
        pack.write_bytes(data)
        (tmp_path / "out").mkdir()
        for form in ("safetensors", "npz", "pt", "h5"):
            with casckpt.open(tmp_path / "store") as store, pytest.raises(casckpt.errors.DamagedLeaf, match="m/w"):
                store.export("main", tmp_path / "out" / f"m.{form}")
        assert list((tmp_path / "out").iterdir()) == []
