"""Measurements by question and case: kept one by one, printed as medians and ratios, written as JSON."""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.workbench.clock import Seconds
from benchmarks.workbench.machine import facts

Key = tuple[str, str]


class Results:
    """Every single measurement of one benchmark: a list per question, case and quantity, one value a round.

    The name of a quantity ends with its unit: wall_s, cpu_s, stored_mb, ratio. While `recording` is off (the first
    round of `rounds`), nothing is kept. Tables list the cases as in `order`, whatever the rounds began with.
    """

    def __init__(self, benchmark: str, about: dict[str, Any]) -> None:
        self.benchmark = benchmark
        self.about = about
        self.recording = True
        self.order: list[str] = []
        self.values: dict[Key, dict[str, list[float]]] = {}
        self.missing: dict[Key, str] = {}

    def rounds(self, repeats: int) -> Iterator[int]:
        """Numbers of the rounds, 0 for the one that only warms up."""
        for number in range(repeats + 1):
            self.recording = number > 0
            yield number
        self.recording = True

    def add(self, question: str, case: str, seconds: Seconds | None = None, **quantities: float) -> None:
        """Keep what one round gave for a case."""
        if not self.recording:
            return
        if seconds is not None:
            quantities = {"wall_s": seconds.wall, "cpu_s": seconds.cpu, **quantities}
        row = self.values.setdefault((question, case), {})
        for name, value in quantities.items():
            row.setdefault(name, []).append(value)

    def absent(self, question: str, case: str, why: str) -> None:
        """Say that a case could not run, and why."""
        self.missing[question, case] = why

    def median(self, question: str, case: str, quantity: str) -> float | None:
        """The median over the rounds, None if there is none."""
        found = self.values.get((question, case), {}).get(quantity)
        return statistics.median(found) if found else None

    def ratio(self, question: str, case: str, base: str, quantity: str) -> float | None:
        """Median over the rounds of case / base in the same round, None if one is missing.

        Pairs of one round saw the same machine, so their ratio is steadier than that of two medians.
        """
        over = self.values.get((question, case), {}).get(quantity)
        under = self.values.get((question, base), {}).get(quantity)
        if not over or not under:
            return None
        pairs = [one / other for one, other in zip(over, under, strict=True) if other]
        return statistics.median(pairs) if pairs else None

    def print(self, question: str, base: str, compared: tuple[str, ...] = ("wall_s", "cpu_s")) -> None:
        """A table of one question: medians, and after each compared quantity how many times the base it is."""
        found = [case for asked, case in [*self.values, *self.missing] if asked == question]
        cases = [case for case in self.order if case in found] + [case for case in found if case not in self.order]
        names = list(dict.fromkeys(name for case in cases for name in self.values.get((question, case), {})))
        width = max(map(len, [*cases, "case"]))
        columns = "".join(f"{name:>15s}" + f"{'x':>7s}" * (name in compared) for name in names)
        print(f"\n{question}\n{'case':{width}s}{columns}")
        for case in cases:
            if (question, case) in self.missing:
                print(f"{case:{width}s}  {self.missing[question, case]}")
                continue
            cells = ""
            for name in names:
                value = self.median(question, case, name)
                ratio = self.ratio(question, case, base, name)
                cells += f"{'' if value is None else f'{value:.4g}':>15s}"
                cells += f"{'' if ratio is None or case == base else f'{ratio:.2f}':>7s}" * (name in compared)
            print(f"{case:{width}s}{cells}", flush=True)

    def to_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return {
            "benchmark": self.benchmark,
            "about": self.about,
            "measurements": [
                {"question": question, "case": case, **row} for (question, case), row in self.values.items()
            ],
            "missing": [
                {"question": question, "case": case, "why": why} for (question, case), why in self.missing.items()
            ],
        }

    @classmethod
    def read(cls, path: Path) -> Results:
        """What `write` wrote."""
        plain = json.loads(path.read_text())
        results = cls(plain["benchmark"], plain["about"])
        for row in plain["measurements"]:
            results.values[row.pop("question"), row.pop("case")] = row
        for row in plain["missing"]:
            results.missing[row["question"], row["case"]] = row["why"]
        return results

    def write(self, path: Path | None) -> None:
        """Write every measurement to a file, if one is asked for."""
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(self.to_dict(), indent=1) + "\n")


def parser(docstring: str | None, mb: int | None, repeats: int) -> argparse.ArgumentParser:
    """The options all benchmarks have; --mb where the size of a state is asked for."""
    made = argparse.ArgumentParser(description=docstring, formatter_class=argparse.RawDescriptionHelpFormatter)
    if mb is not None:
        made.add_argument("--mb", type=int, default=mb, help=f"size of the state in 10^6 bytes (default {mb})")
    made.add_argument("--repeats", type=int, default=repeats, help=f"counted rounds (default {repeats})")
    made.add_argument("--json", type=Path, metavar="FILE", help="write every single measurement here")
    made.add_argument("--folder", type=Path, metavar="DIR", help="where files go (default: the temporary folder)")
    return made


TIMES = "Medians; x = this case / casckpt: above 1 casckpt is faster, or stores less."


def begin(benchmark: str, folder: Path, *, reading: str = TIMES, **parameters: Any) -> Results:
    """Results of a benchmark that starts now in a folder; prints what it meets and how its tables are read."""
    about = {**facts(folder), "parameters": parameters}
    libraries = about["libraries"]
    print(
        f"{benchmark}: {', '.join(f'{name} {value}' for name, value in parameters.items())}; "
        f"{about['cpu']}, {about['cores']} cores, {about['file_system']}, Python {about['python']}, "
        f"torch {libraries['torch']}, load {about['load'][0]:.1f}"
    )
    print(reading, flush=True)
    return Results(benchmark, about)
