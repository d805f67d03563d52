"""What patterns select, and the parts of structures that are left."""

from __future__ import annotations

import random
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from casckpt.errors import FormatError, IntegrityError, UsageError
from casckpt.state import paths
from casckpt.state.flat import FlatState
from casckpt.state.flatten import flatten
from casckpt.state.select import compile_patterns, matched, may_reach, prune, subtree
from casckpt.state.unflatten import Part, unflatten
from casckpt.state.walk import walk
from tests.leafwise import assert_same_leaves, is_packed
from tests.strategies import states, stored

many = settings(max_examples=150, suppress_health_check=list(HealthCheck))

# ---- patterns


@pytest.mark.parametrize(
    ("pattern", "path", "selected"),
    [
        ("a", "a", True),
        ("a", "b", False),
        ("a", "ab", False),
        ("a", "a/b/c", True),
        ("a/b", "a", False),
        ("a/", "a/b", True),
        ("/a", "a", True),
        ("*", "a", True),
        ("*", "a/b", True),
        ("*/b", "a/b", True),
        ("*/b", "b", False),
        ("*/b", "x/a/b", False),
        ("a*", "a", True),
        ("a*", "abc/d", True),
        ("a*", "b/a", False),
        ("a*c", "a/c", False),
        ("*b*", "abc", True),
        ("a?", "ab", True),
        ("a?", "a", False),
        ("a?", "abc", False),
        ("a?c", "a/c", False),
        ("??", "é\n", True),
        ("**", "a", True),
        ("**/b", "b", True),
        ("**/b", "x/y/b", True),
        ("**/b", "x/y/b/z", True),
        ("**/b", "x/yb", False),
        ("a/**/b", "a/b", True),
        ("a/**/b", "a/x/y/b", True),
        ("a/**/b", "x/a/b", False),
        ("a/**", "a/x/y", True),
        ("a/**", "b", False),
        ("**/**/b", "b", True),
        ("a**b", "axyb", True),
        ("a**b", "ax/yb", False),
        ("layers/0/w", "layers/0/w", True),
        ("layers/?/w", "layers/10/w", False),
        ("a.b", "a.b", True),
        ("a.b", "axb", False),
        ("[ab]", "a", False),
        ("[ab]", "[ab]", True),
        ("(a|b)", "a", False),
        ("a|b", "b", False),
        ("A", "a", False),
        (r"\d", "1", False),
    ],
)
def test_a_pattern_selects(pattern: str, path: str, selected: bool) -> None:
    assert compile_patterns(pattern)(path) is selected


KEYS: list[Any] = [
    "a/b",
    "50%",
    "",
    "7",
    '"q"',
    ":x",
    "a\nb",
    "ä",
    "\ud8ff",
    7,
    -1,
    True,
    None,
    0.5,
    b"\x00/",
    ("a", 1),
]


@pytest.mark.parametrize("key", KEYS, ids=ascii)
def test_a_canonical_path_selects_its_own_key_and_no_other(key: Any) -> None:
    selects = compile_patterns("root/" + paths.element(key))
    assert [other for other in KEYS if selects("root/" + paths.element(other))] == [key]


ELEMENTS = st.text(st.sampled_from("ab"), min_size=1, max_size=2)
WILD = st.lists(st.text(st.sampled_from("ab*?"), min_size=1, max_size=2), min_size=1, max_size=3).map("/".join)


@given(patterns=st.lists(WILD, min_size=1, max_size=3), path=st.lists(ELEMENTS, min_size=1, max_size=4))
def test_patterns_may_reach_every_component_of_which_they_select_something(
    patterns: list[str], path: list[str]
) -> None:
    selects = compile_patterns(patterns)
    if selects("/".join(path)):
        assert may_reach(patterns, path[0])
    if not any(pattern.startswith("**") for pattern in patterns):
        assert may_reach(patterns, path[0]) == any(compile_patterns(one.partition("/")[0])(path[0]) for one in patterns)


def test_several_patterns_select_what_any_of_them_does() -> None:
    selects = compile_patterns(["a/*/w", "b", "**/z"])
    found = [path for path in ("a/0/w", "a/0/v", "b/c", "c", "c/d/z", "a") if selects(path)]
    assert found == ["a/0/w", "b/c", "c/d/z"]
    assert compile_patterns(("a",))("a")


