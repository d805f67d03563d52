from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from casckpt.errors import UsageError
from casckpt.format.codec import Codec
from casckpt.format.decode import decode
from casckpt.format.elements import element_code
from casckpt.format.finite import FINITE, NON_FINITE
from casckpt.format.pack import Record
from casckpt.odb import coder as c
from casckpt.odb.coder import ChunkCoder, Speeds, check_policy, keeps_up
from casckpt.storage.local import LocalStorage
from casckpt.storage.memory import MemoryStorage

FLOAT32, INT64, OPAQUE = element_code("float32"), element_code("int64"), element_code("bytes")


def floats(count: int = 1 << 18) -> memoryview:
    return np.random.default_rng(1).standard_normal(count, np.float32).view(np.uint8).data


def noise(count: int = 1 << 20) -> memoryview:
    return np.random.default_rng(2).integers(0, 256, count, np.uint8).data


def zeros(count: int = 1 << 20) -> memoryview:
    return np.zeros(count, np.uint8).data


def local(path: Path) -> LocalStorage:
    storage = LocalStorage(path)
    storage.make_root()
    storage.make_dir("tmp")
    return storage


@pytest.mark.parametrize(
    ("policy", "fast", "data", "element", "pays"),
    [
        ("off", True, zeros(), FLOAT32, False),
        ("always", False, noise(), OPAQUE, True),
        ("auto", True, floats(), FLOAT32, True),
        ("auto", False, floats(), FLOAT32, False),
        ("auto", True, noise(), OPAQUE, False),
        ("auto", True, noise(), FLOAT32, False),
        ("auto", False, zeros(), FLOAT32, True),
        ("auto", False, np.arange(1 << 17).view(np.uint8).data, INT64, True),
        ("auto", False, zeros(70_000), OPAQUE, True),
    ],
)
def test_a_sample_of_the_content_and_the_machine_decide(
    policy: Any, fast: bool, data: memoryview, element: int, pays: bool
) -> None:
    assert ChunkCoder(policy, keeps_up=fast).pays(data, element) is pays


@pytest.mark.parametrize("encoded", [False, True])
def test_what_is_coded_decodes_to_the_same_bytes(encoded: bool) -> None:
    coder = ChunkCoder("always", keeps_up=False)
    for data, element in ((floats(), FLOAT32), (noise(), OPAQUE), (zeros(), INT64), (floats(77), FLOAT32)):
        codec, stored, _ = coder.code(data, element, encoded=encoded)
        record = Record(bytes(32), 0, len(data), len(stored), 0, codec, element)  # type: ignore[arg-type]
        assert bytes(decode(record, stored)) == bytes(data)
        assert len(stored) <= len(data)
        assert encoded or (codec == Codec.RAW and stored is data)


def test_the_flag_says_whether_numbers_are_finite() -> None:
    coder = ChunkCoder("auto", keeps_up=False)
    for encoded in (False, True):
        values = np.ones(1000, np.float32)
        assert coder.code(values.view(np.uint8).data, FLOAT32, encoded=encoded)[2] == FINITE
        values[999] = np.nan
        assert coder.code(values.view(np.uint8).data, FLOAT32, encoded=encoded)[2] == NON_FINITE
        assert coder.code(noise(100), OPAQUE, encoded=encoded)[2] == 0


def test_policies_have_names() -> None:
    assert [check_policy(name) for name in ("auto", "always", "off")] == ["auto", "always", "off"]
    with pytest.raises(UsageError, match="auto, always, off"):
        check_policy("best")


def test_a_machine_is_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = local(tmp_path)
    keeps_up(storage, 2)
    noted = json.loads((tmp_path / "speeds").read_text())
    assert noted["write"] > 1e6
    assert noted["encode"] > 1e6
    assert storage.list("tmp") == []

    def measure(*_: object) -> float:
        raise AssertionError("measured again")

    monkeypatch.setattr(c, "_measure_disk", measure)
    keeps_up(storage, 2)


@pytest.mark.parametrize(("write", "encode", "threads", "expected"), [(2e9, 1.9e9, 2, False), (2e9, 2e9, 2, True)])
def test_the_workers_together_must_be_twice_as_fast_as_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: float, encode: float, threads: int, expected: bool
) -> None:
    monkeypatch.setattr(c, "_measure_disk", lambda storage: write)
    monkeypatch.setattr(c, "_measure_encoding", lambda: encode)
    assert keeps_up(local(tmp_path), threads) is expected


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"machine": "x", "write": "fast", "encode": 1}'])
def test_a_note_that_cannot_be_read_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    (tmp_path / "speeds").write_text(content)
    monkeypatch.setattr(c, "_measure_disk", lambda storage: 1.0)
    monkeypatch.setattr(c, "_measure_encoding", lambda: 2.0)
    assert keeps_up(local(tmp_path), 1)
    assert json.loads((tmp_path / "speeds").read_text())["write"] == 1.0


def test_another_machine_is_measured_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = local(tmp_path)
    c._write(storage, Speeds("elsewhere", 1.0, 1e12))
    monkeypatch.setattr(c, "_measure_disk", lambda storage: 1e12)
    monkeypatch.setattr(c, "_measure_encoding", lambda: 1.0)
    assert not keeps_up(storage, 1)


def test_memory_is_never_measured() -> None:
    assert not keeps_up(MemoryStorage(), 8)
