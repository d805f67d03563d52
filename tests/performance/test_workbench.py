"""What the figures of the benchmarks rest on: states, ratios, tables, and that each file runs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from benchmarks import trainings
from benchmarks.budgets import BUDGETS, Budget, whole_trainings
from benchmarks.run import BENCHMARKS, line
from benchmarks.workbench import files, limits, states
from benchmarks.workbench.archives import DIFFERENT, SAME, Chain
from benchmarks.workbench.clock import Seconds, rotated, timed
from benchmarks.workbench.pieces import digest, pieces_of
from benchmarks.workbench.results import Results
from benchmarks.workbench.trainings import TRAININGS, Schedule
from tests.support.nursery import Nursery, nursery


@pytest.mark.parametrize("kind", states.KINDS)
def test_a_state_has_the_size_asked_for(kind: str) -> None:
    assert states.nbytes(states.KINDS[kind](4)) == pytest.approx(4_000_000, rel=0.01)


def test_the_same_state_is_made_twice() -> None:
    first, second = states.model(1), states.model(1)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_an_edit_changes_the_share_asked_for_every_time(share: float) -> None:
    state = states.model(8)
    for _ in range(2):
        before = {name: tensor.clone() for name, tensor in state.items()}
        states.edit(state, share)
        changed = sum(int((state[name] != before[name]).sum()) for name in state)
        assert changed == pytest.approx(share * 2_000_000, rel=0.001)


def test_a_training_leaves_the_same_checkpoints_twice() -> None:
    digests = []
    for _ in range(2):
        run = TRAININGS["language model bf16"].checkpoints(3, quick=True)
        digests.append([digest([piece.plain for piece in pieces_of(one.state)]) for one in run])
    assert digests[0] == digests[1]
    assert len(set(digests[0])) == 3


def test_a_schedule_ends_with_its_last_checkpoint() -> None:
    schedule = Schedule(first=4, every=3, checkpoints=3)
    assert [step for step in range(schedule.steps + 1) if schedule.keeps(step)] == [4, 7, 10]


@pytest.mark.parametrize("bits", [True, False])
def test_a_chain_gives_back_every_checkpoint_however_it_is_cut(bits: bool, tmp_path: Path) -> None:
    values = torch.randn(200, generator=torch.Generator().manual_seed(0))
    chain = Chain(tmp_path, bits=bits, keys=[3])
    given = []
    for number in range(6):
        values[number] += 1e-3
        state = {"model": {"weight": values, "steps": torch.tensor(number // 2)}, "optimizer": {"state": {}}}
        given.append(digest([piece.plain for piece in pieces_of(state)]))
        chain.save(number, state)
    assert [chain.digest(chain.restore(number)) for number in range(6)] == given
    assert {row.form for row in chain.rows[5]} == {DIFFERENT, SAME}
    assert not {row.form for row in chain.rows[3]} & {DIFFERENT, SAME}
    chain.close()


def test_every_case_begins_a_round_once() -> None:
    cases = ["a", "b", "c"]
    rounds = [list(rotated(cases, number)) for number in range(3)]
    assert [one[0] for one in rounds] == cases
    assert all(sorted(one) == cases for one in rounds)


def test_cpu_seconds_count_the_children_that_were_waited_for() -> None:
    code = "import time\nwhile time.process_time() < 0.2: pass"
    assert timed(lambda: subprocess.run([sys.executable, "-c", code], check=True)).cpu >= 0.2


def test_the_first_round_is_not_counted_and_ratios_pair_what_one_round_gave() -> None:
    results = Results("test", {})
    for number in results.rounds(3):
        slow = 100.0 if number == 0 else float(number)
        results.add("q", "ours", Seconds(slow, slow))
        results.add("q", "peer", Seconds(2 * slow, 4 * slow))
    assert results.values["q", "ours"]["wall_s"] == [1.0, 2.0, 3.0]
    assert results.ratio("q", "peer", "ours", "wall_s") == 2.0
    assert results.ratio("q", "peer", "ours", "cpu_s") == 4.0
    assert results.ratio("q", "absent", "ours", "cpu_s") is None


def test_a_missing_peer_is_named_in_the_table_and_in_the_record(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = Results("test", {"parameters": {}})
    results.add("q", "ours", wall_s=1.0)
    results.absent("q", "peer", "not installed")
    results.print("q", base="ours")
    assert "peer  not installed" in capsys.readouterr().out
    results.write(tmp_path / "one.json")
    read = Results.read(tmp_path / "one.json")
    assert (read.values, read.missing) == (results.values, results.missing)


def test_a_budget_is_met_at_its_limit_and_missed_beyond() -> None:
    least = Budget("commit", "speed", lambda _: None, 2.0, at_least=True)
    most = Budget("commit", "memory", lambda _: None, 2.0, at_least=False)
    assert (least.met(2.0), least.met(1.99), most.met(2.0), most.met(2.01)) == (True, False, True, False)
    assert line(least, 3.0).endswith("yes")
    assert line(least, 1.0).endswith("NO")
    assert "not measured" in line(least, None)


@pytest.mark.parametrize("quick", [True, False])
def test_a_budget_of_trainings_is_judged_by_the_worst_whole_one(
    quick: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    results = Results("trainings", {"parameters": {"quick": quick}})
    for name, restic in (("language model bf16", 40.0), ("CNN", 20.0)):
        results.add(name, trainings.REPACKED, stored_mb=16.0, ratio=1.0, worst_mb_s=restic * 4)
        results.add(name, trainings.RESTIC[0], stored_mb=restic)
        results.add(name, trainings.RESTIC[1], stored_mb=restic - 4)
    figures = {budget.what: budget.measure(results) for budget in whole_trainings()}
    assert figures["repacked / restic, the smaller: bytes"] == (None if quick else 1.0)
    assert figures["repacked: restore of the slowest"] == (None if quick else 80.0)
    trainings.judge(results)
    table = capsys.readouterr().out
    assert ("80.000*" in table, "160.000 " in table, "0.444 " in table) == (not quick,) * 3
    trainings.better(results)
    assert "smaller than casckpt, repacked: none" in capsys.readouterr().out


def test_every_budget_names_a_benchmark_that_is_run() -> None:
    assert {budget.benchmark for budget in BUDGETS} <= set(BENCHMARKS)


def test_the_bare_disk_reads_what_it_wrote(tmp_path: Path) -> None:
    if not limits.takes_direct(tmp_path):
        pytest.skip("this file system has no O_DIRECT")
    source = limits.memory(2 * limits.TASK)
    source[:4] = b"head"
    nbytes = 2 * limits.TASK - limits.BLOCK - 100
    limits.write_all(tmp_path / "bare", nbytes, source)
    target = limits.memory(2 * limits.TASK)
    limits.read_all(tmp_path / "bare", target, 2)
    written = 2 * limits.TASK - limits.BLOCK
    assert (tmp_path / "bare").stat().st_size == written
    assert target[:written] == source[:written]
    files.chill(tmp_path)
    files.warm(tmp_path)
    assert files.allocated(tmp_path) >= written


RUN = """
import runpy, sys
del sys.argv[0]  # as of `python -m`, the module is the program
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


