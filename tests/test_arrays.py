"""Dataclasses that hold arrays: short to show, and safe to compare."""

import ast
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import deeplab_repro
from deeplab_repro.arrays import in_brief, same_content
from deeplab_repro.net.net import Blob
from deeplab_repro.net.preprocess import MeanImage

ARRAYS = {"ndarray", "NDArray", "F32", "UInt8"}


@dataclass
class Record:
    """With a bit of everything."""

    values: object = None
    name: str = ""

    __repr__ = in_brief
    __eq__ = same_content


def of_arrays():
    """The public dataclasses of the package that have a field for arrays, as source."""
    for path in Path(deeplab_repro.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.ClassDef) or node.name[0] == "_":
                continue
            fields = [each.annotation for each in node.body if isinstance(each, ast.AnnAssign)]
            names = {
                getattr(each, "id", getattr(each, "attr", ""))
                for field in fields
                for each in ast.walk(field)
            }
            if names & ARRAYS and "dataclass" in ast.unparse(node.decorator_list):
                yield pytest.param(node, id=f"{path.stem}.{node.name}")


@pytest.mark.parametrize("node", list(of_arrays()))
def test_every_dataclass_of_arrays_is_shown_in_brief_and_compared_safely(node):
    """The generated ones print all numbers, and raise where they compare two arrays."""
    body = ast.unparse(node)
    assert "__repr__" in body
    assert "eq=False" in body or "__eq__" in body


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        (np.zeros((3, 4), np.uint8), "values=<3x4 uint8>"),
        ([np.zeros(2), np.zeros(3)], "values=[<2 float64>, <3 float64>]"),
        (list(range(100)), "values=<100 items>"),
        ("a\nb", r"values='a\nb'"),
        (None, ""),
    ],
)
def test_in_brief(values, shown):
    assert repr(Record(values)) == f"Record({shown})"
    assert len(repr(Record("x" * 1000))) < 200


@pytest.mark.parametrize(
    "kind", [Record, lambda data: Blob((2,), data), lambda v: MeanImage("", v)]
)
def test_same_content(kind):
    ones = np.ones(2, np.float32)
    assert kind(ones) == kind(ones.copy())
    assert kind(None) == kind(None)
    for other in (kind(2 * ones), kind(None), kind(np.ones(3, np.float32)), "text", None):
        assert kind(ones) != other
        assert other != kind(ones)
