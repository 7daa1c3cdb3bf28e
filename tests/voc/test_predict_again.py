"""predict on a folder that has results: what counts, what is made again, what is refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deeplab_repro.caffe import read_net, write_caffemodel
from deeplab_repro.crf.params import CrfParams
from deeplab_repro.errors import ArgumentError, DeepLabError, FileError
from deeplab_repro.files.holding import hold
from deeplab_repro.files.images import read_labels
from deeplab_repro.files.pictures import write_image, write_labels
from deeplab_repro.jobs.done import net_digest
from deeplab_repro.models.loading import read_model
from deeplab_repro.net.preprocess import MeanImage, Preprocessing
from deeplab_repro.voc.predict import predict
from deeplab_repro.voc.records import read_record
from deeplab_repro.voc.segmenting import Segmenting
from tests.conftest import assert_one_line
from tests.voc.small import NAMES, files


def test_what_a_killed_run_left_is_removed(devkit, recipe, tmp_path, whole):
    out = shutil.copytree(whole, tmp_path / "out")
    for folder in (out, out / "s", out / "results/VOC2012/Segmentation/comp6_val_cls"):
        (folder / ".deeplab-0123.tmp").write_bytes(b"half of a pi")
    (out / ".deeplab.lock").write_text("process 7")
    (out / "s/b.npz").unlink()
    predict(devkit, "val", out, recipe, scores=out / "s")
    assert files(out) == files(whole)


def spoil(path, how, other):
    """Break a result or kept scores, or put another's in its place."""
    content = path.read_bytes()
    half = len(content) // 2
    broken = {
        "empty": b"",
        "cut short": content[:-1],
        "changed": content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :],
        "no such file": b"no picture, and no scores",
        "another photo's": other.read_bytes(),
    }
    if how == "gone":
        path.unlink()
    elif how == "without a mark":
        write_labels(path, read_labels(path))
    else:
        path.write_bytes(broken[how])


HOWS = ["empty", "cut short", "changed", "no such file", "another photo's", "gone"]


@pytest.mark.parametrize(
    ("what", "how"),
    [*(("labels", how) for how in [*HOWS, "without a mark"]), *(("scores", how) for how in HOWS)],
)
def test_what_does_not_check_out_is_made_again(devkit, recipe, tmp_path, whole, what, how):
    out = shutil.copytree(whole, tmp_path / "out")
    folder = out / "results/VOC2012/Segmentation/comp6_val_cls"
    ending, place = (".png", folder) if what == "labels" else (".npz", out / "s")
    kept = {name: (folder / f"{name}.png").stat().st_mtime_ns for name in NAMES}
    spoil(place / f"b{ending}", how, place / f"c{ending}")
    predicted = predict(devkit, "val", out, recipe, scores=out / "s")
    assert not predicted.failed
    assert files(out) == files(whole)
    now = {name: (folder / f"{name}.png").stat().st_mtime_ns for name in NAMES}
    assert [name for name in NAMES if now[name] != kept[name]] == ["b"]


def test_scores_that_break_when_they_are_read(devkit, recipe, tmp_path, photo, caplog):
    write_image(devkit.photo("b"), photo(200, 260))  # its scores are longer than their directory
    predict(devkit, "val", tmp_path / "whole", recipe, scores=tmp_path / "whole/s")
    out = shutil.copytree(tmp_path / "whole", tmp_path / "out")
    spoil(out / "s/b.npz", "changed", out / "s/c.npz")
    shutil.rmtree(out / "results")
    predicted = predict(devkit, "val", out, recipe, scores=out / "s")
    assert not predicted.failed
    assert "b.npz" in caplog.text
    assert files(out) == files(tmp_path / "whole")


def test_other_photos_of_the_same_names(devkit, recipe, tmp_path, whole, photo, caplog):
    out = shutil.copytree(whole, tmp_path / "out")
    write_image(devkit.photo("b"), photo(29, 38, seed=9))
    without = replace(recipe, model=None, weights=None)
    with pytest.raises(ArgumentError, match="needs weights"):
        predict(devkit, "val", tmp_path / "new", without, scores=out / "s")
    assert "the scores of b (and of 0 more) are broken, or of another photo than it" in caplog.text
    predict(devkit, "val", out, recipe, scores=out / "s")
    predict(devkit, "val", tmp_path / "fresh", recipe, scores=tmp_path / "fresh/s")
    assert files(out) == files(tmp_path / "fresh")
    assert files(out) != files(whole)


def test_one_run_at_a_time(devkit, recipe, tmp_path):
    for held in ("out", "s"):
        with hold(tmp_path / held), pytest.raises(FileError, match="is in use by process"):
            predict(devkit, "val", tmp_path / "out", recipe, scores=tmp_path / "s")
    assert not list(tmp_path.glob("out/*"))
    predict(devkit, "val", tmp_path, recipe, scores=tmp_path)  # one folder for both
    with hold(reading=[tmp_path]), hold(tmp_path / "new"):  # where all are kept, others read too
        predict(devkit, "val", tmp_path / "more", recipe, scores=tmp_path)