@pytest.fixture(scope="module")
def processes() -> Iterator[Nursery]:
    with nursery("import torch._dynamo, casckpt.store  # an optimizer would import the first, for a second") as started:
        yield started


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        ("commit", "--mb", "2"),
        ("small", "--mb", "2", "--tensors", "100"),
        ("asynchronous", "--mb", "2"),
        ("codecs", "--mb", "2"),
        ("deltas", "--quick", "--every", "1", "--only", "bf16"),
        ("trainings", "--quick", "--checkpoints", "3", "--only", "language model bf16"),
        ("diff", "--mb", "2"),
        ("history", "--commits", "1000"),
        ("gc", "--commits", "100", "--chunks", "100"),
        ("remotes", "--mb", "2"),
    ],
    ids=lambda command: command[0],
)
def test_a_benchmark_runs_and_keeps_every_measurement(
    processes: Nursery, command: tuple[str, ...], tmp_path: Path
) -> None:
    file = tmp_path / "out.json"
    arguments = [*command[1:], "--repeats", "1", "--json", file, "--folder", tmp_path]
    done = processes.start(RUN, f"benchmarks.{command[0]}", *arguments)
    _, errors = done.communicate(timeout=600)
    assert done.returncode == 0, errors
    record = json.loads(file.read_text())
    assert record["about"]["cores"] >= 1
    assert all(len(row[name]) == 1 for row in record["measurements"] for name in set(row) - {"question", "case"})
    assert list(tmp_path.iterdir()) == [file]
