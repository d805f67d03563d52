"""What of a hostile commit becomes a file: plain names, used once, and links that cannot lead out."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from casckpt.errors import LinkRefused, NotFoundError, UnsafePath, UsageError
from casckpt.plan.placing import PlacedFile, Placing, place_files
from casckpt.state.paths import element
from casckpt.state.walk import LeafInfo


def path_of(*names: str) -> str:
    return "/".join(map(element, names))


def file(*names: str, executable: bool = False) -> LeafInfo:
    return LeafInfo(path_of(*names), "file", blob=0, value=executable)


def folder(*names: str) -> LeafInfo:
    return LeafInfo(path_of(*names), "dict")


def link(target: bytes, *names: str) -> LeafInfo:
    return LeafInfo(path_of(*names), "link", value=target)


def placed(*leaves: LeafInfo, path: str | None = None, links: bool = True) -> Placing[int]:
    return place_files(list(enumerate(leaves)), path, links=links)


def names(placing: Placing[int]) -> list[bytes]:
    return [b"/".join(found.names) for found in placing.files]


def test_files_folders_and_links_have_their_places() -> None:
    leaves = [
        LeafInfo("out", "part", value=0),
        file("out", "a", "weights.bin"),
        file("out", "a", "run.sh", executable=True),
        folder("out", "empty"),
        link(b"a/weights.bin", "out", "newest"),
    ]
    placing = placed(*leaves)
    assert placing.is_folder
    assert placing.folders == [(b"out",), (b"out", b"a"), (b"out", b"empty")]
    assert placing.files == [
        PlacedFile((b"out", b"a", b"weights.bin"), leaves[1], 1),
        PlacedFile((b"out", b"a", b"run.sh"), leaves[2], 2),
    ]
    assert placing.links == [((b"out", b"newest"), b"a/weights.bin")]


def test_one_file_at_the_top_is_the_target_itself() -> None:
    assert not placed(file("weights.bin")).is_folder
    assert names(placed(file("weights.bin"))) == [b""]
    assert placed(file("out", "weights.bin")).is_folder
    assert placed(file("a"), file("b")).is_folder
    assert placed(file("a"), folder("b")).is_folder
    assert placed(folder()).is_folder
    assert not placed(LeafInfo("", "file", value=False)).is_folder


TREE = (file("out", "a", "1"), file("out", "a", "x%y"), file("out", "b"), folder("out", "c"), file("output"))


@pytest.mark.parametrize(
    ("path", "is_folder", "files", "folders"),
    [
        ("out", True, [b"a/1", b"a/x%y", b"b"], [(b"a",), (b"c",)]),
        ("/out/a/", True, [b"1", b"x%y"], []),
        ("out/a/1", False, [b""], []),
        ('out/a/"1"', False, [b""], []),
        ("out/a/x%y", False, [b""], []),
        ("out/a/x%25y", False, [b""], []),
        ("out/c", True, [], []),
        ("output", False, [b""], []),
        ("", True, [b"out/a/1", b"out/a/x%y", b"out/b", b"output"], [(b"out",), (b"out", b"a"), (b"out", b"c")]),
    ],
)
def test_a_path_becomes_the_target(path: str, is_folder: bool, files: list[bytes], folders: list[object]) -> None:
    placing = placed(*TREE, path=path)
    assert (placing.is_folder, names(placing), placing.folders) == (is_folder, files, folders)


@pytest.mark.parametrize("path", ["o", "out/d", "out/b/c", "out//a", "out/../output"])
def test_a_path_that_nothing_has_is_not_found(path: str) -> None:
    with pytest.raises(NotFoundError, match="path"):
        placed(*TREE, path=path)


def test_the_canonical_path_wins_over_the_plain_name() -> None:
    tree = (file("a%20b"), file("a b"), file("a%2520b"))
    assert [place.leaf for place in placed(*tree, path="a%2520b").files] == [tree[0]]
    assert [place.leaf for place in placed(*tree, path="a b").files] == [tree[1]]


def test_a_live_state_is_refused_with_the_ways_out() -> None:
    with pytest.raises(UsageError, match=r"casckpt export.*Store\.checkout"):
        placed(file("a"), LeafInfo("w", "tensor", blob=0))


@pytest.mark.parametrize(
    "path",
    [
        *("..", ".", "a/..", "../a", "a%2Fb", '""', 'a/""', "a%00b", "a%5Cb", ".casckpt", "a/.CasCkpt/b", "%2E%2E"),
        *(":none", ":meta", ":b00", "a/:t(1)", "-1", "0", "a%FF", "%ED%A0%80", '"', '"plain"', "x" * 256, "é" * 128),
    ],
)
def test_a_name_that_is_not_plain_is_refused(path: str) -> None:
    with pytest.raises(UnsafePath, match="cannot be stored or restored") as caught:
        placed(LeafInfo(path, "file", value=False), file("other"))
    assert caught.value.facts["path"] == path


@pytest.mark.parametrize(
    ("name", "raw"),
    [("x" * 255, b"x" * 255), ("caf\udce9", b"caf\xe9"), ("日本", "日本".encode()), (" a\n*?", b" a\n*?"), ("5", b"5")],
)
def test_any_plain_name_is_kept(name: str, raw: bytes) -> None:
    assert names(placed(file(name), file("other")))[0] == raw


@pytest.mark.parametrize(
    "leaves",
    [
        (file("a"), file("a")),
        (file("a"), link(b"b", "a")),
        (file("a"), file("a", "b")),
        (file("a", "b"), file("a")),
        (link(b"b", "a"), file("a", "b")),
        (link(b"b", "a"), folder("a")),
        (LeafInfo("", "file", value=False), file("a")),
        (LeafInfo("", "link", value=b"a"), file("a")),
    ],
)
def test_two_leaves_never_share_a_name(leaves: tuple[LeafInfo, ...]) -> None:
    with pytest.raises(UnsafePath):
        placed(*leaves)


def test_links_are_refused_unasked_with_the_hint() -> None:
    with pytest.raises(LinkRefused) as caught:
        placed(file("a"), link(b"a", "b"), links=False)
    assert caught.value.facts["path"] == "b"
    assert "--links" in caught.value.advice and "links=True" in caught.value.advice


@pytest.mark.parametrize(
    "target",
    [
        *(b"/etc/passwd", b"../../", b"../..", b"../../x", b"a/../../..", b"./../../x", b"", b"/", b"a\0b", b"a\\b"),
        *(b"../.casckpt/packs", b"x" * 256, b"a/" * 2048),
        *(b"loop/..", b"../out/up/..", b"missing/..", b"a/f/..", b"A/.."),
    ],
)
def test_a_link_that_could_lead_out_is_refused(target: bytes) -> None:
    leaves = (file("out", "a", "f"), link(b".", "out", "loop"), link(b"..", "out", "up"))
    placed(*leaves)
    with pytest.raises(UnsafePath) as caught:
        placed(*leaves, link(target, "out", "bad"))
    assert caught.value.facts["path"] == "out/bad"


def test_a_link_inside_the_commit_but_outside_of_the_part_is_refused() -> None:
    leaves = (file("a", "f"), link(b"../b/f", "a", "l"), file("b", "f"))
    assert placed(*leaves).links == [((b"a", b"l"), b"../b/f")]
    with pytest.raises(UnsafePath, match="out of the target"):
        placed(*leaves, path="a")
    with pytest.raises(UnsafePath, match="no name in the target folder"):
        placed(*leaves, path="a/l")


PARTS = st.sampled_from([b"..", b"..", b".", b"a", b"b", b"c", b"a", b"b"])
NAMES = st.lists(st.sampled_from("abc"), min_size=1, max_size=3)
TREES = st.lists(
    st.one_of(
        st.builds(lambda names: folder(*names), NAMES),
        st.builds(lambda names, parts: link(b"/".join(parts), *names), NAMES, st.lists(PARTS, min_size=1, max_size=4)),
    ),
    min_size=2,
    max_size=6,
)


@settings(max_examples=400)
@given(TREES)
def test_no_link_of_an_accepted_tree_leads_out_on_a_real_file_system(leaves: list[LeafInfo]) -> None:
    try:
        placing = placed(*leaves)
    except UnsafePath:
        event("refused")
        return
    event(f"accepted, {'with' if placing.links else 'without'} links")
    with TemporaryDirectory() as parent:
        top = Path(parent, "top")
        for names in ((), *placing.folders):
            Path(top, *map(os.fsdecode, names)).mkdir()
        for names, target in placing.links:
            os.symlink(target, os.path.join(os.fsencode(top), *names))
        for names, _ in placing.links:
            reached = os.path.realpath(Path(top, *map(os.fsdecode, names)))
            assert reached == str(top) or reached.startswith(f"{top}/"), (placing, names)
