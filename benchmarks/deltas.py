"""How small are the checkpoints of a whole training as deltas, and how fast does each of them come back?

    python -m benchmarks.deltas [--quick] [--every 4] [--only fp32 bf16] [--repeats 1] [--json FILE]

A small language model is trained from scratch on the source of Python's library, byte by byte, once in float32 and
once natively in bfloat16 (weights, gradients and AdamW), with a learning rate that falls as a cosine. From a third of
the way on, 33 checkpoints are kept, one every few steps. Weights and both moments of Adam are looked at apart, since
they behave differently; "state" is all of it.

Layouts: every checkpoint plain; an endless chain of XOR, byte planes and zstd 1, as others do it; an endless chain of
our deltas; pyramids of at most 5, 9, 17 and 33 checkpoints (33 are cut into equal groups: seven of 4 or 5, four of 8
or 9, two of 16 or 17, one). "thorough" tries every form of a record, and weights by time. The last two have for each
of the kinds the size of group that the cost model picks for a restore speed of the slowest, or of all, in MB/s. All
layouts take a record plain where that is smaller, store a chunk that comes back only once, and count the bytes of
records without index or padding.

Method: one thread. The layouts take turns, after a round that is not counted. Each encodes all checkpoints, with all
its choices, given the length of each chunk without bases, which a store knows. A restore decodes all chunks of one
checkpoint from memory, as a reader of packs does: the check of every record that is needed, and the id of every chunk.

Unit: ratio is plain bytes / stored bytes; MB/s are 10^6 plain bytes per CPU second of one core: for encoding all
checkpoints, for restoring the oldest, the middle and the newest one, the slowest, and every third one after the other.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import zstandard

from benchmarks.workbench import files, limits
from benchmarks.workbench.clock import rotated, timed
from benchmarks.workbench.pieces import PIECE, pieces
from benchmarks.workbench.restores import sampled, speeds
from benchmarks.workbench.results import Results, begin
from benchmarks.workbench.trainings import Schedule, kinds, language_model
from casckpt.format.codec import Codec
from casckpt.format.decode import decode
from casckpt.format.delta_encode import Delta, DeltaEncoder
from casckpt.format.elements import element_code, word_bytes
from casckpt.format.ids import Kind, ObjectId, checksum, object_id
from casckpt.format.pack import Record
from casckpt.format.plane_encode import PlaneEncoder
from casckpt.plan.group_size import Grouping, Ratios, measure, restore_speeds, smallest_groups
from casckpt.plan.groups import GROUP_SIZES, Version, groups, heights

CHECKPOINTS = 33
MIDDLE, NEWEST = CHECKPOINTS // 2, CHECKPOINTS - 1
PLAIN = "plain"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
KINDS = {"weights": "weights", "Adam m": "exp_avg", "Adam v": "exp_avg_sq"}
"""What is looked at apart, and its name in a checkpoint."""
GOALS = {"worst 250": {"worst": 250e6, "mean": 0}, "worst 150, mean 250": {"worst": 150e6, "mean": 250e6}}
"""Restore speeds that the cost model is asked to keep, in plain bytes a second."""
encoder = DeltaEncoder()
XOR = -1
"""Stands for a codec: the XOR with the one base, as planes of codec 2."""


# ---- its checkpoints as chunks


@dataclass(slots=True)
class Position:
    """A chunk of a leaf over the checkpoints."""

    kind: str
    element: int
    chunks: list[bytes] = field(default_factory=list)
    ids: list[ObjectId] = field(default_factory=list)
    plain_bytes: list[int] = field(default_factory=list)
    """Stored lengths of the chunks without bases, which a store knows of chunks that it has."""

    def add(self, chunk: bytes) -> None:
        """What the next checkpoint holds here."""
        self.chunks.append(chunk)
        self.ids.append(object_id(Kind.CHUNK, chunk))
        self.plain_bytes.append(len(encoder.encode(chunk, self.element, ()).stored))

    def places(self) -> list[int]:
        """Numbers of the checkpoints whose chunk was in none before."""
        return [number for number, identity in enumerate(self.ids) if self.ids.index(identity) == number]


def positions(dtype: torch.dtype, width: int, layers: int, every: int) -> tuple[list[int], list[Position]]:
    """Steps of the checkpoints, and what every position held in each."""
    element = element_code(str(dtype).removeprefix("torch."))
    steps: list[int] = []
    found: dict[tuple[str, int], Position] = {}
    schedule = Schedule(every * (CHECKPOINTS - 1) // 2, every, CHECKPOINTS)
    for step, _, state in language_model(dtype, width, layers, schedule, seed=0, lr=1e-3):
        steps.append(step)
        for kind, name in KINDS.items():
            for number, piece in enumerate(pieces(kinds(state)[name])):
                found.setdefault((kind, number), Position(kind, element)).add(piece)
    return steps, list(found.values())


# ---- layouts


class Stored(NamedTuple):
    """A record: how it is encoded, its check, and the commits that hold its bases."""

    codec: int
    stored: bytes
    bases: tuple[int, ...]
    weight: int
    check: bytes


Layout = Callable[[Position, Sequence[int]], dict[int, Stored]]
"""From a position and the steps of its commits to a record for each commit whose chunk is new."""
xor_encoder = PlaneEncoder(zstandard.ZstdCompressor(level=1).compress)


def kept(delta: Delta, bases: tuple[int, ...]) -> Stored:
    """A record of ours whose bases are in these commits."""
    stored = bytes(delta.stored)
    chosen = tuple(bases[number] for number in delta.bases)
    return Stored(delta.codec, stored, chosen, delta.weight, checksum(stored)[:8])


def chained(position: Position, steps: Sequence[int], *, xor: bool = False) -> dict[int, Stored]:
    """Every chunk from the one before it, without end."""
    made: dict[int, Stored] = {}
    before = None
    for commit in position.places():
        chunk = position.chunks[commit]
        bases = () if before is None else (before,)
        offered = [] if xor else [position.chunks[base] for base in bases]
        known = position.plain_bytes[commit]
        made[commit] = kept(encoder.encode(chunk, position.element, offered, plain_bytes=known), bases)
        if xor and before is not None:
            both = np.bitwise_xor(np.frombuffer(chunk, np.uint8), np.frombuffer(position.chunks[before], np.uint8))
            planes = xor_encoder.encode(both.data, word_bytes(position.element), aligned=False)
            if planes is not None and len(planes) < len(made[commit].stored):
                made[commit] = Stored(XOR, bytes(planes), bases, 0, checksum(planes)[:8])
        before = commit
    return made


def grouped(
    position: Position, steps: Sequence[int], grouping: Grouping, *, thorough: bool = False
) -> dict[int, Stored]:
    """Pyramids, their deepest levels by classes; of one chunk, every chunk plain."""
    places = position.places()
    if grouping.size == 1:
        return {place: kept(encoder.encode(position.chunks[place], position.element, ()), ()) for place in places}
    versions = [
        Version(position.ids[place], len(position.chunks[place]), position.element, steps[place]) for place in places
    ]
    made = {}
    for frames in groups(versions, grouping.size, timed=thorough):
        deep = [height < grouping.classed for height in heights(frames)]
        commits = [position.ids.index(frame.version.chunk) for frame in frames]
        for frame, commit, classed in zip(frames, commits, deep, strict=True):
            bases = tuple(commits[base] for base in frame.bases)
            delta = encoder.encode(
                position.chunks[commit],
                position.element,
                [position.chunks[base] for base in bases],
                frame.weight or 8,
                plain_bytes=position.plain_bytes[commit],
                classed=classed and len(bases) == 2,
                thorough=thorough,
            )
            made[commit] = kept(delta, bases)
    return made


def layouts(goals: dict[str, dict[str, Grouping]]) -> dict[str, Layout]:
    """All of them by name; `goals` says which groups a goal gives to each kind."""
    made: dict[str, Layout] = {
        PLAIN: partial(grouped, grouping=Grouping(1)),
        "XOR chain": partial(chained, xor=True),
        "chain": chained,
    }
    for size in (5, 9, 17, 33):
        made[f"pyramid {size}"] = partial(grouped, grouping=Grouping(size))
    made["pyramid 33, thorough"] = partial(grouped, grouping=Grouping(33), thorough=True)
    for goal, sizes in goals.items():
        made[goal] = lambda position, steps, sizes=sizes: grouped(position, steps, sizes[position.kind])
    return made


def sizes_by_goal(found: Sequence[Position]) -> dict[str, dict[str, Grouping]]:
    """The groups that the cost model gives to each kind, from samples in the middle of the run."""
    costs = measure(time.process_time)
    sizes: dict[str, dict[str, Grouping]] = {goal: {} for goal in GOALS}
    for kind in KINDS:
        some = [position for position in found if position.kind == kind and len(position.chunks[0]) == PIECE]
        some = some or [position for position in found if position.kind == kind]
        rows = []
        for position in some:
            first, chunk, last = position.chunks[MIDDLE - 1 : MIDDLE + 2]
            plain, one, _, two = encoder.sample(chunk, position.element, (first, last))
            *_, classed = encoder.sample(chunk, position.element, (first, last), classed=True)
            whole = min(len(chunk), 64 << 10)
            rows.append([min(length, plain) / whole for length in (plain, one, two, classed)])
        element, ratios = some[0].element, Ratios(*(sum(column) / len(rows) for column in zip(*rows, strict=True)))
        for goal, least in GOALS.items():
            sizes[goal][kind] = smallest_groups(costs, element, ratios, **least)
        by_size = [restore_speeds(costs[word_bytes(element)], ratios, Grouping(size)) for size in GROUP_SIZES]
        model = ", ".join(
            f"{size}: {one.worst / 1e6:.0f} / {one.mean / 1e6:.0f}"
            for size, one in zip(GROUP_SIZES, by_size, strict=True)
        )
        sampled = " / ".join(f"{ratio:.3f}" for ratio in ratios)
        print(
            f"{kind}: plain / P / B / B by classes take {sampled} of the bytes; worst / mean MB/s by the model {model}"
        )
    print(", ".join(f"{goal}: {list(chosen.values())}" for goal, chosen in sizes.items()))
    return sizes


# ---- restoring


def restore(position: Position, made: dict[int, Stored], commit: int) -> None:
    """Decode one chunk with what it needs, as a reader of packs does, and compare its id."""
    identity = position.ids[commit]
    place = position.ids.index(identity)
    needed, last_use = closure(made, place), {}
    order = [number for number in made if number in needed]  # encoded after its bases, so decoded after them
    for number in order:
        last_use |= dict.fromkeys(made[number].bases, number)
    plains: dict[int, Any] = {}
    for number in order:
        one = made[number]
        if checksum(one.stored)[:8] != one.check:
            raise SystemExit("a record is damaged")
        plains[number] = decoded(
            one, position.element, len(position.chunks[number]), [plains[base] for base in one.bases]
        )
        for base in one.bases:
            if last_use[base] == number:
                plains.pop(base, None)
    if object_id(Kind.CHUNK, plains[place]) != identity:
        raise SystemExit("a restored chunk differs")


def closure(made: dict[int, Stored], place: int) -> set[int]:
    """A record and all that it needs."""
    needed, waiting = {place}, [place]
    while waiting:
        new = set(made[waiting.pop()].bases) - needed
        needed |= new
        waiting += new
    return needed


def decoded(one: Stored, element: int, length: int, bases: Sequence[Any]) -> Any:
    """Plain bytes of one record."""
    codec = Codec.PLANES if one.codec == XOR else one.codec
    with_bases = [] if one.codec == XOR else bases
    record = Record(
        *(ObjectId(bytes(32)), 0, length, len(one.stored), Kind.CHUNK, codec, element),
        base_1=int(len(with_bases) > 0),
        base_2=2 * int(len(with_bases) > 1),
        weight=one.weight,
    )
    plain = decode(record, one.stored, tuple(with_bases))
    if one.codec == XOR:
        words = np.frombuffer(plain, np.uint8)
        np.bitwise_xor(words, np.frombuffer(bases[0], np.uint8), out=words)
    return plain


# ---- measuring


class Case:
    """One layout of all positions of a training, encoded."""

    def __init__(self, layout: Layout, found: Sequence[Position], steps: Sequence[int]) -> None:
        self.found = found
        self.records: list[dict[int, Stored]] = []
        self.encoded = dict.fromkeys(KINDS, 0.0)
        limits.wake(sum(sum(position.plain_bytes) for position in found))
        for position in found:
            taken = timed(lambda position=position: self.records.append(layout(position, steps)))
            self.encoded[position.kind] += taken.cpu

    def figures(self, kinds: Sequence[str]) -> dict[str, float]:
        """Ratio, and speed of encoding, of these kinds together."""
        rows = [(one, made) for one, made in zip(self.found, self.records, strict=True) if one.kind in kinds]
        plain = sum(len(chunk) for one, _ in rows for chunk in one.chunks)
        stored = sum(len(record.stored) for _, made in rows for record in made.values())
        encoded = sum(self.encoded[kind] for kind in kinds)
        return {"ratio": plain / stored, "stored_mb": stored / 1e6, "encode_mb_s": plain / 1e6 / encoded}

    def deepest(self) -> int:
        """The checkpoint that needs the most records for one of its chunks."""
        return max(range(CHECKPOINTS), key=lambda commit: max(map(partial(depth, commit), self.found, self.records)))

    def restored(self) -> dict[str, dict[int, float]]:
        """CPU seconds of restoring some checkpoints, by kind."""
        seconds: dict[str, dict[int, float]] = {kind: {} for kind in KINDS}
        for commit in sorted({*sampled(CHECKPOINTS), MIDDLE, NEWEST, self.deepest()}):
            for position, made in zip(self.found, self.records, strict=True):
                taken = timed(partial(restore, position, made, commit)).cpu
                seconds[position.kind][commit] = seconds[position.kind].get(commit, 0) + taken
        return seconds


def depth(commit: int, position: Position, made: dict[int, Stored]) -> int:
    """How many records a chunk needs, itself included."""
    return len(closure(made, position.ids.index(position.ids[commit])))


def compare(name: str, found: Sequence[Position], steps: Sequence[int], results: Results, repeats: int) -> None:
    """All layouts of one training, one table for each kind and one for the state."""
    groups_of = {f"{name} {kind}": (kind,) for kind in KINDS} | {f"{name} state": tuple(KINDS)}
    sizes = {kind: sum(len(one.chunks[0]) for one in found if one.kind == kind) / 1e6 for kind in KINDS}
    cases = layouts(sizes_by_goal(found))
    results.order = list(cases)
    for number in results.rounds(repeats):
        for label, layout in rotated(list(cases.items()), number):
            case = Case(layout, found, steps)
            seconds = case.restored()
            for question, chosen in groups_of.items():
                together = {commit: sum(seconds[kind][commit] for kind in chosen) for commit in seconds["weights"]}
                megabytes = sum(sizes[kind] for kind in chosen)
                results.add(question, label, **case.figures(chosen), **speeds(together, megabytes, CHECKPOINTS))
    for question in groups_of:
        results.print(question, base=PLAIN, compared=("ratio",))


def main() -> None:
    """Read the command line, train, measure, print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="a model of a seventh of the size")
    options.add_argument("--every", type=int, default=4, help="steps between two checkpoints (default 4)")
    options.add_argument("--only", nargs="+", choices=DTYPES, default=list(DTYPES), metavar="NAME")
    options.add_argument("--repeats", type=int, default=1, help="counted rounds (default 1)")
    options.add_argument("--json", type=Path, metavar="FILE", help="write every single measurement here")
    options.add_argument("--folder", type=Path, metavar="DIR", help="whose file system is named (nothing is written)")
    arguments = options.parse_args()
    torch.set_num_threads(1)
    width, layers = (96, 2) if arguments.quick else (256, 2)
    with files.scratch(arguments.folder) as folder:
        reading = "Medians; ratio x = this case / plain: above 1 it is smaller."
        results = begin("deltas", folder, reading=reading, checkpoints=CHECKPOINTS, every=arguments.every, width=width)
    for name in arguments.only:
        start = time.process_time()
        steps, found = positions(DTYPES[name], width, layers, arguments.every)
        taken = time.process_time() - start
        print(f"\n{name}: trained {steps[-1]} steps in {taken:.0f} CPU seconds, {len(found)} positions")
        compare(name, found, steps, results, arguments.repeats)
    results.write(arguments.json)


if __name__ == "__main__":
    main()