def test_an_orphan_writes_nothing_into_another_run(devkit, recipe, tmp_path, monkeypatch):
    """A cluster's worker goes on with an image after the run that wanted it was killed."""
    lock = tmp_path / ".deeplab.lock"
    write = Segmenting._write

    def late(self, photo):
        lock.write_text("process 7 on another host (predict), since now")
        return write(self, photo)

    monkeypatch.setattr(Segmenting, "_write", late)
    with pytest.raises(FileError, match="is now in use by process 7 on another host"):
        predict(devkit, "val", tmp_path, recipe)
    assert not list(tmp_path.rglob("*.png"))


# --- what is refused


def test_results_of_two_settings_are_not_mixed(devkit, recipe, tmp_path):
    predict(devkit, "val", tmp_path, recipe, scores=tmp_path / "s")
    for change, parts in [
        ({"crf": CrfParams(4, 20, 10)}, ["made with crf 3,20,10,3,3, not with 4,20,10,3,3"]),
        ({"crf": None}, ["crf 3,20,10,3,3, not with none"]),
        ({"iterations": 4}, ["iterations 3, not with 4"]),
        ({"weights": "random:0"}, ["weights_sha256", "(tiny.caffemodel), not with", "(random:0)"]),
    ]:
        with pytest.raises(ArgumentError) as error:
            predict(devkit, "val", tmp_path, replace(recipe, **change), scores=tmp_path / "s")
        assert_one_line(error, "predict.val.json", *parts, "give another folder")
    net = read_net(Path(recipe.model))
    net.fill_random(1)
    write_caffemodel(net, recipe.weights)
    with pytest.raises(ArgumentError, match=r"scores.json: was made with weights_sha256"):
        predict(devkit, "val", tmp_path / "other", recipe, scores=tmp_path / "s")


def test_files_are_known_by_content_and_not_by_name(devkit, recipe, tmp_path, whole):
    renamed = replace(recipe, weights=shutil.copy(recipe.weights, tmp_path / "other.caffemodel"))
    before = (whole / "results/VOC2012/Segmentation/comp6_val_cls/a.png").stat()
    predicted = predict(devkit, "val", whole, renamed, scores=whole / "s")
    assert (predicted.folder / "a.png").stat() == before
    assert read_record(whole, "val").digest == predicted.record.digest
    # Of the same name, but another net.
    text = Path(recipe.model).read_text()
    for change in ("hole: 1", "hole: 2"):
        Path(recipe.model).write_text(text.replace("hole: 2", change))
        without = replace(recipe, weights=None)
        if change == "hole: 2":
            predict(devkit, "val", tmp_path / "a", without, scores=whole / "s")
        else:
            with pytest.raises(ArgumentError, match="needs weights"):
                predict(devkit, "val", tmp_path / "a", without, scores=whole / "s")
            with pytest.raises(ArgumentError, match="was made with net_sha256"):
                predict(devkit, "val", whole, recipe, scores=whole / "s")


def test_results_of_another_version_are_not_mixed(devkit, recipe, tmp_path, whole, monkeypatch):
    monkeypatch.setattr("deeplab_repro.voc.predict.__version__", "99.0")
    without = replace(recipe, model=None, weights=None)
    for made in (recipe, without):
        with pytest.raises(ArgumentError, match=r"was made with version .*, not with 99.0"):
            predict(devkit, "val", tmp_path / "new", made, scores=whole / "s")


def test_a_mean_is_a_part_of_the_net():
    net = read_model("ToyVOC-LargeFOV")
    means = (
        Preprocessing((1, 2, 3)),
        *(
            Preprocessing(MeanImage("mean", np.full((3, 2, 2), value, np.float32)))
            for value in (0, 1)
        ),
    )
    digests = {net_digest(replace(net, preprocessing=each)) for each in (None, *means)}
    assert len(digests) == 4


def test_results_that_nobody_knows(devkit, recipe, tmp_path):
    predict(devkit, "val", tmp_path, recipe)
    (tmp_path / "predict.val.json").unlink()
    with pytest.raises(ArgumentError) as error:
        predict(devkit, "val", tmp_path, recipe)
    assert_one_line(error, "holds results but no predict.val.json", "give another folder")


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "7", '{"model": 3}', '{"crf": {"w1": "x"}}', "[" * 100_000]
)
def test_a_broken_record(devkit, recipe, tmp_path, content):
    predict(devkit, "val", tmp_path, recipe)
    (tmp_path / "predict.val.json").write_text(content)
    with pytest.raises(DeepLabError) as error:
        predict(devkit, "val", tmp_path, recipe)
    assert_one_line(error, "predict.val.json")


def test_results_of_another_precision_are_not_mixed(devkit, recipe, tmp_path):
    predict(devkit, "val", tmp_path, recipe)
    path = tmp_path / "predict.val.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"arithmetic": "float16"}))
    with pytest.raises(ArgumentError) as error:
        predict(devkit, "val", tmp_path, recipe)
    assert_one_line(error, "was made with arithmetic float16, not with float32")
