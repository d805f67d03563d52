"""The commands: where each is defined and its help line. Static, so that `--help` imports none of them."""

from __future__ import annotations

from typing import NamedTuple


class Entry(NamedTuple):
    """One command: the first line of its docstring, and its module in `casckpt.cli.commands` if named otherwise."""

    help: str
    module: str = ""


SECTIONS: dict[str, dict[str, Entry]] = {
    "Start": {
        "init": Entry("Make a folder a store."),
        "status": Entry("Show the store at a glance, and what needs attention."),
    },
    "Save and restore": {
        "commit": Entry("Commit files or folders."),
        "checkout": Entry("Write a commit to disk."),
    },
    "Exchange": {
        "import": Entry("Import checkpoints that other programs wrote, as one run.", "import_"),
        "export": Entry("Write a state or a part of it as a file of another program."),
    },
    "Share": {
        "push": Entry("Send runs and tags to a remote."),
        "pull": Entry("Bring runs and tags to where they are on a remote."),
        "fetch": Entry("Bring commits of a remote here, without moving any run or tag."),
        "clone": Entry("Make a store with what a remote has."),
        "remote": Entry("Add, list, change, look at and clean remotes."),
        "drill": Entry("Prove that a remote can be restored from."),
        "bundle": Entry("Carry commits in one file, where no network leads."),
    },
    "Look": {
        "runs": Entry("List the runs, newest first."),
        "log": Entry("Show the history, newest first."),
        "show": Entry("Show one commit in full."),
        "ls": Entry("List what lies at a path of a commit."),
        "cat": Entry("Print a file or a value of a commit."),
        "diff": Entry("Show what differs between two commits."),
        "compare": Entry("Compare runs: which is better, and where they part."),
        "blame": Entry("Show in which commit each leaf changed last."),
    },
    "Names": {
        "reflog": Entry("Show what names meant before, newest first."),
        "tag": Entry("Give a commit a name that never moves, or list the tags."),
        "pin": Entry("Keep a commit reachable whatever its names do, or list the pins."),
        "note": Entry("Remark something about a commit, or print what was remarked."),
        "run": Entry("Begin a run at any commit, rename or finish one."),
        "undo": Entry("Take back a change of names, notes, pins, runs, or any operation."),
    },
    "Care": {
        "drop": Entry("Drop commits, or some of their components."),
        "retain": Entry("Drop what a retention policy lets go."),
        "repack": Entry("Store neighbouring checkpoints as deltas, to take less room."),
        "gc": Entry("Free what no commit needs any more."),
        "du": Entry("Show where the bytes are, and what dropping commits would free."),
        "forget": Entry("Forget commits for good, as when a secret got in."),
        "fsck": Entry("Verify the store, and heal it if asked to."),
        "doctor": Entry("Check machine and store, and say how to mend what is wrong."),
    },
    "Settings and help": {
        "config": Entry("Show and change settings."),
        "completion": Entry("Print or install the completion of a shell."),
        "help": Entry("Explain a command, a concept or an error."),
    },
}
"""Commands by the section of the help they stand in."""

COMMANDS = {name: entry for section in SECTIONS.values() for name, entry in section.items()}
