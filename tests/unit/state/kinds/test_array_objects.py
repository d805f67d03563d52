import sys

import numpy as np
import pytest

from casckpt import errors
from casckpt.state.kinds import array_dtypes, array_objects, params
from casckpt.state.kinds.reduced import CannotReduce, ClassUnknown
from tests.strategies_values import assert_same, reduced, through

RECORD = np.dtype([("x", "<f4"), ("y", ">i2", (3,)), ("z", [("name", "<U2"), ("when", "<M8[s]")])])
REFUSED_DTYPES = {
    "empty": "",
    "code": "__import__('os')",
    "comma": "i4,f4",
    "name": "float32",
    "not canonical": "=f4",
    "native": "<i1",
    "subarray": "(2,)<i4",
    "width": "<f3",
    "huge": "<U4000000000",
    "unit": "<M8[parsec]",
    "long double of another platform": "<f16:105:-1022",
    "long double without a platform": "<f16",
    "private": "ml_dtypes._custom_floats",
    "JSON list": "[1]",
    "spaces": '{"base": "<f4","shape":[1]}',
    "deep": '{"base":' * 40 + '"<f4"' + ',"shape":[1]}' * 40,
    "deeper": '{"base":' * 30_000,
    "number": '{"base":1,"shape":[1]}',
    "shape": '{"base":"<f4","shape":[-1]}',
    "large shape": '{"base":"<f4","shape":[4000000000,4000000000]}',
    "fields": '{"names":["a"],"formats":["<f4"],"offsets":[0]}',
    "twice": '{"names":["a","a"],"formats":["<f4","<f4"],"offsets":[0,4],"itemsize":8}',
    "outside": '{"names":["a"],"formats":["<f4"],"offsets":[2],"itemsize":4}',
    "negative": '{"names":["a"],"formats":["<f4"],"offsets":[-4],"itemsize":4}',
    "counts": '{"names":["a","b"],"formats":["<f4"],"offsets":[0],"itemsize":4}',
    "object over number": '{"names":["a","b"],"formats":["|O","<i8"],"offsets":[0,0],"itemsize":8}',
    "aligned": '{"names":["a"],"formats":["<f4"],"offsets":[1],"itemsize":8,"aligned":true}',
    "aligned to nothing": '{"names":["a"],"formats":["|u1"],"offsets":[0],"itemsize":1,"aligned":false}',
    "titles": '{"names":["a"],"formats":["<f4"],"offsets":[0],"itemsize":4,"titles":["a"]}',
    "missing": '{"coerce":true,"missing":"NA"}',
    "coerce": '{"coerce":1,"missing":null}',
    "text": '{"coerce":true,"missing":["nan"]}',
}


@pytest.mark.parametrize("name", REFUSED_DTYPES)
def test_a_dtype_that_nobody_wrote_is_refused(name):
    with pytest.raises((errors.FormatError, errors.IntegrityError)):
        array_dtypes.parse(REFUSED_DTYPES[name])


def test_a_dtype_too_long_to_be_true_is_refused():
    names = [f"field {number}" for number in range(10_000)]
    text = array_dtypes.describe(np.dtype([(name, "<f8") for name in names]))
    assert array_dtypes.parse(text).names == tuple(names)
    with pytest.raises(errors.IntegrityError):
        array_dtypes.parse('{"names":["' + "x" * params.TEXT_MAX)
    with pytest.raises(CannotReduce):
        array_dtypes.describe(np.dtype([("x" * params.TEXT_MAX, "<f8")]))


def test_alignment_is_kept_though_numpy_calls_dtypes_equal_without_it():
    packed, aligned = np.dtype([("a", "<f4")]), np.dtype([("a", "<f4")], align=True)
    assert packed == aligned
    assert array_dtypes.describe(packed) != array_dtypes.describe(aligned)
    assert_same([packed, aligned, packed], through([packed, aligned, packed]))


def test_a_structured_array_shares_its_memory_with_the_view_of_a_field():
    array = np.zeros((4, 3), RECORD)
    back, field = through([array, array["x"]])
    back["x"][1, 2] = 7
    assert field[1, 2] == 7
    field[...] = 1
    assert (back["x"] == 1).all()


def test_a_masked_array_shares_data_and_mask():
    masked = np.ma.MaskedArray(np.arange(4.0), mask=[0, 1, 0, 1])
    back, data, mask = through([masked, masked.data, masked.mask])
    data[0], mask[0] = 9, True
    assert back.data[0] == 9
    assert back[0] is np.ma.masked


def test_nothing_large_is_copied():
    for array in (np.zeros(1000, RECORD), np.zeros(1000, np.longdouble), np.zeros(1000).view(np.recarray)):
        assert np.shares_memory(array_objects.reduce_array(array).inner, array)


def test_a_memmap_comes_back_as_an_array(tmp_path):
    mapped = np.memmap(tmp_path / "data", np.float32, "w+", shape=(3,))
    mapped[:] = 2
    back = through(mapped)
    assert type(back) is np.ndarray
    assert back.tolist() == [2, 2, 2]


def test_a_structured_scalar_can_be_written_to():
    scalar = through(np.zeros(1, RECORD)[0])
    scalar["x"] = 3
    assert scalar["x"] == 3


def test_elements_of_an_object_array_are_not_looked_into():
    array = np.empty(5, object)
    for index, element in enumerate(([1, 2], (3,), np.arange(2), None, {"a": [np.float32(1)]})):
        array[index] = element
    array[3] = np.empty((), object)
    array[3][()] = [1]
    back = through(array)
    assert [type(element) for element in back] == [type(element) for element in array]
    assert_same(array, back)


class Mine(np.ndarray):
    pass


class MyFloat(np.float64):
    pass


def attributed():
    array = np.zeros(3).view(np.recarray)
    array.note = "x"
    return array


NOT_KEPT = {
    "subclass": lambda: np.zeros(3).view(Mine),
    "attribute": attributed,
    "objects in a record": lambda: np.zeros(2, [("a", object)]),
    "scalar with objects": lambda: np.zeros(2, [("a", object)])[0],
    "subclass of a scalar": lambda: MyFloat(1),
    "masked matrix": lambda: np.ma.MaskedArray(np.zeros((2, 2)).view(np.matrix)),
    "missing text": lambda: np.array(["a"], np.dtypes.StringDType(na_object="NA")),
    "odd title": lambda: np.dtype([(((1, 2), "a"), "<f4")]),
    "deep": lambda: deep(40),
}


def deep(levels):
    return np.dtype([("a", deep(levels - 1))]) if levels else np.dtype("<f4")


@pytest.mark.parametrize("name", NOT_KEPT)
def test_what_could_not_come_back_is_not_kept(name):
    with pytest.raises(CannotReduce):
        reduced(NOT_KEPT[name]())


def test_types_of_a_library_that_is_not_imported_are_not_here(monkeypatch):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(ClassUnknown, match="not imported"):
        array_dtypes.parse("ml_dtypes.bfloat17")


def test_what_ml_dtypes_does_not_have_is_refused():
    pytest.importorskip("ml_dtypes")
    for name in ("os", "bfloat17", "finfo"):
        with pytest.raises(errors.FormatError):
            array_dtypes.parse(f"ml_dtypes.{name}")


def test_types_of_ml_dtypes_are_stored_by_bytes_that_can_be_compressed_as_numbers():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    array = np.arange(6).astype(ml_dtypes.bfloat16).reshape(2, 3)
    found = array_objects.reduce_array(array)
    assert (found.param, found.inner.dtype.str) == ("ml_dtypes.bfloat16", "<u2")
    assert_same(array, through(array))
