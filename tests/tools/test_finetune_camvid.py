"""The real-photo experiment from end to end, on six tiny pictures."""

from dataclasses import replace

import numpy as np
import pytest

from deeplab_repro.caffe import read_caffemodel, read_net, write_caffemodel
from deeplab_repro.errors import WeightsError
from deeplab_repro.files.images import read_image
from deeplab_repro.files.pictures import write_image, write_labels
from deeplab_repro.models.registry import get_model
from deeplab_repro.segmenter import DeepLab
from deeplab_repro.voc.metrics import confusion, image_scores
from tests.conftest import smooth_photo
from tests.tools.conftest import load

SPLITS = {"train": ["a", "b", "c", "d"], "val": ["e", "f"]}
HEIGHT, WIDTH = 24, 44


TOOL = load("finetune_camvid")


@pytest.fixture
def data(tmp_path):
    """Six pictures in VOC's layout: the 11 classes as stripes, void above."""
    root = tmp_path / "data"
    for folder in ("ImageSets/Segmentation", "JPEGImages", "SegmentationClass"):
        (root / folder).mkdir(parents=True)
    labels = np.repeat(np.arange(11, dtype=np.uint8), 4)[None].repeat(HEIGHT, axis=0)
    labels[:2] = 255
    for split, names in SPLITS.items():
        listed = "".join(f"{name}\n" for name in names)
        (root / f"ImageSets/Segmentation/{split}.txt").write_text(listed)
        for name in names:
            write_image(root / f"JPEGImages/{name}.jpg", smooth_photo(HEIGHT, WIDTH))
            write_labels(root / f"SegmentationClass/{name}.png", labels)
    return root


@pytest.fixture
def weights(tmp_path):
    """ToyVOC's net with random weights."""
    net = read_net(get_model("ToyVOC-LargeFOV").test_prototxt, {"EXP": "toyvoc"})
    net.fill_random(0)
    path = tmp_path / "toyvoc.caffemodel"
    write_caffemodel(net, path)
    return path


@pytest.fixture
def small(monkeypatch):
    """The tool with small nets, small crops and few copies."""
    phases = [replace(each, crop=41, batch=2, copies=2, until=1) for each in TOOL.PHASES]
    phases[0] = replace(phases[0], until=0.5)
    monkeypatch.setattr(TOOL, "PHASES", phases)
    monkeypatch.setattr(TOOL, "NET", replace(TOOL.NET, test_crop=49))
    return TOOL


@pytest.fixture
def run(small, capsys):
    """Run the tool with training on small crops; stdout and stderr."""

    def run_tool(*arguments: object) -> tuple[str, str]:
        small.main([str(argument) for argument in arguments])
        return capsys.readouterr()

    return run_tool


def test_from_copies_to_examples_and_on_from_a_snapshot(run, data, weights, tmp_path, monkeypatch):
    out = tmp_path / "out"
    begin = ("--data", data, "--weights", weights, "--out", out)
    printed, told = run(*begin, "--iterations", 2, "--crf", "4,30,5")

    for phase in ("small", "high"):
        listed = (out / f"copies_{phase}/train.txt").read_text().splitlines()
        assert listed[:2] == ["/a_0.jpg /a_0.png", "/a_1.jpg /a_1.png"]
        assert len(listed) == 2 * len(SPLITS["train"])
        assert "${" not in (out / f"train_{phase}.prototxt").read_text()

    assert "most of the channels begin with" in told
    assert "goes on from iteration 1" in told
    assert "2 of 2 iterations  loss" in told
    assert "best of" not in told
    heading, areas, columns, net, crf = printed.splitlines()
    assert heading == "train_iter_2.caffemodel, CRF 4,30,5, the 2 photos of val, percent"
    assert areas.split() == ["whole", "image", "trimap", "3", "trimap", "10"]
    assert columns.split() == ["IOU", "pixels"] * 3
    assert net.split()[0] == "net"
    assert crf.split()[:3] == ["net", "+", "CRF"]
    assert (out / "scores.txt").read_text() == printed
    assert len(net.split()[1:]) == len(crf.split()[3:]) == 6

    for name in SPLITS["val"]:
        example = read_image(out / f"example_{name}.png")
        assert example.shape == (HEIGHT, 4 * WIDTH + 3 * 4, 3)

    monkeypatch.setattr(TOOL, "GRID", TOOL.GRID[:2])
    printed, told = run(*begin, "--iterations", 3)
    assert "goes on from iteration 2" in told
    assert "3 of 3 iterations  loss" in told
    assert "best of 2 settings on 4 photos of train" in told
    assert printed.startswith("train_iter_3.caffemodel, CRF ")
    assert len((out / "train_loss.csv").read_text().splitlines()) == 4


