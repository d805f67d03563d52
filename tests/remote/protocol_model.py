"""The protocol of remotes as a model: who does what in which order, without bytes, and with rules that can be left out.

Pushers, collectors and a reader are generators that stop before every request. A scheduler picks who goes on. It may
leave one standing for hundreds of steps or for ever, lose an answer, lose a request, or let one arrive late. After
every step the remote must be as `World.check` says.

A pack is the set of chunks in it, a segment says which packs there are, a root which segments. Commits are numbered
in the order of their times.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import partial
from itertools import count
from typing import Any, TypeVar

Chunks = frozenset[int]
Packs = Mapping[str, Chunks]
T = TypeVar("T")
Steps = Generator[None, None, T]

_TRIES = 8
_CHUNKS_OF_A_PACK = 2


class Rule(Enum):
    """What keeps concurrent actors from losing anything."""

    EPOCH = "a push looks again at what it relies on if keys were condemned since"
    KNOWN = "what it uploaded before it gives up, unless it has read every root since, and none condemned it"
    CHAIN = "a root counts only if it is the newest, or if that leads back to it"
    NONCE = "no upload has the name of another"
    CONDEMN = "what is deleted was condemned by a root before"
    RESTART = "a collection whose root came too late looks at everything again"
    LOSER = "where the newer commit wins, the other keeps a name"


class Lost(Exception):
    """No answer came."""


@dataclass(frozen=True, eq=False)
class Commit:
    number: int
    parent: Commit | None
    own: Chunks

    def line(self) -> Iterator[Commit]:
        """Itself and its ancestors."""
        commit: Commit | None = self
        while commit is not None:
            yield commit
            commit = commit.parent


@dataclass(frozen=True)
class Root:
    id: int
    number: int = 1
    prev: int | None = None
    epoch: int = 0
    refs: Mapping[str, Commit] = field(default_factory=dict)
    segments: frozenset[str] = frozenset()
    condemned: frozenset[str] = frozenset()
    let_go: frozenset[Commit] = frozenset()
    """Commits that this root takes away on purpose."""


def needed(commits: Iterable[Commit]) -> Chunks:
    """The chunks of commits and of all their ancestors."""
    return joined(one.own for commit in commits for one in commit.line())


def joined(parts: Iterable[Chunks]) -> Chunks:
    return frozenset().union(*parts)


class World:
    """A remote, everybody who works with it, and what they were promised."""

    def __init__(self, seed: int, without: Rule | None = None) -> None:
        self.random = random.Random(seed)
        self._without = without
        self._numbers = count(1)
        self.roots = {1: Root(self.number())}
        self.files: dict[str, Chunks | Packs] = {}
        self.late: list[Callable[[], object]] = []
        """Requests that arrive later, or never."""
        self.repeats: list[Callable[[], object]] = []
        """Requests that arrived, and will once more, much later."""
        self.acknowledged: list[Commit] = []
        self.let_go: set[Commit] = set()
        self.reads = {"right": 0, "removed": 0, "stuck": 0}
        self.has_changed = False

    def keeps(self, rule: Rule) -> bool:
        return rule is not self._without

    def number(self) -> int:
        return next(self._numbers)

    @property
    def head(self) -> Root:
        return self.roots[max(self.roots)]

    def live(self, root: Root) -> Packs | None:
        """The packs that the segments of a root list, None if one is not there any more."""
        segments = [self.files.get(key) for key in root.segments]
        if None in segments:
            return None
        return {pack: chunks for segment in segments if isinstance(segment, dict) for pack, chunks in segment.items()}

    def create_file(self, key: str, content: Chunks | Packs) -> None:
        self.has_changed |= key not in self.files
        self.files.setdefault(key, content)

    def create_root(self, root: Root) -> None:
        if root.number in self.roots:
            return
        if root.number > self.head.number:
            assert root.number == self.head.number + 1 and root.prev == self.head.id, "the chain of roots is broken"
            self.let_go |= {one for commit in root.let_go for one in commit.line()}
        self.roots[root.number] = root
        self.has_changed = True

    def delete(self, key: str) -> None:
        self.has_changed |= self.files.pop(key, None) is not None

    def send(self, request: Callable[[], None], *, may_repeat: bool = True) -> None:
        """Make a request that changes something; its answer may be lost, or itself, or it may arrive late, or again."""
        chance = self.random.random()
        if may_repeat and chance >= 0.6:
            self.repeats.append(request)
        if chance < 0.04 or chance >= 0.08:
            request()
        elif chance >= 0.06:
            self.late.append(request)
        if chance < 0.08:
            raise Lost

    def check(self) -> None:
        """Whether the remote holds what its newest root says, and that everything which was promised."""
        head, live = self.head, self.live(self.head)
        assert live is not None, "a live segment is not there"
        for pack, chunks in live.items():
            assert self.files.get(pack) == chunks, "a live pack is not there"
        assert head.condemned.isdisjoint([*live, *head.segments]), "something live is condemned"
        held = joined(live.values())
        for ref, commit in head.refs.items():
            assert needed([commit]) <= held, f"{ref} names what is not there"
        known = {one for commit in head.refs.values() for one in commit.line()} | self.let_go
        assert known.issuperset(self.acknowledged), "a commit that was acknowledged is lost"
        self.has_changed = False

    def read(self) -> Steps[tuple[Root, Packs]]:
        """The newest root and the packs it lists, as one who lists, then gets, finds them."""
        while True:
            yield
            number = max(self.roots)
            yield
            root = self.roots.get(number)
            if root is not None:
                yield
                live = self.live(root)
                if live is not None:
                    return root, live

    def upload(self, folder: str, content: Chunks | Packs) -> Steps[str | None]:
        """Create a file under a name of its own; the name. One that was not answered, and is not there, is given up."""
        for _ in range(_TRIES):
            name = str(self.number()) if self.keeps(Rule.NONCE) else f"of {sorted(content)}"
            key = f"{folder}/{name}"
            yield
            try:
                self.send(partial(self.create_file, key, content))
            except Lost:
                yield
                if key not in self.files:
                    continue
            return key
        return None

    def upload_packs(self, chunks: Chunks) -> Steps[Packs | None]:
        """New packs with these chunks; None if it does not work out."""
        packs: dict[str, Chunks] = {}
        rest = sorted(chunks)
        for start in range(0, len(rest), _CHUNKS_OF_A_PACK):
            part = rest[start : start + _CHUNKS_OF_A_PACK]
            key = yield from self.upload("packs", frozenset(part))
            if key is None:
                return None
            packs[key] = frozenset(part)
        return packs

    def upload_segment(self, packs: Packs) -> Steps[str | None]:
        """A new segment that lists packs, by its key."""
        return (yield from self.upload("index", dict(packs)))

    def settle(self, root: Root) -> Steps[bool | None]:
        """Whether a root became the next one; None if that cannot be told."""
        for _ in range(_TRIES):
            yield
            try:
                # Roots stay for 30 days in earnest, and no request is as late; here they go at once.
                self.send(lambda: self.create_root(root), may_repeat=False)
                if not self.keeps(Rule.CHAIN) and self.roots[root.number] is root:
                    return True
            except Lost:
                pass
            yield
            newest = max(self.roots)
            if newest < root.number:
                continue
            yield
            found = self.roots.get(root.number)
            if found is None or found.id != root.id:
                return False
            if newest == root.number:
                return True
            # A number may have been used, and taken away as old, before a writer that was left standing used it again.
            return (yield from self._leads_to(root, newest))
        return None

    def _leads_to(self, root: Root, newest: int) -> Steps[bool]:
        """Whether the newest root leads back to one, link by link."""
        identity = root.id
        for number in range(root.number + 1, newest + 1):
            yield
            after = self.roots.get(number)
            if after is None or after.prev != identity:
                return False
            identity = after.id
        return True


def pusher(world: World, ref: str, *, newest_wins: bool) -> Steps[None]:
    """Commits and pushes a few times, onto what the remote has or, where the newer wins, onto what it made itself."""
    own: Commit | None = None
    for _ in range(world.random.randint(1, 3)):
        root, live = yield from world.read()
        parent = own if newest_wins and world.random.random() < 0.4 else root.refs.get(ref)
        number = world.number()
        chunks = {world.random.randint(0, 5) for _ in range(2)} | (
            {100 + number} if world.random.random() < 0.5 else set()
        )
        commit = Commit(number, parent, frozenset(chunks))
        if (yield from _push(world, ref, commit, root, live, newest_wins)):
            world.acknowledged.append(commit)
            own = commit


def _push(world: World, ref: str, commit: Commit, before: Root, live: Packs, newest_wins: bool) -> Steps[bool]:
    """Whether a commit was acknowledged."""
    wanted = needed([commit])
    uploaded = yield from world.upload_packs(wanted - joined(live.values()))
    if uploaded is None:
        return False
    mine = dict(uploaded)
    segment = (yield from world.upload_segment(mine)) if mine else None
    for attempt in range(_TRIES):
        root, live = yield from world.read()
        if commit in root.refs.values():
            return True
        if not newest_wins and root.refs.get(ref) is not commit.parent:
            return False
        if world.keeps(Rule.EPOCH) and (root.epoch != before.epoch or attempt):
            gone = yield from _gone(world, [*mine, *([segment] if segment else [])], before, root)
            if gone:
                mine = {key: chunks for key, chunks in mine.items() if key not in gone}
                segment = None
            before = root
            more = yield from world.upload_packs(wanted - joined(live.values()) - joined(mine.values()))
            if more is None:
                return False
            mine.update(more)
            if mine and (more or not segment):
                segment = yield from world.upload_segment(mine)
        if mine and not segment:
            return False
        refs = _moved(world, root.refs, ref, commit, newest_wins)
        segments = root.segments | ({segment} if segment else set())
        is_next = yield from world.settle(_after(world, root, refs=refs, segments=segments))
        if is_next is not False:
            return is_next is True
    return False


def _gone(world: World, uploaded: list[str], before: Root, root: Root) -> Steps[set[str]]:
    """What of an upload cannot be relied on any more, since a root after the one `before` condemned it, or may have."""
    if not world.keeps(Rule.KNOWN):
        gone = root.condemned & set(uploaded)
        for key in uploaded:
            yield
            if key not in world.files:
                gone |= {key}
        return set(gone)
    condemned: set[str] = set()
    while root.number > before.number:
        condemned |= root.condemned
        yield
        link = world.roots.get(root.number - 1)
        if link is None or link.id != root.prev:
            return set(uploaded)
        root = link
    return condemned & set(uploaded) if root is before else set(uploaded)


def _moved(
    world: World, refs: Mapping[str, Commit], ref: str, commit: Commit, newest_wins: bool
) -> Mapping[str, Commit]:
    """The refs after a push; of two commits the newer has the name, and the other one of its own."""
    current = refs.get(ref)
    if not newest_wins or current is None:
        return {**refs, ref: commit}
    older, newer = sorted((current, commit), key=lambda one: one.number)
    kept = {f"conflicts/{older.number}": older} if world.keeps(Rule.LOSER) else {}
    return {**refs, **kept, ref: newer}


def collector(world: World) -> Steps[None]:
    """Collects a few times; what counts as young, and which refs a policy lets go, is left to chance."""
    for _ in range(world.random.randint(1, 3)):
        condemned = yield from _condemn(world)
        if condemned is None:
            continue
        gone = set()
        for key in sorted(condemned):
            if world.random.random() < 0.1:
                continue
            yield
            try:
                world.send(partial(world.delete, key))
            except Lost:
                continue
            yield
            if key not in world.files:
                gone.add(key)
        root, _ = yield from world.read()
        yield from world.settle(_after(world, root, condemned=root.condemned - gone))
        yield
        for number in sorted(world.roots)[: -world.random.randint(1, 3)]:
            yield
            world.roots.pop(number, None)


def _after(world: World, root: Root, **changes: Any) -> Root:
    """The root after another, with changes."""
    common = {"id": world.number(), "number": root.number + 1, "prev": root.id, "let_go": frozenset()}
    return replace(root, **{**common, **changes})


def _condemn(world: World) -> Steps[frozenset[str] | None]:
    """Everything that a new root condemns, None if there was no such root."""
    root, live = yield from world.read()
    yield
    listed = frozenset(world.files)
    refs = {name: commit for name, commit in root.refs.items() if world.random.random() > 0.15}
    wanted = needed(refs.values())
    kept: dict[str, Chunks] = {}
    moved: Chunks = frozenset()
    for pack, chunks in live.items():
        own = (chunks & wanted) - joined(kept.values()) - moved
        if own and len(own) < len(chunks) and world.random.random() < 0.5:
            moved |= own
        elif own:
            kept[pack] = chunks
    written = yield from world.upload_packs(moved)
    if written is None:
        return None
    kept.update(written)
    segments = root.segments
    if set(kept) != set(live):
        segment = (yield from world.upload_segment(kept)) if kept else None
        if kept and segment is None:
            return None
        segments = frozenset({segment} if segment else ())
    left = sorted(listed - set(live) - root.segments)
    old = frozenset(key for key in left if world.random.random() < 0.5)
    dead = (set(live) - set(kept)) | (root.segments - segments) | root.condemned | old
    if not world.keeps(Rule.CONDEMN):
        for key in dead - root.condemned:
            yield
            world.delete(key)
    let_go = frozenset(commit for name, commit in root.refs.items() if name not in refs)
    facts = {"refs": refs, "segments": segments, "condemned": frozenset(dead), "let_go": let_go}
    is_next = yield from world.settle(_after(world, root, epoch=root.epoch + 1, **facts))
    if not is_next and not world.keeps(Rule.RESTART):
        root, _ = yield from world.read()
        is_next = yield from world.settle(_after(world, root, epoch=root.epoch + 1, **facts))
    return frozenset(dead) if is_next else None


def reader(world: World) -> Steps[None]:
    """Reads commits pack by pack, and looks for them again where a pack is gone."""
    for _ in range(4):
        root, live = yield from world.read()
        if not root.refs:
            continue
        commit = root.refs[world.random.choice(sorted(root.refs))]
        for _ in range(_TRIES):
            wanted = needed([commit])
            for pack in [pack for pack, chunks in live.items() if chunks & wanted]:
                yield
                content = world.files.get(pack)
                if not isinstance(content, frozenset):
                    break
                wanted -= content
            if not wanted:
                world.reads["right"] += 1
                break
            root, live = yield from world.read()
            if not any(commit in tip.line() for tip in root.refs.values()):
                world.reads["removed"] += 1
                break
        else:
            world.reads["stuck"] += 1


def play(seed: int, without: Rule | None = None) -> World:
    """One schedule of four pushers, two collectors and a reader; AssertionError where the remote breaks a promise."""
    world = World(seed, without)
    actors = [
        pusher(world, "main", newest_wins=False),
        pusher(world, "main", newest_wins=False),
        pusher(world, "runs", newest_wins=True),
        pusher(world, "runs", newest_wins=True),
        collector(world),
        collector(world),
        reader(world),
    ]
    standing: dict[int, int] = {}
    chance = world.random
    for step in range(3000):
        if not actors:
            break
        if world.late and chance.random() < 0.1:
            world.late.pop(chance.randrange(len(world.late)))()
        if world.repeats and chance.random() < 0.02:
            world.repeats.pop(chance.randrange(len(world.repeats)))()
        actor = chance.choice(actors)
        if standing.get(id(actor), 0) > step and len(actors) > 1 and chance.random() < 0.98:
            continue
        if chance.random() < 0.01:
            standing[id(actor)] = step + chance.randint(50, 400)
        if chance.random() < 0.002:
            actors.remove(actor)
            continue
        try:
            next(actor)
        except StopIteration:
            actors.remove(actor)
        if world.has_changed:
            world.check()
    for request in world.late + world.repeats:
        request()
        world.check()
    return world
