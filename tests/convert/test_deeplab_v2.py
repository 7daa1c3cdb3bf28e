"""VGG nets as of DeepLab v2, in the current format: parallel fc6 with several holes, and scales.

Written from the paper (arXiv 1606.00915, DeepLab-ASPP), an eighth as wide.
"""

import numpy as np
import pytest

from deeplab_repro.caffe import load_weights, read_net
from deeplab_repro.convert.caffe import to_caffe
from deeplab_repro.crf.params import CrfParams
from deeplab_repro.engines.exact import exact_blobs
from deeplab_repro.engines.opencv import OpenCVEngine
from deeplab_repro.net.preprocess import preprocess
from deeplab_repro.segmenter import DeepLab
from tests.slow_layers import scores_of

DATA = """
name: "DeepLab-ASPP"
layer {
  name: "data" type: "ImageSegData" top: "data" top: "label" top: "data_dim"
  include { phase: TEST }
  transform_param {
    mirror: false crop_size: 129
    mean_value: 104.008 mean_value: 116.669 mean_value: 122.675
  }
  image_data_param {
    root_folder: "${DATA_ROOT}" source: "${EXP}/list/${TEST_SET}.txt"
    batch_size: 1 label_type: NONE
  }
}
"""
ENDS = """
layer {
  name: "loss" type: "SoftmaxWithLoss" bottom: "SCORES" bottom: "label"
  include { phase: TRAIN } loss_param { ignore_label: 255 }
}
layer {
  name: "fc8_interp" type: "Interp" bottom: "SCORES" top: "fc8_interp"
  interp_param { zoom_factor: 8 }
}
layer {
  name: "accuracy" type: "SegAccuracy" bottom: "fc8_interp" bottom: "label" top: "accuracy"
  seg_accuracy_param { ignore_label: 255 }
}
layer {
  name: "crf" type: "DenseCRF" bottom: "fc8_interp" bottom: "data_dim" bottom: "data" top: "crf"
  dense_crf_param {
    max_iter: 10 pos_xy_std: 3 pos_w: 3 bi_xy_std: 95 bi_rgb_std: 3 bi_w: 5
  }
  include { phase: TEST }
}
layer {
  name: "crf_mat" type: "MatWrite" bottom: "crf" include { phase: TEST }
  mat_write_param { prefix: "${FEATURE_DIR}/crf/" source: "list.txt" strip: 0 period: 1 }
}
layer { name: "silence" type: "Silence" bottom: "label" bottom: "data_dim" }
"""
BLOCKS = ((2, 8), (2, 16), (3, 32), (3, 64), (3, 64))
HOLES = (6, 12, 18, 24)


def layer(kind: str, name: str, bottoms: str, top: str, parameters: str = "") -> str:
    taken = " ".join(f'bottom: "{bottom}"' for bottom in bottoms.split())
    return f'layer {{ name: "{name}" type: "{kind}" {taken} top: "{top}" {parameters} }}\n'


def conv(name: str, bottom: str, outputs: int, kernel: int, hole: int = 1) -> str:
    learning = "param { lr_mult: 1 decay_mult: 1 } param { lr_mult: 2 decay_mult: 0 }"
    sizes = f"num_output: {outputs} kernel_size: {kernel}"
    if kernel > 1:
        sizes += f" pad: {hole}"
    if hole > 1:
        sizes += f" dilation: {hole}"
    return layer("Convolution", name, bottom, name, f"{learning} convolution_param {{ {sizes} }}")


def interp(name: str, bottom: str, size: str) -> str:
    return layer("Interp", name, bottom, name, f"interp_param {{ {size} }}")


def aspp(data: str, scale: str = "") -> str:
    """VGG-16 with four branches, from the image `data` to their sum fc8{scale}."""
    text, bottom = "", data
    for block, (count, width) in enumerate(BLOCKS, start=1):
        for i in range(1, count + 1):
            name = f"conv{block}_{i}{scale}"
            text += conv(name, bottom, width, 3, 2 if block == 5 else 1)
            text += layer("ReLU", f"relu{block}_{i}{scale}", name, name)
            bottom = name
        sizes = f"pool: MAX kernel_size: 3 stride: {2 if block < 4 else 1} pad: 1"
        name = f"pool{block}{scale}"
        text += layer("Pooling", name, bottom, name, f"pooling_param {{ {sizes} }}")
        bottom = name
    for branch, hole in enumerate(HOLES, start=1):
        fc6, fc7, fc8 = (f"{name}_{branch}{scale}" for name in ("fc6", "fc7", "fc8"))
        for name, before, kernel in ((fc6, bottom, 3), (fc7, fc6, 1)):
            text += conv(name, before, 128, kernel, hole if kernel > 1 else 1)
            text += layer("ReLU", f"relu/{name}", name, name)
            half = "dropout_param { dropout_ratio: 0.5 }"
            text += layer("Dropout", f"drop/{name}", name, name, half)
        text += conv(fc8, fc7, 21, 1)
    branches = " ".join(f"fc8_{branch}{scale}" for branch in range(1, 5))
    added = "eltwise_param { operation: SUM }"
    return text + layer("Eltwise", f"fc8{scale}", branches, f"fc8{scale}", added)