@pytest.mark.parametrize("patterns", [[], (), None, 5, b"a", [b"a"], ["a", None], [["a"]], {"a": 1}.values()], ids=repr)
def test_what_is_no_pattern_is_a_usage_error(patterns: Any) -> None:
    with pytest.raises(UsageError, match="select is a pattern"):
        compile_patterns(patterns)


# ---- pruning


def oracle(value: Any, path: str, selects: Callable[[str], bool], taken: bool) -> tuple[bool, Any]:
    """Whether anything of a value is selected, and what, by the words of the documentation."""
    taken = taken or selects(path)
    if isinstance(value, list | tuple):
        taken = taken or any(map(selects, below(value, path)))
        return taken, value
    if not isinstance(value, dict):
        return taken, value
    kept: Any = type(value)()
    keeps = taken
    for key, child in value.items():
        some, pruned = oracle(child, paths.join(path, paths.element(key)), selects, taken)
        if some:
            kept[key] = pruned
            keeps = True
    if "_metadata" in getattr(value, "__dict__", ()):
        some, pruned = oracle(vars(value)["_metadata"], paths.join(path, paths.METADATA), selects, taken)
        if some:
            kept._metadata = pruned
            keeps = True
    return keeps, kept


def below(value: Any, path: str) -> list[str]:
    """The paths of everything inside a value."""
    inside: list[tuple[str, Any]] = []
    if isinstance(value, dict):
        inside = [(paths.join(path, paths.element(key)), child) for key, child in value.items()]
        inside += [(paths.join(path, paths.METADATA), child) for child in getattr(value, "__dict__", {}).values()]
    elif isinstance(value, list | tuple) and not is_packed(value):
        inside = [(paths.join(path, str(index)), child) for index, child in enumerate(value)]
    return [place for place, _ in inside] + [deeper for place, child in inside for deeper in below(child, place)]


def pruned_parts(flat: FlatState, selects: Callable[[str], bool]) -> list[Part] | None:
    """The parts of a state that are selected, put together as a checkout does."""
    parts, _ = stored(flat)
    kept: list[Part] = []
    numbers: dict[int, int] = {}
    for number, part in enumerate(parts[1:]):
        found = prune(part.name, part.node, part.values, selects)
        if found is not None:
            numbers[number] = len(kept)
            kept.append(Part(part.name, *found, part.memory, part.nbytes))
    root = prune("", parts[0].node, parts[0].values, selects, numbers)
    return None if root is None else [Part("", *root, parts[0].memory, parts[0].nbytes), *kept]


@st.composite
def cases(draw: st.DrawFn) -> tuple[Any, list[str]]:
    """A state, and patterns of which many select something in it."""
    state = draw(states())
    known = ["", *below(state, "")]
    chosen = []
    for _ in range(draw(st.integers(1, 3))):
        elements = draw(st.sampled_from(known)).split("/")
        for index in range(len(elements)):
            change = draw(st.integers(0, 9))
            if change < 4:
                elements[index] = ("*", "**", elements[index][:1] + "*", "?" + elements[index][1:])[change]
        chosen.append("/".join(elements[draw(st.integers(0, 1)) :]) or "no such key")
    return state, chosen


@many
@given(case=cases())
def test_pruning_is_what_the_documentation_says(case: tuple[Any, list[str]]) -> None:
    state, patterns = case
    selects = compile_patterns(patterns)
    some, expected = oracle(state, "", selects, False)
    parts = pruned_parts(flatten(state), selects)
    assert (parts is not None) is some
    if parts is not None:
        assert_same_leaves(expected, unflatten(parts, []))


