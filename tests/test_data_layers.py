"""What a data layer says of an image holds in every command: the scores show what the net was fed.

The net has one 1x1 convolution, the identity: its scores are its input.
"""

import json
import os
from dataclasses import dataclass

import numpy as np
import pytest

from deeplab_repro.caffe import read_net, write_caffemodel, write_mean_file
from deeplab_repro.errors import NetError
from deeplab_repro.files.images import read_image, read_labels
from deeplab_repro.files.pictures import write_image, write_labels
from deeplab_repro.models.loading import read_model
from deeplab_repro.net.preprocess import MEAN_BGR, MeanImage, preprocess
from deeplab_repro.train.data import SegData
from deeplab_repro.train.run import prepare
from tests.conftest import assert_one_line

SIZE = HEIGHT, WIDTH = 21, 17
SIDE = 25  # the net's crop
VOC = np.float32(MEAN_BGR).reshape(3, 1, 1)
NOTHING = np.zeros((3, 1, 1), np.float32)
GIVEN = np.float32([1.5, 20, 300]).reshape(3, 1, 1)
BY_PIXEL = np.random.default_rng(1).uniform(90, 130, (3, *SIZE)).astype(np.float32)

CONV = "convolution_param { num_output: 3 kernel_size: 1 }"
FILES = "image_data_param { source: 'list.txt' batch_size: 1 label_type: PIXEL %s }"
MEMORY = f"memory_data_param {{ batch_size: 1 channels: 3 height: {SIDE} width: {SIDE} }}"


@dataclass(frozen=True)
class Case:
    """Fields of a data layer, and what Caffe feeds the net: (pixel - mean) * scale."""

    kind: str  # V1's type, and the current one
    transform: str
    mean: np.ndarray
    scale: float = 1
    others: str = FILES % ""
    crop: int = SIDE

    def prototxt(self, is_current: bool) -> str:
        v1_kind, current_kind = self.kind.split()
        data = f"transform_param {{ crop_size: {self.crop} {self.transform} }} {self.others}"
        tops = "name: 'data' top: 'data' top: 'label'"
        conv = f"name: 'c' bottom: 'data' top: 'c' {CONV}"
        if is_current:
            return (
                f"name: 'x' layer {{ {tops} type: '{current_kind}' {data} }} "
                f"layer {{ {conv} type: 'Convolution' }}"
            )
        return (
            f"name: 'x' layers {{ {tops} type: {v1_kind} {data} }} "
            f"layers {{ {conv} type: CONVOLUTION }}"
        )


SEG, IMAGES, HANDED = (
    "IMAGE_SEG_DATA ImageSegData",
    "IMAGE_DATA ImageData",
    "MEMORY_DATA MemoryData",
)
MEANS = "mean_value: 1.5 mean_value: 20 mean_value: 300"
CASES = {
    "nothing": Case(SEG, "", NOTHING),
    "mean": Case(SEG, MEANS, GIVEN),
    "one mean": Case(IMAGES, "mean_value: 7", NOTHING + 7),
    "scale": Case(SEG, "scale: 0.017", NOTHING, 0.017),
    "mean and scale": Case(SEG, f"{MEANS} scale: -0.5", GIVEN, -0.5),
    "older fields": Case(SEG, MEANS, GIVEN, 0.25, FILES % "scale: 0.25 mirror: true"),
    "mean_file": Case(IMAGES, "mean_file: 'image.mean' scale: 0.5", BY_PIXEL, 0.5),
    "mean_file, cropped": Case(IMAGES, "mean_file: 'image.mean'", BY_PIXEL, crop=15),
    "flat mean_file": Case(SEG, "mean_file: 'flat.mean'", GIVEN),
    "size": Case(IMAGES, "", NOTHING, 1, FILES % f"new_height: {HEIGHT} new_width: {WIDTH}"),
    "handed": Case(HANDED, "", VOC, 1, MEMORY),
    "handed, scaled": Case(HANDED, "mean_value: 0 scale: 0.5", NOTHING, 0.5, MEMORY),
}
BY_SIZE = {"mean_file", "mean_file, cropped", "size"}
"""The cases in which images of another size are refused."""


@pytest.fixture
def image(photo):
    return photo(*SIZE)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch, image):
    """A working directory with a photo, weights and mean files."""
    monkeypatch.chdir(tmp_path)
    write_image("photo.png", image)
    write_mean_file(MeanImage("", BY_PIXEL), "image.mean")
    write_mean_file(MeanImage("", np.broadcast_to(GIVEN, (3, 4, 5))), "flat.mean")
    (tmp_path / "x.prototxt").write_text(CASES["nothing"].prototxt(False))
    net = read_net("x.prototxt")
    net.layers[0].blobs[0].data = np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1)
    net.layers[0].blobs[1].data = np.zeros(3, np.float32)
    write_caffemodel(net, "x.caffemodel")
    return tmp_path


