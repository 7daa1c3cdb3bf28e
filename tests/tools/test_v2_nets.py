"""tools/v2_nets.py: DeepLab v2's nets beside those that its Caffe ran, and their train files."""

import re
from collections import Counter

import pytest

from tests.conftest import GOLDEN
from tests.tools.conftest import load
from tests.tools.test_write_prototxts import parse

# net: the golden one
NETS = {"DeepLabv2-VGG16": "VGG16", "DeepLabv2-ResNet101": "ResNet101"}
DIVIDED_BY = {"VGG16": 8, "ResNet101": 16}
DEFAULTS = {
    "Convolution": ("convolution_param", {"pad": "0", "stride": "1", "dilation": "1"}),
    "Pooling": ("pooling_param", {"pad": "0", "stride": "1"}),
    "Interp": (
        "interp_param",
        {"pad_beg": "0", "pad_end": "0", "zoom_factor": "1", "shrink_factor": "1"},
    ),
    "Eltwise": ("eltwise_param", {"operation": "SUM"}),
    "BatchNorm": ("batch_norm_param", {}),
    "Scale": ("scale_param", {}),
    "Dropout": ("dropout_param", {}),
}
AROUND = ("ImageSegData", "Silence", "MatWrite", "SoftmaxWithLoss", "SegAccuracy")
FILES = load("v2_nets").v2_files()


def read(net: str, file: str) -> dict:
    return parse(FILES[f"{net}/{file}.prototxt"])


def facts(net: dict, divided_by: int = 1) -> dict:
    """What each layer of the net proper computes, and the names that its params share."""
    found = {}
    for layer in net["layer"]:
        kind = layer["type"][0]
        if kind in AROUND:
            continue
        param, defaults = DEFAULTS.get(kind, ("", {}))
        fields = {**{key: [value] for key, value in defaults.items()}, **layer.get(param, [{}])[0]}
        for filler in ("weight_filler", "bias_filler"):
            fields.pop(filler, None)
        outputs = fields.get("num_output", ["21"])
        if outputs != ["21"]:
            fields["num_output"] = [str(int(outputs[0]) // divided_by)]
        names = [each.get("name") for each in layer.get("param", []) if "name" in each]
        ends = layer["bottom"], layer["top"]
        found[layer["name"][0]] = kind, ends, fields, names
    return found


@pytest.mark.golden
@pytest.mark.parametrize("net", NETS)
def test_layers_are_the_original_ones(net):
    path = GOLDEN / "v2" / NETS[net] / "deploy.prototxt"
    if not path.is_file():
        pytest.skip(f"no golden net: {path} is absent")
    original = facts(parse(path.read_text(encoding="utf-8")))
    assert facts(read(net, "test"), DIVIDED_BY[NETS[net]]) == original


@pytest.mark.parametrize("net", NETS)
def test_test_and_train_nets_are_of_the_same_layers(net):
    test, train = facts(read(net, "test")), facts(read(net, "train"))
    end = "fc1_interp" if "ResNet" in net else "fc8_interp"
    del test[end], train["label_shrink"]
    assert test == train


def test_resnet_has_101_layers_and_three_copies_of_each():
    layers = read("DeepLabv2-ResNet101", "test")["layer"]
    at_scale_1 = [
        layer["name"][0]
        for layer in layers
        if layer["type"] == ["Convolution"] and "_res0" not in layer["name"][0]
    ]
    # conv1, 33 blocks of three, and the classifier, whose branches count as one layer.
    beside = [name for name in at_scale_1 if name.endswith("branch1")]
    branches = [name for name in at_scale_1 if name.startswith("fc1")]
    assert len(at_scale_1) - len(beside) - len(branches) + 1 == 101
    names = Counter(each["name"][0] for layer in layers for each in layer.get("param", []))
    assert set(names.values()) == {3}


def test_what_learns():
    for net in NETS:
        for layer in read(net, "train")["layer"]:
            rates = [each["lr_mult"][0] for each in layer.get("param", [])]
            kind, name = layer["type"][0], layer["name"][0]
            if kind in ("BatchNorm", "Scale"):
                assert set(rates) == {"0"}
            elif re.match(r"fc(8|1)_", name) and kind == "Convolution":
                assert rates == ["10", "20"]
            elif kind == "Convolution":
                assert rates == (["1"] if "ResNet" in net else ["1", "2"])


def test_losses_are_at_every_scale_and_on_what_is_fused():
    def losses(net: str) -> dict[str, str]:
        return {
            layer["name"][0]: layer["bottom"][0]
            for layer in read(net, "train")["layer"]
            if layer["type"] == ["SoftmaxWithLoss"]
        }

    assert losses("DeepLabv2-VGG16") == {"loss": "fc8_voc12"}
    assert losses("DeepLabv2-ResNet101") == {
        "loss": "fc1_voc12",
        "loss_res05": "fc1_voc12_res05_interp",
        "loss_res075": "fc1_voc12_res075_interp",
        "loss_fusion": "fc_fusion",
    }


@pytest.mark.parametrize(
    ("net", "base_lr"), [("DeepLabv2-VGG16", "0.001"), ("DeepLabv2-ResNet101", "0.00025")]
)
def test_solvers(net, base_lr):
    for file, prefix in (("solver", "train"), ("solver2", "train2")):
        solver = read(net, file)
        settings = ("base_lr", "lr_policy", "power", "iter_size", "max_iter", "momentum")
        assert [solver[key][0] for key in settings] == [
            base_lr,
            "poly",
            "0.9",
            "10",
            "20000",
            "0.9",
        ]
        assert solver["weight_decay"] == ["0.0005"]
        assert solver["snapshot_prefix"][0].endswith(f"/{prefix}")
