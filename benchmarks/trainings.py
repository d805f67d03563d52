"""How small are all checkpoints of a whole training, and how fast does each come back, in a store and in others?

    python -m benchmarks.trainings [--quick] [--checkpoints 33] [--only NAME ...] [--repeats 3] [--json FILE]

Trainings, each made here from its first step to its last (workbench/trainings.py): a language model from scratch in
float32 and natively in bfloat16; the pretrained weights of all-MiniLM-L6-v2, fine-tuned as a whole, in the last two of
six layers, and by LoRA; a convolutional network. A checkpoint holds the state dicts of the model and of AdamW.

Archives get the same checkpoints one after the other: casckpt as committed, repacked, and repacked --max; a folder of
torch.save; restic with its usual compression and the most; borg with zstd; ZipNN; chains in which each checkpoint is
stored as byte planes of its difference from the one before, without end: XOR with zstd 1 as others do it, bias as a
difference of numbers with our settings of zstd; and XOR chains cut so that the slowest checkpoint comes back as fast as
the slowest one of casckpt repacked.

Method: one thread, one training after the other, and in it one archive after the other, since all of them at once would
not fit on many disks; peers get the checkpoints out of casckpt's store. What is restored comes from a warm page cache
and is compared with what the training held. MB are 10^6 bytes.

Unit: stored_mb is what the files take on the disk (of casckpt without its index, a cache, with which it is
indexed_mb), ratio is plain bytes of tensors / stored bytes. MB/s are plain bytes per CPU second of one core, children
included: of storing all checkpoints (of casckpt repacked: of repacking them, on top of the commits), and of restoring
the oldest, the middle and the newest one; mean is of every third, worst of all these and of the end of a chain. What
the programs take to start and open their repository is measured and taken off.
"""

from __future__ import annotations

import importlib.util
import shutil
import statistics
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch

from benchmarks.workbench import files, limits
from benchmarks.workbench.archives import Archive, Borg, Casckpt, Chain, Restic, TorchFiles, ZippedFiles
from benchmarks.workbench.clock import timed
from benchmarks.workbench.peers import NOT_INSTALLED
from benchmarks.workbench.pieces import digest, pieces_of
from benchmarks.workbench.restores import sampled, speeds
from benchmarks.workbench.results import Results, begin, parser
from benchmarks.workbench.trainings import TRAININGS, State, missing

COMMITTED, REPACKED, MAX = "casckpt, as committed", "casckpt, repacked", "casckpt, repacked --max"
TORCH, ZIPNN, BORG = "torch.save", "ZipNN", "borg, zstd"
RESTIC = ("restic, auto", "restic, max")
PROGRAMS = {**dict.fromkeys(RESTIC, "restic"), BORG: "borg"}
XOR, MINUS, CUT = "XOR chain", "bias chain", "XOR chain, cut"
CASES = (COMMITTED, REPACKED, MAX, TORCH, *RESTIC, BORG, ZIPNN, XOR, MINUS, CUT)
READING = "Medians; ratio x = this case / casckpt: above 1 it is smaller."


