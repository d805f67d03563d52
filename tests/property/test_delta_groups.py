"""Versions of a chunk, planned as groups, encoded and put into a pack: each is read back by the reader of packs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casckpt.format import limits
from casckpt.format.delta_encode import DeltaEncoder
from casckpt.format.elements import element_code
from casckpt.format.entry import PackRef
from casckpt.format.ids import Kind, object_id
from casckpt.format.pack import decode_footer, decode_trailer
from casckpt.odb.pack_reader import PackReader
from casckpt.odb.pack_writer import pack_name
from casckpt.plan.groups import GROUP_SIZES, Version, closure_costs, groups
from casckpt.storage.memory import MemoryStorage
from tests.support.build import Pack

ENCODER = DeltaEncoder()
NAMES = {1: "int8", 2: "bfloat16", 4: "float32", 8: "float64"}


@st.composite
def histories(draw: st.DrawFn, width: int) -> list[bytes]:
    """Versions of a chunk: walks of any step, jumps, returns to what was, standstills."""
    noise = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    count, tail = draw(st.integers(0, 900)), draw(st.integers(0, width - 1))
    words = np.frombuffer(noise.bytes(count * width), f"<u{width}")
    versions: list[bytes] = []
    for kind in draw(st.lists(st.sampled_from("wwwwwjrs"), min_size=1, max_size=40)):
        if kind == "r" and versions:
            versions.append(versions[draw(st.integers(0, len(versions) - 1))])
            continue
        if kind == "w":
            reach = draw(st.sampled_from([1, 2, 7, 100, 1 << 14]))
            words = words + noise.integers(-reach, reach + 1, count).astype(f"<i{width}").view(words.dtype)
        elif kind == "j":
            words = np.frombuffer(noise.bytes(count * width), words.dtype)
        versions.append(words.tobytes() + noise.bytes(tail))
    return [version or b"x" for version in versions]


@pytest.mark.parametrize("width", NAMES)
@settings(max_examples=25)
@given(
    data=st.data(),
    size=st.sampled_from(GROUP_SIZES),
    timed=st.booleans(),
    chains=st.booleans(),
    mode=st.sampled_from(["", "classed", "thorough"]),
    plain=st.integers(0, 40),
)
def test_every_version_of_every_history_is_read_back(
    width: int, data: st.DataObject, size: int, timed: bool, chains: bool, mode: str, plain: int
) -> None:
    element, history = element_code(NAMES[width]), data.draw(histories(width))
    versions = [
        Version(object_id(Kind.CHUNK, one), len(one), element, number**2, plain=number == plain)
        for number, one in enumerate(history)
    ]
    contents = {version.chunk: one for version, one in zip(versions, history, strict=True)}
    pack = Pack(deltas=True)
    for frames in groups(versions, min(size, 59) if chains else size, timed=timed, chains=chains):
        first, used = len(pack.records), []
        for frame in frames:
            bases = [contents[frames[base].version.chunk] for base in frame.bases]
            one = contents[frame.version.chunk]
            modes = {"classed": mode == "classed", "thorough": mode == "thorough"}
            delta = ENCODER.encode(one, element, bases, frame.weight or 8, **modes)
            used.append([frame.bases[base] for base in delta.bases])
            assert not (frame.version.plain and used[-1])
            pack.add(
                one,
                codec=delta.codec,
                stored=bytes(delta.stored),
                element=element,
                bases=[first + base for base in used[-1]],
                weight=delta.weight,
            )
        costs = closure_costs(used)
        assert costs == [record.cost for record in pack.records[first:]]
        assert all(cost <= frame.cost for cost, frame in zip(costs, frames, strict=True))
        assert max(costs) <= limits.MAX_DECODE_COST
    whole = pack.finish()
    reader = PackReader(MemoryStorage({pack_name(pack.id): whole}))
    records = reader.records(PackRef(pack.id, len(whole)))
    identity, offset, nbytes = decode_trailer(whole[-64:], len(whole))
    assert decode_footer(whole[:4096], whole[offset : offset + nbytes], offset, identity).records == records
    assert {record.id for record in records} == set(contents)
    for record in records:
        assert bytes(reader.read_record(pack_name(pack.id), record)) == contents[record.id]
        target = bytearray(record.length)
        reader.read_record(pack_name(pack.id), record, memoryview(target))
        assert target == contents[record.id]
