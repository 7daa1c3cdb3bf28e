"""deeplab-repro toyvoc: writes the data set, and says in one line why not."""

import pytest


def test_writes_the_data_set(command, tmp_path):
    arguments = ("--out", tmp_path / "toy", "--train", 2, "--val", 1, "--seed", 7)
    status, out, err = command("toyvoc", *arguments)
    assert (status, out) == (0, "")
    assert "2 scenes for train and 1 for val are in" in err
    assert len(list((tmp_path / "toy/JPEGImages").iterdir())) == 3


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("--train", "-1"), "'-1' is not a whole number from 0 to 999999"),
        (("--train", "1000000"), "whole number from 0 to 999999"),
        (("--val", "many"), "'many' is not a whole number"),
        (("--seed", "1.5"), "'1.5' is not a whole number from 0"),
        (("--train", "0", "--val", "0"), "both 0"),
    ],
)
def test_bad_numbers(refused, tmp_path, arguments, part):
    assert part in refused("toyvoc", "--out", tmp_path / "toy", *arguments)
    assert not (tmp_path / "toy").exists()


def test_out_is_missing_or_a_file(refused, tmp_path):
    assert "--out" in refused("toyvoc")
    (tmp_path / "file").write_text("here")
    assert "file: is a file, expected a folder" in refused("toyvoc", "--out", tmp_path / "file")


def test_a_picture_cannot_be_written(refused, tmp_path):
    (tmp_path / "JPEGImages/toy_val_000000.jpg").mkdir(parents=True)
    error = refused("toyvoc", "--out", tmp_path, "--train", 0, "--val", 1)
    assert "toy_val_000000.jpg: cannot be written: it is a folder" in error
