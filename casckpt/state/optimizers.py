"""Whether an optimizer would load a stored state dict: known before it is asked, when nothing is changed yet."""

from __future__ import annotations

import sys
from typing import Any

from casckpt.state.flat import Node
from casckpt.state.nodes import AnyNode, MapNode, NumbersNode, SequenceNode, parse


def difference(live: Any, found: MapNode, depth: int) -> str:
    """What keeps a live object from loading a stored state dict; "" if nothing does, or nothing is known of it.

    Args:
        found: at depth `depth`.
    """
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(live, torch.optim.Optimizer):
        return ""
    if type(live).load_state_dict is not torch.optim.Optimizer.load_state_dict:
        return ""
    if live._optimizer_load_state_dict_pre_hooks:  # they may make of it what fits
        return ""
    stored = _sizes(found, depth)
    here = [len(group["params"]) for group in live.param_groups]
    if stored == here:
        return ""
    if stored is None:
        return "no state of an optimizer is stored"
    return f"{_groups(stored)} are stored, here are {_groups(here)}"


def _groups(sizes: list[int]) -> str:
    """Some groups, by the numbers of their parameters."""
    counts = " + ".join(map(str, sizes[:5])) + (" + ..." if len(sizes) > 5 else "")
    return f"parameters in groups of {counts}"


def _sizes(found: MapNode, depth: int) -> list[int] | None:
    """How many parameters each stored group has; None if it is no state of an optimizer."""
    if "state" not in found.keys:
        return None
    groups = _child(found, "param_groups", depth)
    if not isinstance(groups, SequenceNode):
        return None
    sizes = []
    for node in groups.children:
        group = _parsed(node, depth + 2)
        names = _child(group, "params", depth + 2) if isinstance(group, MapNode) else None
        if isinstance(names, SequenceNode):
            sizes.append(len(names.children))
        elif isinstance(names, NumbersNode):
            sizes.append(names.count)
        else:
            return None
    return sizes


def _child(found: MapNode, key: str, depth: int) -> AnyNode | None:
    return _parsed(found.children[found.keys.index(key)], depth + 1) if key in found.keys else None


def _parsed(node: Node, depth: int) -> AnyNode | None:
    return None if node is None else parse(node, depth + 1)
