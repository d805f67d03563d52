"""What is promised of saving, loading, memory, codec, diff and history: one row per promise.

A budget compares two cases of one benchmark, or two quantities, by ratios inside one run. What ends on a disk, blocks a
training or keeps somebody waiting is judged by the time that passes; everything else by CPU seconds, which a busy
machine disturbs less. Sizes matter: the promises are for 1 GB (20 000 tensors: 100 MB; 10 000 commits), and a smaller
state misses some of them because fixed costs weigh more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from benchmarks import asynchronous, checkout, codecs, commit, diff, gc, history, memory, remotes, small, trainings
from benchmarks.workbench.results import Results


@dataclass(frozen=True, slots=True)
class Budget:
    """One promise: `measure` gives a figure, or None if a case of it did not run; met at `limit` or better."""

    benchmark: str
    what: str
    measure: Callable[[Results], float | None]
    limit: float
    at_least: bool
    unit: str = "x"

    def met(self, figure: float) -> bool:
        """Whether a figure keeps the promise."""
        return figure >= self.limit if self.at_least else figure <= self.limit

    def bound(self) -> str:
        """The limit, as tables print it."""
        return f"{'>=' if self.at_least else '<='} {self.limit:g} {self.unit}"


def _ratio(question: str, case: str, base: str, quantity: str) -> Callable[[Results], float | None]:
    return lambda results: results.ratio(question, case, base, quantity)


def _faster(what: str, question: str, peer: str, limit: float, benchmark: str, quantity: str) -> Budget:
    """A peer takes at least so many times as long as casckpt."""
    base = "casckpt" if benchmark != "asynchronous" else asynchronous.OURS
    return Budget(benchmark, what, _ratio(question, peer, base, quantity), limit, at_least=True)


def _stored(question: str) -> Callable[[Results], float | None]:
    def share(results: Results) -> float | None:
        stored, whole = (results.median(one, "casckpt", "stored_mb") for one in (question, commit.FIRST))
        return None if stored is None or not whole else 100 * stored / whole

    return share


def _peak(cases: tuple[str, ...]) -> Callable[[Results], float | None]:
    def highest(results: Results) -> float | None:
        found = [max(row["peak_mb"]) for (_, case), row in results.values.items() if case in cases]
        return max(found, default=None)

    return highest


def _across(question: str, case: str, other: str, base: str, quantity: str) -> Callable[[Results], float | None]:
    """`base` for one question over `case` for another, by medians."""

    def ratio(results: Results) -> float | None:
        over, under = results.median(question, base, quantity), results.median(other, case, quantity)
        return over / under if over and under else None

    return ratio


def _commits() -> Iterator[Budget]:
    first, unchanged, changed = commit.QUESTIONS
    always = "casckpt, compress=always"
    yield _faster("bare BLAKE3 / unchanged commit, CPU", unchanged, commit.HASHING, 0.90, "commit", "cpu_s")
    yield _faster("safetensors + fsync / unchanged commit", unchanged, "safetensors + fsync", 5, "commit", "wall_s")
    yield _faster("torch.save + fsync / unchanged commit", unchanged, "torch.save + fsync", 7, "commit", "wall_s")
    yield _faster("bare disk / first commit", first, commit.WRITING, 0.90, "commit", "wall_s")
    yield _faster("safetensors + fsync / first commit", first, "safetensors + fsync", 0.97, "commit", "wall_s")
    yield _faster("torch.save + fsync / first commit", first, "torch.save + fsync", 1.4, "commit", "wall_s")
    compressed = _ratio(first, "torch.save + fsync", always, "wall_s")
    yield Budget("commit", "torch.save + fsync / first commit, compressed", compressed, 1.0, at_least=True)
    slower = _across(changed, "casckpt", unchanged, "casckpt", "cpu_s")
    yield Budget("commit", "10 % changed / unchanged commit, CPU", slower, 2.0, at_least=False)
    yield Budget("commit", "10 % changed: stored share", _stored(changed), 10.5, at_least=False, unit="%")


def _checkouts() -> Iterator[Budget]:
    warm, cold = checkout.WARM, checkout.COLD
    into = _ratio(warm, "dcp.load", "casckpt into=", "wall_s")
    yield _faster("bare disk / cold checkout", cold, checkout.READING, 0.90, "checkout", "touched_s")
    yield _faster("torch.load / warm checkout", warm, "torch.load", 1.0, "checkout", "wall_s")
    yield _faster("torch.load / warm checkout, CPU", warm, "torch.load", 1.0, "checkout", "cpu_s")
    yield Budget("checkout", "dcp.load / warm checkout into=", into, 1.5, at_least=True)
    mapped = _milliseconds(warm, "casckpt mmap, unverified")
    yield Budget("checkout", "mmap returns after", mapped, 50, at_least=False, unit="ms")


def _milliseconds(question: str, *cases: str) -> Callable[[Results], float | None]:
    """The slowest of some cases."""

    def found(results: Results) -> float | None:
        seconds = [results.median(question, case, "wall_s") for case in cases]
        return max((1000 * one for one in seconds if one is not None), default=None)

    return found


def _others() -> Iterator[Budget]:
    for peer in ("safetensors", "torch.save"):
        for question in (small.FIRST, small.UNCHANGED):
            yield _faster(f"{peer} / {question} of small tensors, CPU", question, peer, 6, "small", "cpu_s")
    yield _faster("safetensors / load of small tensors, CPU", small.LOAD, "safetensors", 3, "small", "cpu_s")
    yield _faster("torch.load / load of small tensors, CPU", small.LOAD, "torch.save", 10, "small", "cpu_s")
    blocked = _ratio(asynchronous.QUESTION, asynchronous.OURS, asynchronous.COPY, "wall_s")
    yield Budget("asynchronous", "wait=False blocks / one memcpy", blocked, 1.15, at_least=False)
    plain = tuple(name for name in memory.CASES if name.startswith("casckpt") and "wait=" not in name)
    yield Budget("memory", "peak beyond the state", _peak(plain), 64, at_least=False, unit="MB")
    for question in ("fp32 weights", "bf16 weights"):
        smaller = _ratio(question, codecs.OURS, "ZipNN", "ratio")
        yield Budget("codecs", f"{question}: our ratio / ZipNN's", smaller, 0.997, at_least=True)


def _diffs() -> Iterator[Budget]:
    def read(results: Results) -> float | None:
        shares = [results.median(diff.WARM, diff.OURS, quantity) for quantity in ("read_pct", "chunks_pct")]
        return max((share for share in shares if share is not None), default=None)

    yield Budget("diff", "10 % differ: read of the bytes of both", read, 11, at_least=False, unit="%")
    for peer, name in ((diff.CHECKOUT, "checkout of both"), (diff.LOAD, "torch.load of both")):
        for quantity, unit in (("wall_s", ""), ("cpu_s", ", CPU")):
            faster = _ratio(diff.WARM, peer, diff.OURS, quantity)
            yield Budget("diff", f"{name} and comparing / diff{unit}", faster, 3, at_least=True)


def _histories() -> Iterator[Budget]:
    """Of a store with 10 000 commits; what a process takes from its start to its end."""
    quick = {case: (case,) for case in (history.HELP, history.LOG, history.GRAPH, history.GRAPH_ALL)}
    quick |= {case: (case,) for case in (history.STATUS, history.RUNS)}
    quick["completion, the slowest"] = tuple(history.LINES)
    for name, cases in quick.items():
        yield Budget("history", name, _milliseconds(history.QUESTION, *cases), 100, at_least=False, unit="ms")
    for case in (history.LOG + history.TERMINAL, history.STATUS + history.TERMINAL):
        yield Budget("history", case, _milliseconds(history.QUESTION, case), 150, at_least=False, unit="ms")
    for name, cases in (
        ("log of a range, the slower", (history.RANGE, history.STEPS)),
        ("log --where, the slower", (history.WHERE, history.WHERE_RUN)),
    ):
        yield Budget("history", name, _milliseconds(history.QUESTION, *cases), 300, at_least=False, unit="ms")
    for case in (history.HELP, history.LOG):
        bare = _ratio(history.QUESTION, case, history.BARE, "wall_s")
        yield Budget("history", f"{case} / a Python that does nothing", bare, 4, at_least=False)


def _collections() -> Iterator[Budget]:
    """Of a store with 10 000 commits that list 10 million chunks."""

    def highest(quantity: str) -> Callable[[Results], float | None]:
        return lambda results: max(
            (found for one in gc.QUESTIONS if (found := results.median(one, gc.PLAN, quantity)) is not None),
            default=None,
        )

    yield Budget("gc", "plan_gc, the slowest, CPU", highest("cpu_s"), 5, at_least=False, unit="s")
    yield Budget("gc", "plan_gc, the largest", highest("peak_mb"), 1000, at_least=False, unit="MB")


def _remotes() -> Iterator[Budget]:
    """Against a server on the same machine."""
    for question, name in ((remotes.PUSH, "push"), (remotes.FETCH, "fetch")):
        more = _ratio(question, remotes.OURS, remotes.BARE, "cpu_s")
        yield Budget("remotes", f"{name} / the bare client, CPU", more, 1.2, at_least=False)
    asked = _counted(remotes.NOTHING)
    yield Budget("remotes", "push of nothing", asked, 2, at_least=False, unit="requests")
    beside = _counted(remotes.CHANGED, besides="packs")
    yield Budget("remotes", "push of one commit, besides its packs", beside, 4, at_least=False, unit="requests")
    highest = _peak_of((remotes.PUSH, remotes.FETCH), remotes.OURS)
    yield Budget("remotes", "peak beyond the start", highest, remotes.MEMORY_MB, at_least=False, unit="MB")


def _counted(question: str, besides: str = "") -> Callable[[Results], float | None]:
    def count(results: Results) -> float | None:
        requests = results.median(question, remotes.OURS, "requests")
        others = results.median(question, remotes.OURS, besides) if besides else 0.0
        return None if requests is None or others is None else requests - others

    return count


def _peak_of(questions: Sequence[str], case: str) -> Callable[[Results], float | None]:
    def highest(results: Results) -> float | None:
        found = [results.median(question, case, "peak_mb") for question in questions]
        return max((one for one in found if one is not None), default=None)

    return highest


def whole_trainings(names: Sequence[str] = tuple(trainings.TRAININGS)) -> Iterator[Budget]:
    """Of trainings stored whole, not of small ones: what holds for all of these, so the figure is the worst of them."""
    default, most = trainings.REPACKED, trainings.MAX
    of_4_bytes = [name for name in names if trainings.TRAININGS[name].element == "float32"]
    for what, case, peers, limit, those in (
        ("repacked / ZipNN", default, (trainings.ZIPNN,), 1.0, names),
        ("repacked / restic, the smaller", default, trainings.RESTIC, 0.82, names),
        ("repacked / XOR chain, fp32", default, (trainings.XOR,), 1.0, of_4_bytes),
        ("repacked --max / XOR chain", most, (trainings.XOR,), 1.0, names),
        ("repacked --max / bias chain", most, (trainings.MINUS,), 1.0, names),
    ):
        yield Budget("trainings", f"{what}: bytes", _bytes(case, peers, those), limit, at_least=False)
    for what, quantity, limit in (("the slowest", "worst_mb_s", 150), ("the mean", "mean_mb_s", 250)):
        slowest = _slowest(default, quantity, names)
        yield Budget("trainings", f"repacked: restore of {what}", slowest, limit, at_least=True, unit="MB/s")


def _whole(results: Results, names: Sequence[str]) -> Sequence[str]:
    return () if results.about["parameters"]["quick"] else names


def _bytes(case: str, peers: Sequence[str], names: Sequence[str]) -> Callable[[Results], float | None]:
    """The most bytes of a case for one of the smallest peer, of several trainings."""

    def most(results: Results) -> float | None:
        found = []
        for name in _whole(results, names):
            ratios = [results.ratio(name, case, peer, "stored_mb") for peer in peers]
            found += [max(ratio for ratio in ratios if ratio is not None)] if any(ratios) else []
        return max(found, default=None)

    return most


def _slowest(case: str, quantity: str, names: Sequence[str]) -> Callable[[Results], float | None]:
    def slowest(results: Results) -> float | None:
        speeds = [results.median(name, case, quantity) for name in _whole(results, names)]
        return min((speed for speed in speeds if speed is not None), default=None)

    return slowest


BUDGETS = (
    *(*_commits(), *_checkouts(), *_others(), *_diffs(), *_histories(), *_collections()),
    *_remotes(),
    *whole_trainings(),
)