@dataclass(slots=True)
class Run:
    """A training whose checkpoints are being stored."""

    name: str
    count: int
    repeats: int
    folder: Path
    results: Results
    plain_bytes: int = 0
    """Of the tensors of one checkpoint."""
    digests: list[bytes] = field(default_factory=list)

    @property
    def wanted(self) -> list[int]:
        """Numbers of the checkpoints that every archive restores."""
        return sorted({*sampled(self.count), self.count // 2, self.count - 1})

    def learn(self, quick: bool) -> Iterator[State]:
        """The checkpoints, as the training makes them."""
        for step, loss, state in TRAININGS[self.name].checkpoints(self.count, quick=quick):
            plains = [piece.plain for piece in pieces_of(state)]
            self.plain_bytes = sum(map(len, plains))
            self.digests.append(digest(plains))
            if len(self.digests) in (1, self.count):
                print(f"{self.name}: step {step}, loss {loss:.3f}, {self.plain_bytes / 1e6:.1f} MB", flush=True)
            yield state

    def fill(self, archive: Archive, states: Iterable[State]) -> float:
        """Save all checkpoints; CPU seconds of that."""
        seconds = 0.0
        for number, state in enumerate(states):
            archive.prepare(state)
            seconds += timed(partial(archive.save, number, state)).cpu
        return seconds

    def note(self, case: str, archive: Archive, seconds: float) -> None:
        """Keep what all of it takes on the disk, and how fast it was stored."""
        index = archive.index_bytes() if isinstance(archive, Casckpt) else 0
        stored, plain = archive.stored_bytes() - index, self.count * self.plain_bytes
        self.results.add(self.name, case, ratio=plain / stored, stored_mb=stored / 1e6)
        if index:
            self.results.add(self.name, case, indexed_mb=(stored + index) / 1e6)
        self.results.add(self.name, case, store_mb_s=plain / 1e6 / seconds)

    def empty(self, case: str, archive: Archive, start: float = 0) -> None:
        """Restore the wanted checkpoints, each once in a round; any call takes `start` CPU seconds."""
        files.warm(archive.place)
        self.restore(archive, self.count - 1)  # warms up
        for _ in range(self.repeats):
            wanted = sorted({*self.wanted, *archive.slow()})
            seconds = {number: without(start, self.restore(archive, number)) for number in wanted}
            self.results.add(self.name, case, **speeds(seconds, self.plain_bytes / 1e6, self.count))

    def restore(self, archive: Archive, number: int) -> float:
        """CPU seconds of restoring one checkpoint, which must be what the training held."""
        limits.wake(self.plain_bytes)
        held = []
        seconds = timed(lambda: held.append(archive.restore(number))).cpu
        if archive.digest(held.pop()) != self.digests[number]:
            raise SystemExit(f"{type(archive).__name__} restored another checkpoint than {number}")
        return seconds

    def play(self, case: str, make: Callable[[Path], Archive], ours: Casckpt) -> None:
        """Fill another archive from ours, restore, and remove it."""
        folder = self.folder / "peer"
        folder.mkdir()
        archive = make(folder)
        seconds = self.fill(archive, map(ours.restore, range(self.count)))
        start = statistics.median(timed(archive.start).cpu for _ in range(3))
        self.note(case, archive, without(self.count * start, seconds))
        self.empty(case, archive, start)
        archive.close()
        files.remove(folder)

    def repack(self, case: str, ours: Casckpt) -> None:
        """Our store as another case, from now on."""
        limits.wake(self.plain_bytes)
        self.note(case, ours, timed(partial(ours.repack, thorough=case == MAX)).cpu)
        self.empty(case, ours)

    def cut(self, worst: float) -> range:
        """Numbers of the checkpoints that begin chains of equal length, ends of which are restored at `worst` MB/s.

        As the endless chain says, all links of which take as long as each other.
        """
        ends = [self.results.median(self.name, XOR, quantity) for quantity in ("oldest_mb_s", "newest_mb_s")]
        first, last = (1 / (speed or worst) for speed in ends)
        links = self.count - 1
        if last > 1 / worst:
            links = max(0, int(links * (1 / worst - first) / (last - first)))
        chains = -(-self.count // (links + 1))
        return range(0, self.count, -(-self.count // chains))


def without(start: float, seconds: float) -> float:
    """Seconds beyond those that any call takes; at least a tenth, since less cannot be told apart."""
    return max(seconds - start, seconds / 10)


def present(case: str) -> bool:
    """Whether a peer can run here."""
    if case == ZIPNN:
        return importlib.util.find_spec("zipnn") is not None
    return case not in PROGRAMS or shutil.which(PROGRAMS[case]) is not None


def compare(run: Run, *, quick: bool) -> None:
    """All archives of one training."""
    peers: dict[str, Callable[[Path], Archive]] = {
        TORCH: partial(TorchFiles, wanted=run.wanted),
        **{case: partial(Restic, compression=case.partition(", ")[2]) for case in RESTIC},
        BORG: Borg,
        ZIPNN: ZippedFiles,
        XOR: partial(Chain, bits=True),
        MINUS: partial(Chain, bits=False),
    }
    run.folder.mkdir()
    ours = Casckpt(run.folder)
    run.note(COMMITTED, ours, run.fill(ours, run.learn(quick)))
    run.empty(COMMITTED, ours)
    for case, make in peers.items():
        if present(case):
            run.play(case, make, ours)
        else:
            run.results.absent(run.name, case, NOT_INSTALLED)
    run.repack(REPACKED, ours)
    run.play(CUT, partial(Chain, bits=True, keys=run.cut(run.results.median(run.name, REPACKED, "worst_mb_s"))), ours)
    run.repack(MAX, ours)
    ours.close()
    files.remove(run.folder)
    run.results.print(run.name, base=REPACKED, compared=("ratio",))


def judge(results: Results) -> None:
    """Every budget beside what each training gave; what is missed has a mark."""
    from benchmarks.budgets import whole_trainings  # which imports all benchmarks, this one too

    if results.about["parameters"]["quick"]:
        print("\nbudgets are for whole trainings, without --quick")
        return
    names = [name for name in TRAININGS if results.median(name, REPACKED, "ratio") is not None]
    print(f"\n{'budget (* missed)':44s}{'':>12s}" + "".join(f"{name:>21s}" for name in names))
    for row in zip(*(whole_trainings([name]) for name in names), strict=True):
        figures = [(budget, budget.measure(results)) for budget in row]
        cells = ["" if one is None else f"{one:.3f}{' ' if budget.met(one) else '*'}" for budget, one in figures]
        print(f"{row[0].what:44s}{row[0].bound():>12s}" + "".join(f"{cell:>21s}" for cell in cells))


def better(results: Results) -> None:
    """Where a peer wins: those that are smaller than casckpt, or give a checkpoint back in less CPU time on average."""
    for name in dict.fromkeys(name for name, _ in results.values):
        for ours in (REPACKED, MAX):
            for what, quantity, sign in (("smaller", "stored_mb", -1), ("faster back", "mean_mb_s", 1)):
                ratios = {case: results.ratio(name, case, ours, quantity) for case in CASES if "casckpt" not in case}
                won = [f"{case} ({ratio:.2f})" for case, ratio in ratios.items() if ratio and sign * ratio > sign]
                print(f"{name}: {what} than {ours}: {', '.join(won) or 'none'}")


def main() -> None:
    """Read the command line, train, store, print."""
    options = parser(__doc__, mb=None, repeats=3)
    options.add_argument("--quick", action="store_true", help="small models, few steps, 5 checkpoints")
    options.add_argument("--checkpoints", type=int, metavar="N", help="of a training (default 33; 5 with --quick)")
    options.add_argument("--only", nargs="+", choices=TRAININGS, default=list(TRAININGS), metavar="NAME")
    arguments = options.parse_args()
    count = arguments.checkpoints or (5 if arguments.quick else 33)
    if count < 2:
        options.error("a training has at least 2 checkpoints")
    torch.set_num_threads(1)
    with files.scratch(arguments.folder) as folder:
        results = begin("trainings", folder, reading=READING, checkpoints=count, quick=arguments.quick, threads=1)
        results.order = list(CASES)
        for name in arguments.only:
            lacking = missing() if TRAININGS[name].pretrained else ""
            if lacking:
                results.absent(name, COMMITTED, lacking)
                print(f"\n{name}: {lacking}")
                continue
            compare(Run(name, count, arguments.repeats, folder / "run", results), quick=arguments.quick)
    judge(results)
    print("\nwhere a peer wins, and how many times the bytes or the speed it has")
    better(results)
    results.write(arguments.json)


if __name__ == "__main__":
    main()
