"""Write `docs/layers.md`: which stage runs which layer type, as the code itself has it.

python tools/layer_table.py
"""

from pathlib import Path

from deeplab_repro.caffe.parameters import V1_TYPES, runs
from deeplab_repro.convert.net_json import TYPES
from deeplab_repro.convert.onnx import PASSING_ON
from deeplab_repro.convert.onnx_layers import WRITERS
from deeplab_repro.convert.torch.layers import EXPRESSIONS
from deeplab_repro.convert.torch.modules import MODULES
from deeplab_repro.engines.exact import RULES
from deeplab_repro.engines.opencv_shapes import BY_ONNX
from deeplab_repro.net.layers import Dropout, LayerType, SegAccuracy, SoftmaxLoss, Split
from deeplab_repro.net.shape_layers import Slice
from deeplab_repro.train import network

PAGE = Path(__file__).resolve().parent.parent / "docs" / "layers.md"

_HEAD = """\
# Layers

Which stage knows which layer type of Caffe's. `tools/layer_table.py` makes this page from the code.
What a stage lacks it refuses by name, in one line.

* V1, current: read from prototxt and caffemodel of either format, and written to them.
* npz, ONNX: what `convert` writes. onnxruntime and OpenCV 5 run that ONNX.
* torch: what `convert` writes as code for PyTorch.
* OpenCV 4: what it is given, Caffe's files or that ONNX.
* float64: runs in NumPy, where `--verify` has to tell which of two runs is off.
* train: what `train` runs; BatchNorm with `use_global_stats: true`.

ArgMax runs where a later layer takes it. At the end of a net it is left out: the scores are wanted.

"""
_COLUMNS = ("layer", "V1", "current", "npz", "ONNX", "torch", "OpenCV 4", "float64", "train")


def stages(kind: type[LayerType]) -> dict[str, str]:
    """What each stage does with a layer type, by the stage's name; "" for what it refuses."""
    name = kind.__name__
    onnx = name in WRITERS or kind in PASSING_ON
    found = {
        "V1": name in V1_TYPES.values(),
        "current": runs(name),
        "npz": runs(name),
        "ONNX": onnx,
        "torch": name in {*MODULES, *EXPRESSIONS} or kind is Split,
        "OpenCV 4": onnx and ("ONNX" if name in BY_ONNX else "Caffe"),
        "float64": name in RULES or kind is Slice,
        "train": kind in {Dropout, *network._STEPS, *network._LEARNING_STEPS},
    }
    return {stage: "yes" if does is True else does or "" for stage, does in found.items()}


def page() -> str:
    """The page, with a line for each layer type."""
    kinds = [kind for kind in TYPES.values() if kind not in (SoftmaxLoss, SegAccuracy)]
    lines = [list(_COLUMNS), ["---"] * len(_COLUMNS)]
    lines += [
        [kind.__name__, *stages(kind).values()]
        for kind in sorted(kinds, key=lambda kind: kind.__name__.lower())
    ]
    return _HEAD + "".join("|" + "".join(f" {each} |" for each in line) + "\n" for line in lines)


if __name__ == "__main__":
    PAGE.write_text(page())