def test_dicts_lose_entries_and_sequences_are_whole_or_gone() -> None:
    state = {
        "m": {"w": 1, "b": 2, "empty": {}, "list": [1, {"w": 3, "b": 4}], "other": [5]},
        "t": (1, 2),
        "e": {},
        "s": 6,
    }
    wanted: dict[str, Any] = {
        "**/w": {"m": {"w": 1, "list": [1, {"w": 3, "b": 4}]}},
        "m/list/0": {"m": {"list": [1, {"w": 3, "b": 4}]}},
        "m/empty": {"m": {"empty": {}}},
        "e": {"e": {}},
        "?": {"m": state["m"], "t": (1, 2), "e": {}, "s": 6},
        "t/1": {"t": (1, 2)},
    }
    for pattern, expected in wanted.items():
        parts = pruned_parts(flatten(state), compile_patterns(pattern))
        assert parts is not None
        assert unflatten(parts, []) == expected, pattern
    assert pruned_parts(flatten(state), compile_patterns(["m/list/2", "t/0/x", "e/x"])) is None


def test_metadata_is_an_entry_like_any_other() -> None:
    inner: Any = OrderedDict(w=1)
    inner._metadata = {"version": 2}
    for state, kept in (({"m": inner, "x": 1}, ["m"]), ({"l": [inner, 5], "x": 1}, ["l"])):
        parts = pruned_parts(flatten(state), compile_patterns("**/:meta"))
        assert parts is not None
        found = unflatten(parts, [])
        assert list(found) == kept
        values = found["m"] if "m" in found else found["l"][0]
        assert values._metadata == {"version": 2}


def test_a_list_around_every_level_is_pruned_in_reasonable_time() -> None:
    state: Any = {"leaf": 1}
    for _ in range(150):
        state = [state, 0]
    parts = pruned_parts(flatten({"a": state}), compile_patterns("nothing/like/it"))
    assert parts is None


# ---- one node


@many
@given(state=states())
def test_the_subtree_at_every_path_is_what_lies_there(state: Any) -> None:
    flat = flatten(state)
    for component in (flat.root, *flat.components):
        for leaf in walk(component.name, component.node, component.values):
            if leaf.kind == "part" or not leaf.path:
                continue
            found = subtree(component.name, component.node, component.values, leaf.path)
            assert found is not None, leaf.path
            (again,) = walk(leaf.path, *found)
            assert (again.path, again.kind, again.blob) == (leaf.path, leaf.kind, leaf.blob)
            assert paths.element(again.value) == paths.element(leaf.value) if isinstance(leaf.value, float) else True
            assert subtree(component.name, component.node, component.values, leaf.path + "/x") is None


@pytest.mark.parametrize("path", ["m/x", "m/w/0", "m/list/2", "m/list/-1", "m/list/00", "m//w", "m/", "m/:meta", "m/W"])
def test_a_path_without_anything_has_no_subtree(path: str) -> None:
    (component,) = flatten({"m": {"w": 1, "list": [1, 2]}}).components
    assert subtree("m", component.node, component.values, path) is None


# ---- hostile nodes


SEEDS = [
    {"m": {"w": 1, 5: 2, "list": [1, {"w": 3}], ("a", 1): "x" * 2000}, "t": ([1.5] * 70, ()), "s": 6},
    [OrderedDict(a=1), {True: [None]}, (2, [b"b" * 1500])],
]


def mutated(node: Any, draw: random.Random) -> Any:
    """A copy of nested lists with one place changed to something else."""
    strange = [None, True, -1, 1 << 70, 0.5, "", "dict", b"x", [], [None], ["dict"], ["part", 0], ["list", [None]], {}]
    if type(node) is not list or not node or draw.random() < 0.1:
        return draw.choice(strange)
    copy = list(node)
    at = draw.randrange(len(copy))
    change = draw.randrange(8)
    if change == 0:
        del copy[at]
    elif change == 1:
        copy.insert(at, draw.choice(strange))
    else:
        copy[at] = mutated(copy[at], draw)
    return copy


