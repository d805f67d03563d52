"""The workloads that are crashed: small, and each with another part of the protocol in it."""

from __future__ import annotations

from tests.crash.promises import (
    AGAIN,
    REPAIR,
    Workload,
    collect,
    commit,
    drop,
    finish,
    forget,
    keep_policy,
    note,
    pin,
    rename,
    setting,
    tag,
    undo,
)
from tests.crash.recorder import Snapshot

SECRET = "hunter2"
"""What the commits say that the workload `forget` forgets."""


def flip_a_sealed_byte(files: Snapshot) -> Snapshot:
    """Damage in the one pack that sealing made; the sealed journal file still has a second copy of everything."""
    (name,) = [name for name in files if name.startswith("packs/")]
    content = bytearray(files[name] or b"")
    content[4096 + 10] ^= 1
    return {**files, name: bytes(content)}


def leave_unfinished(files: Snapshot) -> Snapshot:
    """What a power loss leaves: the first half of a frame, longer than the header, and a pack in tmp/."""
    journal = files["journal/0.log"] or b""
    start = journal.rindex(b"CKPTJRN1")
    torn = journal + journal[start : start + (len(journal) - start) // 2]
    return {**files, "journal/0.log": torn, "tmp/pack-1-00": bytes(5000), "tmp/journal-1-00": b""}


def leave_orphans(files: Snapshot) -> Snapshot:
    """What killed processes leave: a whole pack that no frame names, half of one, and an unfinished file."""
    whole = files[min(name for name in files if name.startswith("packs/"))] or b""
    names = ("packs/" + "0" * 64 + ".pack", "packs/" + "1" * 64 + ".pack", "tmp/pack-1-00")
    return {**files, **dict(zip(names, (whole, whole[: len(whole) // 2], bytes(5000)), strict=True))}


def threaded(threads: int) -> Workload:
    """Commits of several tasks and packs, the first of them with chunks that are encoded."""
    return Workload((commit(301, compress="always"), commit(302, compress="off")), (commit(300),), threads=threads)


WORKLOADS = {
    "init": Workload((commit(1), commit(2))),
    "tiny": Workload((commit(2, metrics={"loss": 0.5}), commit(101), tag("good", 101), commit(3)), (commit(1),)),
    "refs": Workload(
        (
            commit(2, best="loss:min", metrics={"loss": 2.0}, kind="recovery", moves=("best", "recovery")),
            commit(3, metrics={"loss": 3.0}),
            commit(102, metrics={"loss": 1.0}, kind="recovery", run="other", moves=("recovery",)),
            commit(4, metrics={"loss": 1.0}, kind="recovery", moves=("best", "recovery")),
        ),
        (commit(1),),
    ),
    # Every change of names and facts, some of them taken back, with a seal between them.
    "names": Workload(
        (
            pin(2),
            note(2, "too high"),
            tag("named", 3),
            undo(("tags/named", None)),
            drop(1),
            undo(facts=(("drop 1", None),)),
            drop(1),
            finish("main"),
            undo(facts=(("finished main", None),)),
            # One policy in place of another, which is taken back, and goes with the run.
            keep_policy("main", 5),
            keep_policy("main", 3),
            undo(facts=(("policy main", 5),)),
            rename("main", "base", 1, 2, 3, facts=(("policy main", None), ("policy base", 5))),
            commit(4, run="base"),
        ),
        (commit(1), commit(2), commit(3)),
        seal_frames=9,
    ),
    # Packs shared with commits that stay, commits that ride in frames, and the journal, which begins anew.
    "forget": Workload(
        (forget(201, 2), commit(4)),
        (commit(1), commit(201), commit(2, message=SECRET), commit(202), commit(3)),
    ),
    # Not among the faults: if the last flush fails, an error is raised and the new settings may be there all the same.
    "settings": Workload((setting("compress", "off"), commit(2), setting("compress", "always")), (commit(1),)),
    "pack": Workload((commit(201), commit(202), tag("pack", 202)), (commit(1),)),
    "seal": Workload(
        (commit(3), commit(103), tag("sealed", 103), commit(4), commit(203), commit(5)),
        (commit(1), commit(2)),
        seal_frames=3,
    ),
    "seal once": Workload((commit(3), commit(4)), (commit(1), commit(2)), seal_frames=3),
    "reopen": Workload((commit(2), tag("reopened", 2)), (commit(1),), leave_unfinished),
    "repair": Workload(
        (REPAIR,), (commit(1), commit(101), commit(102), commit(2)), flip_a_sealed_byte, healed=True, seal_frames=4
    ),
    # What one frame takes out is one pack of three: a collection that is interrupted has freed a part.
    "gc": Workload(
        (drop(201), collect(201), commit(AGAIN + 201)),
        (commit(200), commit(201), commit(2)),
        leave_orphans,
        packs_at_once=1,
    ),
    "gc seal": Workload(
        (
            drop(201),
            undo(facts=(("drop 201", None),)),
            drop(201),
            collect(201),
            drop(3),
            commit(AGAIN + 201),
            collect(),
        ),
        (commit(3), commit(200), commit(201), commit(4)),
        seal_frames=4,
    ),
    "threads 2": threaded(2),
    "threads 4": threaded(4),
}
