"""ONNX in the browser's runtime, as docs/convert.md shows it; skipped without Node.js and that."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from deeplab_repro.caffe import load_weights, read_net
from deeplab_repro.convert.onnx import write_onnx
from tests.engines.golden_nets import assert_originals

PAGE = Path(__file__).resolve().parents[2] / "docs" / "convert.md"
_CODE = """
const fs = require("node:fs");
const ort = require("onnxruntime-web");
ort.env.wasm.numThreads = 1;
(async () => {
  const rgb = new Uint8Array(fs.readFileSync("image.rgb"));
  const [height, width] = process.argv.slice(2).map(Number);
  %s
  fs.writeFileSync("probs.f32", probs.data);
})();
"""


def has_runtime():
    node = shutil.which("node")
    code = "require('onnxruntime-web')"
    return node and not subprocess.run([node, "-e", code], capture_output=True).returncode


@pytest.mark.golden
@pytest.mark.skipif(
    not has_runtime(), reason="there is no Node.js, or no onnxruntime-web in NODE_PATH"
)
def test_probabilities_are_the_originals(golden, tmp_path):
    folder = golden / "nets/DeepLab-LargeFOV"
    net = read_net(folder / "deploy.prototxt")
    load_weights(net, folder / "weights.caffemodel")
    write_onnx(net, tmp_path / "photos.onnx", rgb_uint8=True, softmax=True)
    (block,) = re.findall(r"^```js\nimport .*?\n(.*?)^```$", PAGE.read_text(), re.S | re.M)
    (tmp_path / "run.cjs").write_text(_CODE % block)
    with np.load(folder / "expected.npz") as expected:
        image, scores = expected["image"], expected["scores"]
    height, width = image.shape[:2]
    image.tofile(tmp_path / "image.rgb")
    subprocess.run(["node", "run.cjs", str(height), str(width)], cwd=tmp_path, check=True)
    probs = np.fromfile(tmp_path / "probs.f32", "<f4").reshape(1, 21, height, width)
    theirs = scores[:, :, :height, :width]
    found = np.log(probs) + (theirs - np.log(probs)).mean(axis=1, keepdims=True)
    assert_originals({"scores": found}, {"scores": theirs})
