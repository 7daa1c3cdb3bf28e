"""predict: a split's labels, kept scores, and what is refused."""

import os
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deeplab_repro import DeepLab
from deeplab_repro.engines.opencv_cuda import cuda_problem
from deeplab_repro.errors import ArgumentError, DeviceError, FileError
from deeplab_repro.files.images import read_image, read_labels
from deeplab_repro.files.probs import read_coarse
from deeplab_repro.voc.predict import pack, predict
from deeplab_repro.voc.records import read_record
from deeplab_repro.work.workers import Workers
from tests.conftest import assert_one_line
from tests.voc.small import CRF, NAMES, files
from tests.watched import Watched


def test_the_labels_are_the_models(devkit, recipe, tmp_path):
    watched = Watched()
    predicted = predict(devkit, "val", tmp_path / "out", recipe, progress=watched)
    assert predicted.folder == tmp_path / "out/results/VOC2012/Segmentation/comp6_val_cls"
    assert (predicted.names, predicted.failed) == (NAMES, [])
    assert watched.told == [("segmenting val", 3, 3)]
    model = DeepLab(Path(recipe.model), recipe.weights, crf=CRF, iterations=3)
    alone = predict(devkit, "val", tmp_path / "net", replace(recipe, crf=None))
    for name in NAMES:
        image = read_image(devkit.photo(name))
        labels = read_labels(predicted.folder / f"{name}.png")
        np.testing.assert_array_equal(labels, model(image).labels)
        labels = read_labels(alone.folder / f"{name}.png")
        np.testing.assert_array_equal(labels, model.run_net(image).labels)


def test_photos_that_are_scaled_down_are_refused(devkit, recipe, tmp_path):
    with pytest.raises(ArgumentError, match="max_side is 20, expected None"):
        predict(devkit, "val", tmp_path, replace(recipe, max_side=20))


def test_the_record(devkit, recipe, tmp_path):
    predicted = predict(devkit, "val", tmp_path, recipe, scores=tmp_path / "s")
    record = read_record(tmp_path, "val")
    assert record == predicted.record
    assert (record.model, record.labels, record.split) == ("tiny", 4, "val")
    assert (record.crf, record.iterations, record.scores) == (CRF, 3, "float16")
    assert (record.weights, record.trained_on) == ("tiny.caffemodel", None)
    assert not record.has_seen_split
    assert read_record(tmp_path, "test") is None