@pytest.fixture
def fed(here, image):
    """Write a case's prototxt, and return what the net is to be fed of a photo."""

    def write(name: str, photo: np.ndarray = image, is_current: bool = True) -> np.ndarray:
        case = CASES[name]
        (here / "x.prototxt").write_text(case.prototxt(is_current))
        bgr = photo[..., ::-1].transpose(2, 0, 1).astype(np.float64)
        return ((bgr - case.mean) * np.float64(np.float32(case.scale))).astype(np.float32)

    return write


@pytest.fixture
def scores(command):
    """What `segment` gives as the photo's scores."""

    def run(name: str, *options: str) -> np.ndarray:
        files = ("--prototxt", f"{name}.prototxt", "--weights", f"{name}.caffemodel", "--no-crf")
        out = ("--out", "out", "--save", "scores")
        status, _, err = command("segment", "photo.png", *files, *out, *options)
        assert status == 0, err
        return np.load("out/photo.scores.npy")

    return run


@pytest.fixture
def convert(command):
    def run(*arguments: str) -> None:
        status, _, err = command("convert", *arguments)
        assert status == 0, err

    return run


NET = ("--prototxt", "x.prototxt", "--weights", "x.caffemodel")


@pytest.mark.parametrize("is_current", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_segment(fed, scores, name, is_current):
    expected = fed(name, is_current=is_current)
    for engine in ("opencv", "onnxruntime"):
        # Engines multiply by the ones and zeros of the identity: equal but for -0.
        np.testing.assert_allclose(scores("x", "--engine", engine), expected, rtol=1e-6)


def test_a_mean_file_of_others_is_not_replaced(fed, refused, here):
    fed("mean_file")
    (here / "b.binaryproto").write_bytes(b"others")
    error = refused("convert", *NET, "--to", "caffe", "--out", "b")
    assert "b.binaryproto: is there already, and not known to be deeplab-repro's own" in error
    assert sorted(here.glob("b.*")) == [here / "b.binaryproto"]


@pytest.mark.parametrize("name", CASES)
def test_what_was_converted(fed, scores, convert, name):
    """By npz to the current format; V1's own files are in tests/caffe."""
    expected = fed(name)
    convert(*NET, "--to", "npz", "--out", "a")
    for _ in range(2):  # also in place of its own files
        convert("--weights", "a.npz", "--to", "caffe", "--out", "b")
    assert os.path.exists("b.binaryproto") == (CASES[name].mean is BY_PIXEL)
    os.remove("image.mean")
    np.testing.assert_allclose(scores("b"), expected, rtol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_onnx(fed, convert, image, name):
    expected = fed(name)
    ort = pytest.importorskip("onnxruntime")
    convert(*NET, "--to", "onnx", "--out", "photos", "--input", "rgb-uint8", "--verify")
    session = ort.InferenceSession("photos.onnx")
    (found,) = session.run(None, {"image": image[None]})
    # In float32 the scale rounds once more, and the mean is rounded before it is taken off.
    np.testing.assert_allclose(found[0], expected, rtol=1e-5, atol=1e-5)
    shape = session.get_inputs()[0].shape
    assert shape == ["batch", *(SIZE if name in BY_SIZE else ("height", "width")), 3]

    convert(*NET, "--to", "onnx", "--out", "net", "--verify")
    told = ort.InferenceSession("net.onnx").get_modelmeta().custom_metadata_map
    assert float(told.get("scale", 1)) == np.float32(CASES[name].scale)
    if CASES[name].mean is BY_PIXEL:
        assert (told["mean_file"], "mean" in told) == ("image.mean", False)
    else:
        mean = np.float32(told["mean"].split(",")).reshape(3, 1, 1)
        np.testing.assert_array_equal(mean, np.broadcast_to(CASES[name].mean, (3, 1, 1)))


@pytest.mark.parametrize("name", CASES)
def test_inspect(fed, command, name):
    fed(name)
    case = CASES[name]
    status, out, _ = command("inspect", "x.prototxt", "--json")
    told = json.loads(out)["preprocessing"]
    assert (status, told["scale"]) == (0, np.float32(case.scale))
    assert told["from_file"] == (name != "handed")
    if "mean_file" in name:  # which need not be there
        assert told["mean_file"] in case.transform
    else:
        np.testing.assert_array_equal(np.float32(told["mean_bgr"]), case.mean.ravel())
    shown = command("inspect", "x.prototxt")[1].splitlines()
    (line,) = [line for line in shown if line.startswith("pixels ")]
    assert (f"times {case.scale:g}" in line) == (case.scale != 1)
    assert (f"of images of {HEIGHT}x{WIDTH}" in line) == (name == "size")


@pytest.mark.parametrize("name", CASES)
def test_predict(fed, command, image, here, name):
    voc = here / "voc"
    for folder in ("JPEGImages", "ImageSets/Segmentation"):
        (voc / folder).mkdir(parents=True)
    write_image(voc / "JPEGImages/a.jpg", image)
    (voc / "ImageSets/Segmentation/val.txt").write_text("a\n")
    (voc / "classes.txt").write_text("sky\nroad\ncar\n")
    expected = fed(name, read_image(voc / "JPEGImages/a.jpg"))
    options = ("--voc", "voc", "--split", "val", "--workers", "0", "--no-crf", "--out", "out")
    status, _, err = command("predict", *options, *NET)
    assert status == 0, err
    (labels,) = here.glob("out/results/*/Segmentation/*/a.png")
    np.testing.assert_array_equal(read_labels(labels), expected.argmax(axis=0))
    if name == "mean_file":  # results are of what is in it, not of its name
        write_mean_file(MeanImage("", BY_PIXEL + 1), "image.mean")
        assert "was made with net_sha256" in command("predict", *options, *NET)[2]


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.kind == SEG])
@pytest.mark.parametrize("is_current", [False, True])
def test_training_feeds_what_segmenting_does(fed, image, here, name, is_current):
    expected = fed(name, is_current=is_current)
    path = here / "x.prototxt"
    how = read_model(path).preprocessing
    segmented = preprocess(image, (SIDE, SIDE), how)
    np.testing.assert_array_equal(segmented[0, :, :HEIGHT, :WIDTH], expected)
    trained = trained_on(path).batch(0)[0]
    assert trained.tobytes() == segmented.tobytes()


