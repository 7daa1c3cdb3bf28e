"""`predict` with scores that it did not keep: their labels, bound to them by content."""

import numpy as np
import pytest

from deeplab_repro.crf.params import CrfParams
from deeplab_repro.errors import ArgumentError, FileError, FormatError
from deeplab_repro.files.images import read_image, read_labels
from deeplab_repro.files.probs import read_coarse
from deeplab_repro.net.scores import softmax
from deeplab_repro.segmenter import Recipe
from deeplab_repro.voc.evaluate import find_results
from deeplab_repro.voc.predict import predict
from deeplab_repro.work.workers import Workers
from tests.conftest import assert_one_line
from tests.voc.small import CRF, NAMES, files

RECIPE = Recipe(None, None, "cpu", CRF, iterations=3)


@pytest.fixture
def scores(devkit, whole, tmp_path):
    """The net's scores as other programs save them: full size, labels last, float64."""
    folder = tmp_path / "others"
    folder.mkdir()
    for name in NAMES:
        size = read_image(devkit.photo(name)).shape[:2]
        values = read_coarse(whole / f"s/{name}.npz").enlarged(size)
        np.save(folder / f"{name}.npy", np.moveaxis(values, 0, -1).astype(float))
    return folder


def labels_in(out):
    return [read_labels(find_results(out, "val") / f"{name}.png") for name in NAMES]


@pytest.mark.parametrize("processes", [0, 2])
def test_the_labels_are_those_of_the_net_that_made_them(
    devkit, scores, whole, tmp_path, caplog, processes
):
    caplog.set_level("INFO")
    before = files(scores)
    workers = Workers(processes)
    made = predict(devkit, "val", tmp_path / "out", RECIPE, scores=scores, workers=workers)
    assert (made.failed, made.there) == ([], 0)
    assert (made.record.model, made.record.labels) == ("scores of others", 4)
    for found, expected in zip(labels_in(tmp_path / "out"), labels_in(whole), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert files(scores) == before
    assert "a.npy, and others like it there, are taken as scores, HxWxC, at the" in caplog.text
    again = predict(devkit, "val", tmp_path / "out", RECIPE, scores=scores)
    assert again.there == 3


def test_probabilities_and_no_crf(devkit, scores, tmp_path):
    expected = []
    for name in NAMES:
        values = np.moveaxis(np.load(scores / f"{name}.npy"), -1, 0).astype(np.float32)
        np.save(scores / f"{name}.npy", softmax(values))
        expected.append(values.argmax(axis=0))
    recipe = Recipe(None, None, "cpu", None)
    predict(devkit, "val", tmp_path / "out", recipe, scores=scores)
    for found, wanted in zip(labels_in(tmp_path / "out"), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_results_are_bound_to_the_content(devkit, scores, tmp_path):
    predict(devkit, "val", tmp_path / "out", RECIPE, scores=scores)
    before = files(tmp_path / "out")
    (scores / "b.npy").rename(scores / "b.probs.npy")  # another name is no difference
    assert predict(devkit, "val", tmp_path / "out", RECIPE, scores=scores).there == 3
    np.save(scores / "b.probs.npy", 2 * np.load(scores / "b.probs.npy"))
    with pytest.raises(ArgumentError) as error:
        predict(devkit, "val", tmp_path / "out", RECIPE, scores=scores)
    assert_one_line(error, "predict.val.json: was made with weights_sha256", "another folder")
    assert files(tmp_path / "out") == before


def test_a_model_gives_its_crf(devkit, scores, tmp_path):
    with pytest.raises(ArgumentError) as error:
        predict(devkit, "val", tmp_path / "out", Recipe(crf="model"), scores=scores)
    assert_one_line(error, "no CRF parameters are published for net 'scores of others'", "--crf")
    recipe = Recipe("DeepLab-LargeFOV", None, "cpu", iterations=1)
    made = predict(devkit, "val", tmp_path / "out", recipe, scores=scores)
    assert (made.record.model, made.record.crf) == ("DeepLab-LargeFOV", CrfParams(4, 121, 5))


def test_what_cannot_be_is_refused(devkit, scores, tmp_path, recipe):
    out = tmp_path / "out"
    with pytest.raises(ArgumentError) as error:
        predict(devkit, "val", out, recipe, scores=scores)
    assert_one_line(error, "others: has scores that predict did not keep", "leave out --weights")
    with pytest.raises(ArgumentError) as error:
        predict(devkit, "val", out, RECIPE, scores=scores, precision="float16")
    assert_one_line(error, "leave out --scores-type")
    whole = np.load(scores / "c.npy")
    (scores / "c.npy").unlink()
    with pytest.raises(FileError) as error:
        predict(devkit, "val", out, RECIPE, scores=scores)
    assert_one_line(error, "others: has no scores of c")
    assert not out.exists()
    np.save(scores / "c.npy", np.moveaxis(whole, -1, 0))
    made = predict(devkit, "val", out, RECIPE, scores=scores)
    ((failed,),) = [made.failed]
    assert isinstance(failed.error, FormatError)
    told = (
        "c.npy: holds 4 labels of scores, CxHxW, at the photo's size, expected 4 of scores, HxWxC"
    )
    assert told in str(failed.error)
    np.save(scores / "a.npy", np.load(scores / "a.npy")[..., :3])
    with pytest.raises(ArgumentError) as error:
        predict(devkit, "val", tmp_path / "other", RECIPE, scores=scores)
    assert_one_line(error, "has 4 classes, but net 'scores of others' tells 3 apart")
