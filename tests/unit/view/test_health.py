"""What fsck found, as text."""

from casckpt.ops.reports import Finding, FsckReport
from casckpt.view.health import fsck_lines
from casckpt.view.text import Look

COMMITS = tuple(f"{number:064x}" for number in range(7))
DAMAGE = Finding("damage", "chunk 19af is damaged\x1b", "packs/0c.pack", "model/w", COMMITS)
NOTICE = Finding("notice", "an unfinished frame", "journal/0.log")
HEALED = Finding("damage", "index is damaged", "index", None, (), "built anew")


def report(*findings: Finding) -> FsckReport:
    return FsckReport("full", 268, 64_118, 214, 3 << 30, findings)


def test_a_whole_store_takes_two_lines() -> None:
    assert list(fsck_lines(report(), Look(0))) == [
        "full check: 214 commits, 268 packs, 64,118 objects, 3.0 GiB read",
        "no damage",
    ]


def test_damage_names_the_leaf_and_the_commits_it_hits() -> None:
    assert list(fsck_lines(report(DAMAGE, NOTICE, HEALED), Look(0)))[1:] == [
        "! packs/0c.pack: chunk 19af is damaged\\x1b",
        "    leaf     model/w",
        "    commits  000000000000 000000000000 000000000000 000000000000 000000000000 and 2 more",
        "- journal/0.log: an unfinished frame",
        "= index: index is damaged",
        "    healed   built anew",
        "1 damage, 7 commits affected, 207 whole",
    ]
    assert len(list(fsck_lines(report(DAMAGE, NOTICE), Look(0), notices=False))) == 5


def test_a_healed_store_says_so() -> None:
    assert list(fsck_lines(report(HEALED), Look(0)))[-1] == "no damage left"
