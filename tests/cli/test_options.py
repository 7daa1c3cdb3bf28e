"""Numbers on the command line, at their edges: each is taken, or refused in one line."""

import pytest

NO_NUMBERS = ("", "ten", "0x10", "1_0", "٣", "5,", "5;6", "nan", "inf", "-inf", "1e400")
NOT_WHOLE = (*NO_NUMBERS, "-1", "+5", " 5", "1e3", "5.0", "99999999999999999999", "9" * 5000)
CRF = "W1,SIGMA_ALPHA,SIGMA_BETA"


@pytest.mark.parametrize(
    "option",
    [
        ("segment", "--iterations"),
        ("crf", "--iterations"),
        ("predict", "--workers"),
        ("evaluate", "--trimap"),
        ("evaluate", "--trimap", "1:{}:9"),
        ("crossval", "--images"),
        ("crossval", "--seed"),
        ("demo", "--scenes"),
        ("toyvoc", "--val"),
        ("train", "--iterations"),
        ("bench", "crf", "--labels"),
        ("bench", "net", "--threads"),
        ("bench", "net", "--size", "{}x12"),
    ],
)
def test_whole_numbers(refused, option):
    *command, name = [part for part in option if "{}" not in part]
    shape = option[-1] if "{}" in option[-1] else "{}"
    for text in NOT_WHOLE:
        assert f"argument {name}: '" in refused(*command, f"{name}={shape.format(text)}")


@pytest.mark.parametrize("text", [*NO_NUMBERS, "-1", "1e308", "99999999999999999999"])
def test_numbers_of_the_crf(refused, text):
    """A weight below 0 would push alike pixels apart: it is refused at every door."""
    for command in (("crf",), ("segment",), ("predict",), ("bench", "crf")):
        for values in (f"{text},121,5", f"4,{text},5", f"4,121,{text}"):
            assert "argument --crf: " in refused(*command, f"--crf={values}")
    where = ("photo.jpg", "--probs", "photo.npy", "--out", "labels.png")
    for values in (f"{text},3", f"3,{text}"):
        told = refused("crf", *where, f"--positional={values}")
        assert "is not W2,SIGMA_GAMMA" in told or "CRF parameter " in told


@pytest.mark.parametrize("text", NO_NUMBERS)
def test_values_to_search(refused, text):
    for values in (text, f"1:{text}:3", f"{text}:1:3"):
        assert "argument --w1: '" in refused("crossval", f"--w1={values}")


def test_a_whole_number_that_is_too_large(refused):
    assert "is not a whole number from 0 to 999999999" in refused("demo", "--seed", "9" * 10)
