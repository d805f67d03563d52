"""How the versions of one chunk are packed as deltas: groups of neighbouring commits, each decodable on its own.

A *position* is a chunk of a leaf, say the third MiB of one weight. Over the commits of a run it has a version each.
Versions are cut into groups of equal length, and a group is a pyramid:

    version   0    1    2    3    4    5    6    7    8        level
              P              .    K    .              P        K is plain, P are predicted from K
                        B                   B                  B from the two versions around it
                   B         B         B         B

Random walks cost the same bits in whatever order they are predicted; only the way to a version differs. Here it grows
with the logarithm of the group: 2 + log2((n - 1) / 2) records for n versions, where a chain needs n. Measured on whole
trainings, pyramids are as small as endless chains within 2.5 %.

Frames come in decode order: K, both P, then level by level. So every base has a lower number than what needs it, which
is the order in which the format wants records to lie.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby, pairwise
from typing import NamedTuple

from casckpt.errors import UsageError
from casckpt.format import limits
from casckpt.format.ids import ObjectId

GROUP_SIZES = (5, 9, 17, 33, 65)
"""Versions in a full pyramid: two sides that halve down to single versions."""
_CHAIN_LINKS = limits.MAX_DECODE_COST - 1
"""Records that a reader decodes after the keyframe of a chain."""
LONGEST_CHAIN = 4 * _CHAIN_LINKS - 1
"""Versions in a chain both ways from its middle, of whose links each goes over one version."""
EVEN = 8
"""Weight of the middle between two bases, in sixteenths."""

Links = list[tuple[int, tuple[int, ...]]]
"""Versions of a group in decode order, each with the versions it may be predicted from, the earlier first."""


class Version(NamedTuple):
    """What a position held in one commit.

    `when` orders commits: a step or a time, in any unit. `plain` says that it must not depend on others, since the
    commit is the newest, the best or pinned.
    """

    chunk: ObjectId
    length: int
    element: int
    when: int = 0
    plain: bool = False


class Frame(NamedTuple):
    """One version in a group.

    `bases` are numbers of earlier frames of the group, that of the earlier version first. `weight` says how far between
    two of them it is, in sixteenths; 0 without a second base. `cost` is the most records that must be decoded for it,
    itself included; less if the encoder uses fewer bases.
    """

    version: Version
    bases: tuple[int, ...]
    weight: int
    cost: int


def groups(
    versions: Sequence[Version], size: int, *, timed: bool = False, chains: bool = False
) -> Iterator[tuple[Frame, ...]]:
    """Groups of the versions of one position.

    Args:
        versions: oldest first. What repeats is packed once, where it was first; versions of another length or element
            type begin new groups.
        size: most versions of a group, one of GROUP_SIZES; for chains up to LONGEST_CHAIN.
        timed: predict between two bases by `when` instead of from their middle.
        chains: predict from the neighbour only, both ways from the keyframe.

    Yields:
        frames in decode order. A lone version is a group of one frame without bases.
    """
    fits = 1 <= size <= LONGEST_CHAIN if chains else size in GROUP_SIZES
    if not fits:
        raise UsageError(problem=f"{size} versions are not a group")
    layout = chain if chains else pyramid
    highest = min(size // 2, _CHAIN_LINKS) + 1 if chains else pyramid_cost(size)
    for _, alike in groupby(distinct(versions), lambda version: (version.length, version.element)):
        for part in balanced(list(alike), size):
            yield _frames(part, layout, highest, timed=timed)


def distinct(versions: Sequence[Version]) -> list[Version]:
    """Each chunk once, where it was first; plain if it must be in any of its places."""
    found: dict[ObjectId, Version] = {}
    for version in versions:
        first = found.setdefault(version.chunk, version)
        if version.plain and not first.plain:
            found[version.chunk] = first._replace(plain=True)
    return list(found.values())


def balanced(versions: Sequence[Version], size: int) -> Iterator[Sequence[Version]]:
    """The fewest parts of at most `size`, as long as each other but for one: a short rest would cost a keyframe."""
    count = -(-len(versions) // size)
    cuts = [len(versions) * number // count for number in range(count + 1)] if count else []
    for start, end in pairwise(cuts):
        yield versions[start:end]


def pyramid(count: int, keyframe: int) -> Links:
    """Both ends from the keyframe, then the middle of every gap from its two ends, level by level."""
    ends = [end for end in dict.fromkeys((0, count - 1)) if end != keyframe]
    links: Links = [(keyframe, ()), *((end, (keyframe,)) for end in ends)]
    gaps = [(0, keyframe), (keyframe, count - 1)]
    while gaps := [gap for gap in gaps if gap[1] - gap[0] > 1]:
        middles = [(low, (low + high) // 2, high) for low, high in gaps]
        links += [(middle, (low, high)) for low, middle, high in middles]
        gaps = [half for low, middle, high in middles for half in ((low, middle), (middle, high))]
    return links


def chain(count: int, keyframe: int) -> Links:
    """Each version from its neighbour towards the keyframe: smaller than a pyramid where residuals are rare.

    A side that is longer than a reader decodes begins with links that go over a version, which is predicted from both
    ends of the link: as few of them as needed.
    """
    return [(keyframe, ()), *_side(keyframe, -1, keyframe), *_side(keyframe, 1, count - 1 - keyframe)]


def _side(start: int, step: int, length: int) -> Links:
    """The links of one side of a chain."""
    links: Links = []
    at, end = start, start + step * length
    for _ in range(min(max(length - _CHAIN_LINKS, 0), length // 2)):
        far = at + 2 * step
        links += [(far, (at,)), (at + step, (min(at, far), max(at, far)))]
        at = far
    while at != end:
        links.append((at + step, (at,)))
        at += step
    return links


def pyramid_cost(count: int, keyframe: int | None = None) -> int:
    """Most records that a version of a pyramid needs, itself included.

    Args:
        keyframe: where it lies; None for the middle.
    """
    middle = count // 2 if keyframe is None else keyframe
    gap = max(middle, count - 1 - middle)
    return 1 if count == 1 else 2 + (gap - 1).bit_length()


def closure_costs(bases: Sequence[Sequence[int]]) -> list[int]:
    """How many records must be decoded for each record of a group, itself included: the field of the format.

    Args:
        bases: of each record, numbers of earlier ones; as the encoder chose them.

    Raises:
        UsageError: a base does not come before its record, or a record needs more than a reader decodes.
    """
    if any(not 0 <= base < number for number, needed in enumerate(bases) for base in needed):
        raise UsageError(problem="a record has a base that is not before it")
    costs = _closure_sizes(bases)
    if max(costs, default=1) > limits.MAX_DECODE_COST:
        raise UsageError(problem=f"a record needs {max(costs)} records, a reader decodes {limits.MAX_DECODE_COST}")
    return costs


def heights(frames: Sequence[Frame]) -> list[int]:
    """How many frames, one from the other, are decoded from each of a group; 0 for those that no other needs."""
    found = [0] * len(frames)
    for number in range(len(frames) - 1, -1, -1):
        for base in frames[number].bases:
            found[base] = max(found[base], found[number] + 1)
    return found


def weight_between(first: int, when: int, second: int) -> int:
    """How far `when` is from `first` to `second`, in sixteenths, 1 to 15; the middle if they do not tell.

    What is within a sixteenth of the middle counts as the middle, which readers compute faster.
    """
    if not first < when < second:
        return EVEN
    weight = (32 * (when - first) + second - first) // (2 * (second - first))
    return EVEN if abs(weight - EVEN) <= 1 else min(max(weight, 1), 15)


def _frames(
    versions: Sequence[Version], layout: Callable[[int, int], Links], highest: int, *, timed: bool
) -> tuple[Frame, ...]:
    """The frames of one group, none of which costs more than `highest`."""
    count = len(versions)
    links = layout(count, count // 2)
    # A version that must be plain saves the keyframe if no way becomes longer than ways in a full group may be.
    for keyframe in sorted((n for n in range(count) if versions[n].plain), key=lambda n: abs(n - count // 2)):
        other = layout(count, keyframe)
        if max(_costs(other)) <= highest:
            links = other
            break
    # Other versions that must be plain stay where they are, without bases of their own.
    links = [(version, () if versions[version].plain else bases) for version, bases in links]
    numbers = {version: number for number, (version, _) in enumerate(links)}
    frames = []
    for (version, bases), cost in zip(links, _costs(links), strict=True):
        weight = 0
        if len(bases) == 2:
            first, second = (versions[base].when for base in bases)
            weight = weight_between(first, versions[version].when, second) if timed else EVEN
        frames.append(Frame(versions[version], tuple(numbers[base] for base in bases), weight, cost))
    return tuple(frames)


def _costs(links: Links) -> list[int]:
    numbers = {version: number for number, (version, _) in enumerate(links)}
    return _closure_sizes([[numbers[base] for base in bases] for _, bases in links])


def _closure_sizes(bases: Sequence[Sequence[int]]) -> list[int]:
    closures: list[frozenset[int]] = []
    for number, needed in enumerate(bases):
        closures.append(frozenset([number]).union(*(closures[base] for base in needed)))
    return [len(closure) for closure in closures]