def begun(small, data, out, weights):
    """The solver before its first iteration."""
    phase = small.PHASES[0]
    copies = small.write_copies(small.read_pairs(data, "train"), out / "copies", 1, (1, 1), 11)
    solver, _ = small.prepare(small.write_phase(phase, copies, out, 1))
    small.begin(solver, out, weights)
    return solver


def test_the_first_channels_find_what_the_narrower_net_found(small, data, weights, tmp_path):
    wide = {layer.name: layer for layer in begun(small, data, tmp_path, weights).net.layers}
    for layer in read_caffemodel(weights).layers:
        if not layer.blobs or layer.name == "fc8_toyvoc":
            continue
        weight, bias = layer.blobs
        outputs, inputs = weight.shape[:2]
        new_weight, new_bias = (blob.data for blob in wide[layer.name].blobs)
        np.testing.assert_array_equal(new_weight[:outputs, :inputs], weight)
        assert not new_weight[:outputs, inputs:].any()  # they see no others
        assert len(new_weight) > outputs
        assert new_weight[outputs:].all()  # by their filler
        np.testing.assert_array_equal(new_bias[:outputs], bias.ravel())
    assert wide["fc8_camvid"].blobs[0].shape[0] == 11


def test_weights_of_another_kind_of_net_are_one_line(small, data, tmp_path):
    net = read_net(get_model("ToyVOC-LargeFOV").test_prototxt, {"EXP": "toyvoc"})
    net.fill_random(0)
    (conv1_1,) = (layer for layer in net.layers if layer.name == "conv1_1")
    wide, other = tmp_path / "wide.caffemodel", tmp_path / "other.caffemodel"
    conv1_1.blobs[0].data = np.ones((64, 3, 3, 3), np.float32)
    write_caffemodel(net, wide)
    for layer in net.layers:
        layer.name += "_x"
    write_caffemodel(net, other)
    for path, told in ((wide, "'conv1_1' has 64x3x3x3"), (other, "none of the net's")):
        with pytest.raises(WeightsError, match=told):
            begun(small, data, tmp_path, path)


def test_from_scratch_says_so(small, data, tmp_path, capsys):
    begun(small, data, tmp_path, None)
    assert "from scratch" in capsys.readouterr().err


def test_scores_are_those_of_the_labels(data):
    pairs = TOOL.read_pairs(data, "val")
    net = get_model("ToyVOC-LargeFOV").test_prototxt
    model = DeepLab(net, "random:1", crf=None, variables={"EXP": "x", "NUM_LABELS": "11"})
    alone, same = TOOL.score(model, pairs)
    counts = 0
    for image, labels in pairs:
        counts += confusion(TOOL.read_labels(labels), model(read_image(image)).labels, 11)
    assert alone[0].mean_iou == image_scores(counts).mean_iou
    assert alone[0].pixel_accuracy == same[0].pixel_accuracy  # without a CRF


def test_borders_become_void():
    labels = np.array([[1, 1, 1, 2, 2, 2], [1, 1, 1, 2, 2, 2], [1, 1, 1, 1, 1, 1]], np.uint8)
    v = 255
    expected = [[1, 1, v, v, 2, 2], [1, 1, v, v, v, v], [1, 1, 1, v, v, v]]
    np.testing.assert_array_equal(TOOL.outlined(labels), expected)
    assert labels.max() == 2  # a copy


def test_examples_are_spread_over_the_list():
    assert TOOL.spread(list("abcdefgh"), 4) == list("aceg")
    assert TOOL.spread(list("ab"), 4) == ["a", "b"]


def test_missing_files_are_one_line(data, tmp_path, capsys):
    (data / "SegmentationClass/f.png").unlink()
    with pytest.raises(SystemExit) as exit_:
        TOOL.main(["--data", str(data), "--random", "--out", str(tmp_path / "out")])
    assert exit_.value.code == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "f.png" in told