def trained_on(path) -> SegData:
    """The training of the net with a loss, on the photo alone."""
    ends = "name: 'loss' bottom: 'c' bottom: 'label' top: 'loss'"
    text = path.read_text().replace("mirror: true", "")
    v1, current = (
        f"layers {{ {ends} type: SOFTMAX_LOSS }}",
        f"layer {{ {ends} type: 'SoftmaxWithLoss' }}",
    )
    path.write_text(text + (v1 if "layers" in text else current))
    write_labels("labels.png", np.zeros(SIZE, np.uint8))
    path.with_name("list.txt").write_text("photo.png labels.png\n")
    solver = "train_net: 'x.prototxt' base_lr: 1 lr_policy: 'fixed' max_iter: 1 "
    solver += "snapshot_prefix: 'x'"
    path.with_name("solver.prototxt").write_text(solver)
    return prepare(path.with_name("solver.prototxt"))[1]


# --- what cannot be done in one line


@pytest.mark.parametrize("name", sorted(BY_SIZE))
def test_photos_of_another_size(fed, refused, here, photo, name):
    fed(name)
    write_image(here / "photo.png", photo(HEIGHT, WIDTH + 1))
    error = refused("segment", "photo.png", *NET, "--no-crf", "--out", "out")
    assert f"photo.png: image: is 21x18 (height x width), expected {HEIGHT}x{WIDTH}" in error
    assert ("new_height and new_width" if name == "size" else "mean_value: ") in error
    assert not os.path.exists("out/photo.png")


def test_a_net_of_one_size_and_a_mean_of_another(here, refused):
    text = CASES["mean_file"].prototxt(is_current=True)
    end = "layer { name: 'f' type: 'Interp' bottom: 'c' top: 'f' interp_param { %s } }"
    end %= f"height: {SIDE} width: {SIDE}"
    (here / "x.prototxt").write_text(text + end)
    error = refused(
        *("convert", "--prototxt", "x.prototxt", "--weights", "random:0", "--to", "onnx"),
        *("--input", "rgb-uint8", "--out", "a"),
    )
    assert f"fits images of {SIDE}x{SIDE} alone, but the mean_file" in error


@pytest.mark.parametrize(
    "command_line", [("segment", "photo.png", "--no-crf"), ("convert", "--to", "npz")]
)
def test_a_mean_file_that_is_missing(here, refused, command_line):
    (here / "x.prototxt").write_text(CASES["mean_file"].prototxt(is_current=True))
    os.remove("image.mean")
    error = refused(*command_line, *NET, "--out", "a")
    assert "x.prototxt: there is no mean_file 'image.mean' in the working directory" in error


def test_training_with_a_mean_for_each_pixel(here):
    text = CASES["mean_file"].prototxt(is_current=False).replace("IMAGE_DATA", "IMAGE_SEG_DATA")
    (here / "x.prototxt").write_text(text)
    with pytest.raises(NetError) as error:
        trained_on(here / "x.prototxt")
    assert_one_line(error, "mean_file 'image.mean' has a mean for each pixel", "write mean_value: ")


def test_grey_images(here, refused):
    text = CASES["nothing"].prototxt(is_current=True)
    (here / "x.prototxt").write_text(text.replace("source", "is_color: false source"))
    assert "expected 3 channels: a colour image (is_color: false" in refused(
        "segment", "photo.png", *NET, "--no-crf", "--out", "a"
    )
