"""What a page may ask for; everything else is no query."""

import re
from urllib.parse import urlencode

import pytest

from deeplab_repro.crf.params import CrfParams
from deeplab_repro.errors import ArgumentError
from deeplab_repro.tune.setting import Asked, Setting, read_query

GOOD = {
    "number": 7,
    "small": 1,
    "w1": 4,
    "sigma_alpha": "1e-7",
    "sigma_beta": 5.5,
    "w2": 0,
    "sigma_gamma": 3,
    "iterations": 10,
    "step": 2,
    "label": 3,
    "width": 5,
}


def test_a_query():
    expected = Setting(CrfParams(4, 1e-7, 5.5, 0, 3), 10)
    assert read_query(urlencode(GOOD), 4) == Asked(7, True, expected, 2, 3, 5)


@pytest.mark.parametrize(
    "change",
    [
        {"w1": "nan"},
        {"w1": "inf"},
        {"w1": "-1"},
        {"w1": "1_0"},
        {"w1": "\u0664"},
        {"w1": ""},
        {"w1": "9" * 30},
        {"sigma_beta": "5;6"},
        {"number": "1.5"},
        {"number": str(2**60)},
        {"small": "2"},
        {"label": "4"},
        {"iterations": "1e3"},
        {"other": "1"},
    ],
)
def test_what_is_no_query(change):
    with pytest.raises(ValueError, match=r"query|fields") as error:
        read_query(urlencode(GOOD | change), 4)
    assert not isinstance(error.value, ArgumentError)


@pytest.mark.parametrize("text", ["", "a", "w1=4", "&".join(f"a{i}=1" for i in range(50))])
def test_what_is_none_at_all(text):
    with pytest.raises(ValueError, match=r"query|fields"):
        read_query(text, 4)


def test_nothing_comes_twice():
    with pytest.raises(ValueError, match=r"query|fields"):
        read_query(f"{urlencode(GOOD)}&w1=4", 4)
    with pytest.raises(ValueError, match=r"query|fields"):
        read_query(re.sub("&width=5", "&w1=4", urlencode(GOOD)), 4)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"sigma_alpha": 0}, "CRF parameter sigma_alpha is 0.0; expected a number above 0"),
        ({"w1": "1e7"}, "w1 is 10000000.0; expected a number from 0 to 1e6"),
        ({"iterations": 101}, "iterations are 101; expected 0 to 100"),
        ({"step": 11}, "step is 11; expected 0 to 10"),
        ({"width": 0}, "width is 0, expected 1 to 1000"),
    ],
)
def test_what_is_out_of_range_is_told(change, told):
    with pytest.raises(ArgumentError, match=re.escape(told)):
        read_query(urlencode(GOOD | change), 4)


def test_only_deviations_in_pixels_are_scaled():
    setting = Setting(CrfParams(4, 121, 5, 3, 2), 10)
    assert setting.scaled(0.5) == Setting(CrfParams(4, 60.5, 5, 3, 1), 10)
    assert setting.scaled(1) is setting