def test_the_net_runs_once_for_all_crfs(devkit, recipe, tmp_path):
    scores = tmp_path / "scores"
    first = predict(devkit, "val", tmp_path / "first", recipe, scores=scores)
    for name in NAMES:
        height, width = read_image(devkit.photo(name)).shape[:2]
        assert read_coarse(scores / f"{name}.npz").values.shape == (
            4,
            -(-(height - 1) // 8) + 1,
            -(-(width - 1) // 8) + 1,
        )
    os.remove(recipe.weights)
    without = replace(recipe, model=None, weights=None)
    second = predict(devkit, "val", tmp_path / "second", without, scores=scores)
    assert files(second.folder) == files(first.folder)
    assert second.record == first.record
    other = predict(devkit, "val", tmp_path / "other", replace(without, crf=None), scores=scores)
    assert files(other.folder) != files(first.folder)
    (scores / "b.npz").unlink()
    with pytest.raises(ArgumentError, match="needs weights"):
        predict(devkit, "val", tmp_path / "third", without, scores=scores)


def test_labels_are_of_the_scores_as_kept(devkit, recipe, tmp_path):
    predict(devkit, "val", tmp_path / "a", recipe, scores=tmp_path / "s", precision="float16")
    one = read_coarse(tmp_path / "s/a.npz").values
    assert (one == one.astype(np.float16)).all()
    predict(devkit, "val", tmp_path / "b", recipe, scores=tmp_path / "t", precision="float32")
    two = read_coarse(tmp_path / "t/a.npz").values
    np.testing.assert_allclose(one, two, rtol=1e-3)
    assert (one != two).any()


def test_scores_at_full_size_are_kept_with_a_warning(devkit, recipe, tmp_path, caplog):
    predict(devkit, "val", tmp_path / "a", recipe, scores=tmp_path / "s")
    assert not caplog.text
    with open(recipe.model, "a") as prototxt:
        prototxt.write("""
        layers { name: "up_too" type: INTERP bottom: "conv" top: "up_too"
          interp_param { zoom_factor: 8 } }
        layers { name: "fc" type: CONVOLUTION bottom: "up_too" top: "fc"
          convolution_param { num_output: 4 kernel_size: 1 } }
        layers { name: "sum" type: ELTWISE bottom: "up" bottom: "fc" top: "sum" }
        """)
    recipe = replace(recipe, weights="random:0")
    predict(devkit, "val", tmp_path / "b", recipe, scores=tmp_path / "t")
    assert "net 'tiny' adds up branches at full size" in caplog.text
    height, width = read_image(devkit.photo("a")).shape[:2]
    assert read_coarse(tmp_path / "t/a.npz").values.shape == (4, height, width)


def test_processes_make_the_same_files(devkit, recipe, tmp_path):
    here = predict(devkit, "val", tmp_path / "a", recipe, scores=tmp_path / "a/s")
    there = predict(
        devkit, "val", tmp_path / "b", recipe, scores=tmp_path / "b/s", workers=Workers(2)
    )
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert here.record == there.record


def test_an_image_that_cannot_be_read(devkit, recipe, tmp_path):
    devkit.photo("b").write_bytes(b"no JPEG")
    predicted = predict(devkit, "val", tmp_path, recipe)
    assert [failed.path for failed in predicted.failed] == [devkit.photo("b")]
    assert sorted(files(predicted.folder)) == ["a.png", "c.png"]


def trained_on(recipe, source):
    """The same weights as a snapshot that was trained on a list."""
    from deeplab_repro.caffe import deeplab_pb2

    message = deeplab_pb2.NetParameter()
    message.ParseFromString(Path(recipe.weights).read_bytes())
    layer = message.layers.add(name="data", type=39)
    layer.image_data_param.source = source
    Path(recipe.weights).write_bytes(message.SerializeToString())


@pytest.mark.parametrize("how", ["the file says so", "its name says so"])
def test_weights_that_were_trained_on_val(devkit, recipe, tmp_path, how, caplog):
    if how == "the file says so":
        trained_on(recipe, "voc12/list/trainval_aug.txt")
    else:
        renamed = tmp_path / "train2_iter_8000.caffemodel"
        recipe = replace(recipe, weights=str(Path(recipe.weights).rename(renamed)))
    with pytest.raises(ArgumentError) as error:
        predict(devkit, "val", tmp_path / "out", recipe)
    assert_one_line(error, "was trained on trainval_aug", "too high", "--force")
    assert not (tmp_path / "out").exists()
    predicted = predict(devkit, "val", tmp_path / "out", recipe, force=True)
    assert predicted.record.has_seen_split
    assert "was trained on trainval_aug, which has images of split 'val'" in caplog.text


def test_weights_that_were_trained_on_train(devkit, recipe, tmp_path, caplog):
    trained_on(recipe, "voc12/list/train_aug.txt")
    assert not predict(devkit, "val", tmp_path, recipe).record.has_seen_split
    assert not caplog.text
    assert predict(devkit, "train", tmp_path, recipe).record.has_seen_split
    assert "images of split 'train'" in caplog.text


def test_a_net_of_other_classes(devkit, recipe, tmp_path):
    with pytest.raises(ArgumentError) as error:
        predict(replace(devkit, classes=("a", "b")), "val", tmp_path, recipe)
    assert_one_line(error, "has 2 classes, but net 'tiny' tells 4 apart")


def test_photos_that_are_missing(devkit, recipe, tmp_path):
    devkit.photo("b").unlink()
    with pytest.raises(FileError, match=r"b.jpg: does not exist, but split 'val' names it"):
        predict(devkit, "val", tmp_path / "out", recipe)
    assert not (tmp_path / "out").exists()


def test_a_full_disk_ends_the_run(devkit, recipe, tmp_path, monkeypatch):
    def full(*_):
        raise FileError("b.png: cannot be written: no space left on device")

    monkeypatch.setattr("deeplab_repro.voc.segmenting.write_labels", full)
    with pytest.raises(FileError, match="no space left"):
        predict(devkit, "val", tmp_path, recipe)


# --- the test server's tar


def test_a_tar_for_the_test_server(devkit, recipe, tmp_path):
    predicted = predict(devkit, "val", tmp_path, recipe)
    pack(predicted, tmp_path / "a.tgz")
    with tarfile.open(tmp_path / "a.tgz") as archive:
        top = "results/VOC2012/Segmentation/comp6_val_cls"
        assert archive.getnames() == [f"{top}/{name}.png" for name in NAMES]
        content = archive.extractfile(f"{top}/b.png").read()
    assert content == (predicted.folder / "b.png").read_bytes()
    packed = (tmp_path / "a.tgz").read_bytes()
    pack(predicted, tmp_path / "a.tgz")
    assert (tmp_path / "a.tgz").read_bytes() == packed
    (predicted.folder / "c.png").unlink()
    with pytest.raises(FileError) as error:
        pack(predicted, tmp_path / "b.tgz")
    assert_one_line(error, "b.tgz: not written, 1 of 3 results are missing", "c.png is the first")
    assert not (tmp_path / "b.tgz").exists()


# --- beside a GPU: one process, whose threads read and write


def as_on_a_gpu(monkeypatch):
    """Let the CPU pass for a GPU: what is around the net and the CRF is the same."""
    monkeypatch.setattr(DeepLab, "device", "cuda")


@pytest.mark.parametrize("crf", [None, CRF])
@pytest.mark.parametrize("scores", [None, "s"])
@pytest.mark.parametrize("processes", [0, 2])
def test_stages_make_the_same_files(devkit, recipe, tmp_path, monkeypatch, crf, scores, processes):
    recipe, watched = replace(recipe, crf=crf), Watched()
    one, two = tmp_path / "one", tmp_path / "two"
    predict(devkit, "val", one, recipe, scores=scores and one / scores)
    as_on_a_gpu(monkeypatch)
    predict(
        devkit,
        "val",
        two,
        recipe,
        scores=scores and two / scores,
        workers=Workers(processes),
        progress=watched,
    )
    assert watched.told == [("segmenting val", 3, 3)]
    assert files(two) == files(one)


def test_a_photo_that_fails_in_a_stage(devkit, recipe, tmp_path, monkeypatch):
    as_on_a_gpu(monkeypatch)
    devkit.photo("b").write_bytes(b"no photo")
    predicted = predict(devkit, "val", tmp_path, recipe, workers=Workers(2))
    assert [failed.path.name for failed in predicted.failed] == ["b.jpg"]
    assert sorted(files(predicted.folder)) == ["a.png", "c.png"]


def test_a_full_disk_ends_the_stages(devkit, recipe, tmp_path, monkeypatch):
    def full(*_):
        raise FileError("b.png: cannot be written: no space left on device")

    as_on_a_gpu(monkeypatch)
    monkeypatch.setattr("deeplab_repro.voc.segmenting.write_labels", full)
    with pytest.raises(FileError, match="no space left"):
        predict(devkit, "val", tmp_path, recipe, workers=Workers(2))


def test_kept_scores_have_no_other_types(devkit, recipe, tmp_path):
    for precision in ("bfloat16", "int8"):
        with pytest.raises(ArgumentError) as error:
            predict(devkit, "val", tmp_path, recipe, scores=tmp_path / "s", precision=precision)
        assert_one_line(error, f"'{precision}'", "expected float32 or float16")
    assert not any(tmp_path.glob("*.json"))


def test_cuda_that_is_not_there_ends_the_run(devkit, recipe, tmp_path):
    if cuda_problem() is None:
        pytest.skip("this machine has CUDA")
    for precision in ("float32", "float16"):
        with pytest.raises(DeviceError, match="CUDA was asked for"):
            predict(devkit, "val", tmp_path, replace(recipe, device="cuda", precision=precision))
    assert not any(tmp_path.glob("*.json"))


def test_half_precision_is_not_for_the_cpu(devkit, recipe, tmp_path):
    with pytest.raises(DeviceError, match="float16"):
        predict(devkit, "val", tmp_path, replace(recipe, precision="float16"))
