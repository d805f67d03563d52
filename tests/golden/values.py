"""One value of every kind of the table, as it is stored. Written once, then held: another encoding would be another id.

`python -m tests.golden.values` prints what `values-v1.json` holds.
"""

from __future__ import annotations

import argparse
import datetime
import decimal
import fractions
import json
import pathlib
import random
import sys
import types
import uuid
import warnings
import zoneinfo
from collections import Counter, OrderedDict, defaultdict, deque
from pathlib import Path
from typing import Any

import numpy as np
import torch

from casckpt.state.flatten import flatten
from tests import strategies_standard as standard
from tests.support.vectors import as_json

FILE = Path(__file__).parent / "values-v1.json"
_UTC = datetime.UTC
_ZONE = datetime.timezone(datetime.timedelta(hours=2), "two")


def _sparse() -> dict[str, Any]:
    dense = torch.arange(12.0).reshape(4, 3) * torch.tensor([1.0, 0.0, 1.0])
    return {
        "sparse_coo": dense.to_sparse(),
        "sparse_csr": dense.to_sparse_csr(),
        "sparse_bsc": dense.to_sparse_bsc((2, 3)),
        "quantized": torch.quantize_per_tensor(dense, 0.5, 3, torch.quint8),
        "channels": torch.quantize_per_channel(
            dense, torch.tensor([0.5, 0.25, 1.0]), torch.tensor([0, 1, 2]), 1, torch.qint8
        ),
        "nested": torch.nested.nested_tensor([torch.ones(1, 2), torch.zeros(2, 2)]),
        "jagged": torch.nested.nested_tensor_from_jagged(torch.arange(6.0).reshape(3, 2), torch.tensor([0, 1, 3])),
        "meta": torch.empty(2, 3, device="meta", dtype=torch.bfloat16),
        "sparse parameter": torch.nn.Parameter(dense.to_sparse()),
        "uninitialized": torch.nn.UninitializedParameter(dtype=torch.float32, device="cpu"),
    }


def _record() -> Any:
    """A record with a gap, which holds zeros: what lies in gaps is stored too."""
    record = np.zeros(1, np.dtype({"names": ["a", "b"], "formats": ["<i2", "<f4"], "offsets": [0, 4]}))
    record["a"], record["b"] = 1, 2.5
    return record


def values() -> dict[str, Any]:
    """The values by name."""
    generator = torch.Generator().manual_seed(5)
    numpy_generator = np.random.Generator(np.random.PCG64(5))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        layouts = _sparse()
    return {
        "set": {3, "b", None, ("x", 1), standard.Color.RED, frozenset({2, 1})},
        "frozenset": frozenset({10, 9, -1}),
        "deque": deque([1, 2], 5),
        "defaultdict": defaultdict(OrderedDict, a=OrderedDict(b=1)),
        "Counter": Counter(a=2),
        "mappingproxy": types.MappingProxyType({"a": 1}),
        "namespace": argparse.Namespace(lr=0.1),
        "range": range(1, 9, 2),
        "slice": slice(None, 3),
        "ellipsis": ...,
        "namedtuple": standard.Point(1, "y"),
        "dataclass": standard.config(0.5, [1]),
        "enum": standard.Color.GREEN,
        "flag": standard.Mode.READ | standard.Mode.RUN,
        "registered": standard.Registered(7),
        "protocol": standard.Protocol("x"),
        "date": datetime.date(2024, 2, 29),
        "time": datetime.time(1, 2, 3, 4, fold=1),
        "datetime": datetime.datetime(2024, 2, 29, 1, 2, tzinfo=_UTC),
        "zoned datetime": datetime.datetime(2024, 2, 29, 1, 2, tzinfo=_ZONE),
        "timedelta": datetime.timedelta(days=-1, seconds=5, microseconds=7),
        "zone": zoneinfo.ZoneInfo("UTC"),
        "path": pathlib.PurePosixPath("/a/b"),
        "decimal": decimal.Decimal("1.50E+7"),
        "fraction": fractions.Fraction(-3, 6),
        "uuid": uuid.UUID(int=2**127 + 5),
        "random": random.Random(5),
        "structured": _record(),
        "objects": np.array([[1, None], ["a", 2.5]], object),
        "masked": np.ma.array([1, 2], mask=[0, 1], fill_value=9),
        "record": np.recarray(1, [("x", "i1")], buf=b"\x05"),
        "structured scalar": np.array([(1, 2)], "i1,i1")[0],
        "numpy dtype": np.dtype(">f4"),
        "numpy generator": numpy_generator,
        "seed": np.random.SeedSequence(5, spawn_key=(1,)),
        "torch generator": generator,
        "torch dtype": torch.bfloat16,
        "size": torch.Size([2, 3]),
        "device": torch.device("cuda", 1),
        "memory format": torch.channels_last,
        **layouts,
    }


def stored(value: Any) -> dict[str, Any]:
    """Node, values and blobs of a value alone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        root = flatten([value]).root
    assert root.node is not None
    blobs = [as_json(bytes(blob.read(0, blob.nbytes))) for blob in root.blobs]
    return {"node": as_json(root.node[1][0]), "values": as_json(root.values), "blobs": blobs}


def rows() -> dict[str, Any]:
    """What the file holds."""
    return {name: stored(value) for name, value in values().items()}


if __name__ == "__main__":
    json.dump(rows(), sys.stdout, indent=1)
    print()