ASPP = DATA + aspp("data") + ENDS.replace("SCORES", "fc8")
SCALES = (
    DATA
    + aspp("data")
    + interp("data_075", "data", "zoom_factor: 3 shrink_factor: 4")
    + aspp("data_075", "_075")
    + interp("fc8_075_interp", "fc8_075", "zoom_factor: 4 shrink_factor: 3")
    + interp("data_05", "data", "shrink_factor: 2")
    + aspp("data_05", "_05")
    + interp("fc8_05_interp", "fc8_05", "zoom_factor: 2")
    + layer(
        "Eltwise",
        "fc8_max",
        "fc8 fc8_075_interp fc8_05_interp",
        "fc8_max",
        "eltwise_param { operation: MAX }",
    )
    + ENDS.replace("SCORES", "fc8_max")
)


@pytest.fixture
def net(tmp_path, request):
    path = tmp_path / "test.prototxt"
    path.write_text(request.param)
    found = read_net(path)
    found.fill_random(0)
    return found


def image(side: int = 129) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 50, (1, 3, side, side)).astype(np.float32)


@pytest.mark.parametrize("net", [ASPP], indirect=True)
def test_aspp(net, caplog):
    assert (net.dialect, net.input_shape) == ("Caffe", (1, 3, 129, 129))
    assert (net.output, net.output_shape()) == ("fc8_interp", (1, 21, 129, 129))
    assert net.output_stride == 8
    assert net.field_of_view == 8 * 2 * 24 + 32
    assert net.preprocessing.mean == pytest.approx((104.008, 116.669, 122.675))
    assert net.coarse_output == ("fc8", 8, 0)
    assert net.ending_in_scores().layers == net.layers
    assert net.fitting_size((100, 130)) == (129, 193)
    assert [net.blob_shapes()[f"fc6_{i}"] for i in range(1, 5)] == [(1, 128, 17, 17)] * 4
    assert not caplog.messages


@pytest.mark.parametrize("net", [ASPP], indirect=True)
def test_aspp_runs(net):
    names = ["fc8_1", "fc8_2", "fc8_3", "fc8_4", "fc8", "fc8_interp"]
    *branches, together, scores = OpenCVEngine(net, "cpu").blobs(image(), names).values()
    assert all(branch.std() > 0.1 for branch in branches)
    np.testing.assert_allclose(sum(branches), together, atol=1e-4)  # float32, in another order
    np.testing.assert_allclose(scores[:, :, ::8, ::8], together, atol=1e-4)


@pytest.mark.parametrize("net", [SCALES], indirect=True)
def test_scales_are_fused(net):
    assert net.output_shape() == (1, 21, 129, 129)
    assert net.output_stride == 8  # there all scales meet
    assert net.coarse_output == ("fc8_max", 8, 0)
    assert net.ending_in_scores().layers == net.layers
    assert net.fitting_size((100, 129)) == (129, 129)
    assert net.fitting_size((130, 200)) == (193, 257)
    names = ["fc8", "fc8_075_interp", "fc8_05_interp", "fc8_max"]
    *scales, largest = OpenCVEngine(net, "cpu").blobs(image(), names).values()
    np.testing.assert_array_equal(np.maximum.reduce(scales), largest)
    assert all((scale < largest).any() for scale in scales)


@pytest.mark.parametrize("engine", ["opencv", "onnxruntime"])
@pytest.mark.parametrize("net", [SCALES], indirect=True, ids=["scales"])
def test_scales_at_the_size_of_a_larger_photo(net, tmp_path, engine):
    if engine == "onnxruntime":
        pytest.importorskip("onnxruntime")
    model = DeepLab(tmp_path / "test.prototxt", "random:0", crf=None, engine=engine)
    photo = np.random.default_rng(0).integers(0, 256, (140, 100, 3), np.uint8)
    padded = preprocess(photo, (193, 129), net.preprocessing)
    expected = exact_blobs(net, padded, ["fc8_max"])["fc8_max"][0]
    found = model.run_net(photo).coarse.values
    # float32 against float64, beside the scores' own scale.
    np.testing.assert_allclose(found, expected[:, :19, :14], atol=1e-4 * expected.std())


@pytest.mark.parametrize("net", [ASPP, SCALES], indirect=True, ids=["ASPP", "scales"])
def test_what_was_converted_is_the_same_net(net, tmp_path):
    prototxt, caffemodel = to_caffe(net)
    (tmp_path / "again.prototxt").write_bytes(prototxt)
    (tmp_path / "again.caffemodel").write_bytes(caffemodel)
    again = read_net(tmp_path / "again.prototxt")
    load_weights(again, tmp_path / "again.caffemodel")
    assert (again.name, again.input, again.input_shape) == (net.name, net.input, net.input_shape)
    assert again.preprocessing == net.preprocessing
    for ours, theirs in zip(net.layers, again.layers, strict=True):
        assert (ours.name, ours.bottoms, ours.tops) == (theirs.name, theirs.bottoms, theirs.tops)
        # A size for an INTERP that shrinks: nothing else changes.
        assert ours.op == theirs.op or ours.name in ("data_05", "data_075", "fc8_075_interp")
    scores = scores_of(OpenCVEngine(net, "cpu"), image())
    np.testing.assert_array_equal(scores_of(OpenCVEngine(again, "cpu"), image()), scores)
    assert to_caffe(again) == (prototxt, caffemodel)


def test_the_whole_way_from_such_a_file(tmp_path):
    path = tmp_path / "test.prototxt"
    path.write_text(ASPP)
    model = DeepLab(path, "random:0")
    assert model.crf == CrfParams(5, 95, 3, 3, 3)  # as its DenseCRF layer says
    photo = np.random.default_rng(0).integers(0, 256, (90, 140, 3), np.uint8)
    assert model.run_net(photo).labels.shape == (90, 140)