@pytest.mark.parametrize("seed", range(2))
def test_hostile_nodes_are_refused_and_never_crash(seed: int) -> None:
    draw = random.Random(seed)
    flat = flatten(SEEDS[seed])
    verdicts: set[str] = set()
    for component in (flat.root, *flat.components):
        for _ in range(1500):
            node, values = mutated(component.node, draw), list(component.values)
            if draw.random() < 0.2:
                node = mutated(node, draw)
            if draw.random() < 0.1:
                values = values[:-1]
            pattern = draw.choice(["**", "m/w", "**/w", "*/list/1", "0/a", "nothing"])
            path = draw.choice(["m/w", "m/list/1/w", "1/:true/0", "0/a", "2/1/0"])
            for look in (
                partial(prune, component.name, node, values, compile_patterns(pattern), {0: 0}),
                partial(subtree, component.name, node, values, path),
                partial(lambda *given: matched(*given) or None, component.name, node, [pattern]),
            ):
                try:
                    verdicts.add("found" if look() is not None else "nothing")
                except (IntegrityError, FormatError) as error:
                    verdicts.add(type(error).__name__)
    assert verdicts == {"found", "nothing", "IntegrityError", "FormatError"}


@pytest.mark.parametrize("tag", ["list", "dict", "odict"])
def test_a_node_nested_too_deep_is_refused(tag: str) -> None:
    node: Any = None
    for _ in range(5000):
        node = [tag, [node]] if tag == "list" else [tag, ["a"], [node]]
    for pattern in ("**", "x", "0/0/x", "a/a/x"):
        with pytest.raises(IntegrityError, match="levels deep"):
            prune("m", node, [1], compile_patterns(pattern))
    with pytest.raises(IntegrityError, match="levels deep"):
        matched("m", node, ["x"])
    path = "m" + ("/0" if tag == "list" else "/a") * 300
    assert subtree("m", node, [1], path) is None
    with pytest.raises(IntegrityError, match="levels deep"):
        subtree("m", node, [1], path[:3])


# ---- patterns that must match


@many
@given(states(), st.lists(st.sampled_from(["*", "**", "?", "a", "0", "*/*", "**/0", "a*", '"*', ":*"]), max_size=4))
def test_a_pattern_is_matched_where_it_would_select_something(state: Any, patterns: list[str]) -> None:
    flat = flatten(state)
    found = [matched(part.name, part.node, patterns) for part in (flat.root, *flat.components)]
    leaves = [leaf for part in (flat.root, *flat.components) for leaf in walk(part.name, part.node, part.values)]
    expected = {
        pattern for pattern in patterns if any(leaf.path and compile_patterns(pattern)(leaf.path) for leaf in leaves)
    }
    assert frozenset().union(*found) == expected


def naive(pattern: str, path: str) -> bool:
    """What a pattern means, tried in every way there is."""

    def element(glob: str, text: str) -> bool:
        if not glob:
            return not text
        if glob[0] == "*":
            return any(element(glob[1:], text[at:]) for at in range(len(text) + 1))
        return bool(text) and glob[0] in ("?", text[0]) and element(glob[1:], text[1:])

    def elements(globs: list[str], texts: list[str]) -> bool:
        if not globs:
            return True
        if globs[0] == "**":
            return any(elements(globs[1:], texts[at:]) for at in range(len(texts) + 1))
        return bool(texts) and element(globs[0], texts[0]) and elements(globs[1:], texts[1:])

    return elements(pattern.strip("/").split("/"), path.split("/"))


_GLOBS = st.sampled_from(["**", "*", "a", "b", "a*", "*b", "a*b", "?", "*a*b*", "?*a", "**b", "*a?*b"])
_TEXTS = st.text("ab", min_size=1, max_size=5)


@settings(max_examples=1000)
@given(st.lists(_GLOBS, min_size=1, max_size=5), st.lists(_TEXTS, min_size=1, max_size=6))
def test_a_pattern_means_what_trying_everything_finds(globs: list[str], texts: list[str]) -> None:
    pattern, path = "/".join(globs), "/".join(texts)
    assert compile_patterns(pattern)(path) is naive(pattern, path)


@pytest.mark.parametrize("pattern", ["*a" * 500 + "c", "**/a/" * 200 + "c", "**/*a*a*a/" * 60 + "c", "**/" * 300 + "c"])
def test_no_pattern_takes_long(pattern: str) -> None:
    selects = compile_patterns(pattern)
    began = time.process_time()
    assert not selects("a" * 1000)
    assert not selects("/".join(["a"] * 200))
    assert time.process_time() - began < 1
