"""The guided tour: train a small language model, kill it in the middle of a commit, resume, compare, look around.

    python3 tools/run demo [--store PATH] [--steps 120]

1. A training runs to its end, undisturbed.
2. The same training starts in a second store and is killed with SIGKILL inside a commit.
3. It is started again with the same words and goes on from the last commit.
4. Both must end with the same bits: one hash of all parameters and of the whole loss log.
5. The log, the first and the last commit compared, and what deduplication saved.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

TRAIN = Path(__file__).with_name("train.py")


def title(text: str) -> None:
    """Print a heading."""
    print(f"\n== {text}", flush=True)


def show(*words: str) -> None:
    """Run a casckpt command, with its words shown above its output."""
    print(f"$ casckpt {' '.join(words)}", flush=True)
    subprocess.run([sys.executable, "-m", "casckpt.cli", *words], check=True)


class Training:
    """The training script in a process of its own."""

    def __init__(self, store: Path, steps: int) -> None:
        words = [sys.executable, str(TRAIN), str(store), "--steps", str(steps)]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)

    def lines(self) -> Iterator[str]:
        """What it prints, line by line."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            yield line.strip()

    def finish(self) -> str:
        """Run to the end; returns the fingerprint of the result."""
        fingerprint = ""
        for line in self.lines():
            if line.startswith(("resumed", "committed")):
                print(f"  {line[:40]}", flush=True)
            if line.startswith("fingerprint"):
                fingerprint = line.split()[1]
        if self.process.wait() != 0 or not fingerprint:
            sys.exit("the training failed; its message is above")
        return fingerprint

    def kill_inside_commit(self, number: int, delay_s: float) -> str:
        """SIGKILL this long after it says that it begins its commit of this number; returns its last line."""
        begun, last = 0, ""
        for line in self.lines():
            last = line
            begun += line.startswith("committing")
            if begun == number:
                time.sleep(delay_s)
                self.process.send_signal(signal.SIGKILL)
                break
        self.process.wait()
        return last


def tour(folder: Path, steps: int) -> None:
    """Play the whole demonstration in an empty folder."""
    quiet, rough = folder / "undisturbed", folder / "killed"
    title("A training runs to its end")
    expected = Training(quiet, steps).finish()
    title("The same training, killed with SIGKILL inside a commit")
    # The commit takes milliseconds: start the clock when it is announced and hit it somewhere inside.
    last = Training(rough, steps).kill_inside_commit(max(2, steps // 30), random.uniform(0.002, 0.03))
    print(f"  killed after it had said: {last}")
    title("Started again with the same words")
    found = Training(rough, steps).finish()
    if found != expected:
        sys.exit(f"NOT the same bits: {found} instead of {expected}")
    print(f"  parameters and loss log are bit for bit those of the undisturbed training: {found[:16]}...")
    title("What is in the store")
    show("-C", str(rough), "log", "-n", "4")
    show("-C", str(rough), "diff", "gpt@step=10", "gpt/last", "--top", "5")
    show("-C", str(rough), "status")
    show("-C", str(rough), "fsck", "--full")
    title("What deduplication saved")
    import casckpt

    with casckpt.open(rough) as store:
        status = store.status()
    whole, stored = status.logical / 1e6, status.stored / 1e6
    print(f"  {status.commits} checkpoints of {whole / status.commits:.1f} MB each: {whole:.1f} MB as whole files,")
    print(f"  {stored:.1f} MB in the store ({1 - stored / whole:.0%} saved; the lower layers are frozen half-way)")
    print(f"\nLook around: .venv/bin/casckpt -C {rough} log")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, help="an absent folder for the two stores (default: a temporary one)")
    parser.add_argument("--steps", type=int, default=120)
    arguments = parser.parse_args()
    folder = arguments.store or Path(tempfile.mkdtemp(prefix="casckpt-demo-"))
    folder.mkdir(parents=True, exist_ok=True)
    tour(folder, arguments.steps)


if __name__ == "__main__":
    main()
