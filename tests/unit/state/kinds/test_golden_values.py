"""Values are stored as they always were: an encoding that changed would change ids and hide old values."""

from __future__ import annotations

import json

import pytest

from casckpt.state.flatten import flatten
from casckpt.state.kinds import objects, table
from casckpt.state.walk import walk
from tests.golden.values import FILE, stored, values

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
HELD = json.loads(FILE.read_text())


@pytest.mark.parametrize("name", values())
def test_a_value_is_stored_as_the_vectors_say(name):
    assert json.loads(json.dumps(stored(values()[name]))) == HELD[name]


def test_the_vectors_hold_every_kind_of_the_standard_library():
    found = set()
    for value in values().values():
        flat = flatten(value)
        found.update(word for leaf in walk("", flat.root.node, flat.root.values) for word in leaf.kind.split())
    assert set(objects.MAKERS) - found == set()
    assert {kind for kind in found if kind.startswith(("numpy.", "torch.", "random."))} >= {
        *("numpy.array", "numpy.object", "numpy.masked", "numpy.recarray", "numpy.scalar", "numpy.dtype"),
        *("numpy.Generator", "numpy.SeedSequence", "torch.sparse_coo", "torch.sparse_csr", "torch.quantized"),
        *("torch.nested", "torch.jagged", "torch.meta", "torch.Generator", "torch.dtype", "random.Random"),
    }
    assert table.reducer(object) is None
