"""Whether nets on the GPU give what the original software gave, in float32 and in float16."""

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from steps import PRECISIONS, Checking, Finding, Verdict, largest

from deeplab_repro.arrays import F32
from deeplab_repro.bench.process import call_apart
from deeplab_repro.caffe import load_weights, read_net
from deeplab_repro.engines.opencv import OpenCVEngine
from deeplab_repro.engines.opencv_cuda import layers_on_cpu
from deeplab_repro.errors import FileError, one_line
from deeplab_repro.machine.device import Precision
from deeplab_repro.machine.opencv import cv2
from deeplab_repro.net.net import Net
from deeplab_repro.net.preprocess import preprocess
from deeplab_repro.net.scores import CoarseScores
from deeplab_repro.work.stages import in_threads

# Of each blob's standard deviation, or of 1 where that is less.
MOST_ERROR = 1e-3
LEAST_AGREEMENT: dict[Precision, float] = {"float32": 0.9999, "float16": 0.999}

_TF32 = "NVIDIA_TF32_OVERRIDE"
_TF32_NET = "DeepLab-LargeFOV-513"
_LOOKED_AT = ("DeepLab-LargeFOV", "DeepLab-MSc-LargeFOV")


def check_nets(job: Checking) -> Iterator[Finding]:
    """Every golden net: its blobs in float32, its labels in both precisions."""
    folders = sorted(path.parent for path in job.golden.glob("nets/*/deploy.prototxt"))
    if not folders:
        raise FileError(f"{one_line(job.golden)}: has no nets/<net>/deploy.prototxt")
    for folder in folders:
        for precision in PRECISIONS:
            yield check_net(folder, job, precision)


def check_net(folder: Path, job: Checking, precision: Precision) -> Finding:
    """One net against the original's outputs.

    On CUDA OpenCV gets three nets: one that keeps every blob, one that ends in the scores, and one
    that ends in the scores on the net's own grid, which are enlarged here. `segment` uses the last.
    """
    net, data, expected = golden_net(folder)
    engine = job.engine(net, precision)
    error, blob = blob_error(folder, engine.blobs(data, blob_names(folder)))
    name, stride, offset = net.coarse_output
    coarse = engine.blobs(data, [name])[name]
    height, width = net.input_shape[2:]
    enlarged = CoarseScores(coarse[0], stride, offset).enlarged((height, width))
    ends = engine.blobs(data, [net.output])[net.output], enlarged[None]
    errors = [error, *(scores_error(scores, expected) for scores in ends)]
    agreement = [same_labels(scores, expected) for scores in ends]
    good = is_right(max(errors), min(agreement), precision)
    facts = {
        "net": folder.name,
        "precision": job.precision(precision),
        "worst blob": blob,
        "its error": error,
        "scores' error": errors[1],
        "coarse scores'": errors[2],
        "same labels": agreement[0],
        "of coarse scores": agreement[1],
        "same bits twice": bool((coarse == engine.blobs(data, [name])[name]).all()),
    }
    return Finding("nets", facts, "pass" if good else "fail")


def is_right(error: float, agreement: float, precision: Precision) -> bool:
    """Whether scores with this error and share of same labels will do; float16 has no error bar."""
    exact = precision == "float16" or error <= MOST_ERROR
    return exact and agreement >= LEAST_AGREEMENT[precision]


def look_at_nets(job: Checking) -> Iterator[Finding]:
    """The scores of two nets in both precisions, and the layers that OpenCV leaves on the CPU."""
    for name in _LOOKED_AT:
        net, data, expected = golden_net(job.golden / "nets" / name)
        for precision in PRECISIONS:
            engine = job.engine(net, precision)
            start = time.perf_counter()
            scores = engine.blobs(data, [net.output])[net.output]
            first = 1e3 * (time.perf_counter() - start)
            error, agreement = scores_error(scores, expected), same_labels(scores, expected)
            facts = {
                "net": name,
                "precision": job.precision(precision),
                "scores off": error,
                "same labels": agreement,
                "first ms": first,
                "layers on the CPU": None if job.rehearsal else layers_on_cpu(last_built(engine)),
            }
            good = is_right(error, agreement, precision)
            yield Finding("nets", facts, "pass" if good else "fail")


def last_built(engine: OpenCVEngine) -> "cv2.dnn.Net":
    """OpenCV's net that the engine ran last."""
    return list(engine._built.values())[-1]


def golden_net(folder: Path) -> tuple[Net, F32, F32]:
    """A golden net, its input 1x3xHxW, and the original's scores or every eighth pixel of them."""
    net = read_net(folder / "deploy.prototxt")
    load_weights(net, folder / "weights.caffemodel")
    with np.load(folder / "expected.npz") as expected:
        data = preprocess(expected["image"], (net.input_shape[2], net.input_shape[3]))
        name = "scores" if "scores" in expected else "scores_every_8th_pixel"
        return net, data, expected[name]


def blob_names(folder: Path) -> list[str]:
    """The blobs of which there are samples, the input left out."""
    with np.load(folder / "blob_samples.npz") as samples:
        names = [key.removesuffix("__index") for key in samples.files if key.endswith("__index")]
    return [name for name in names if name != "data"]


def blob_error(folder: Path, blobs: dict[str, F32]) -> tuple[float, str]:
    """The largest difference of a sample over its blob's max(1, std), and which blob's it is."""
    errors = {}
    with np.load(folder / "blob_samples.npz") as samples:
        for name, blob in blobs.items():
            difference = blob.ravel()[samples[f"{name}__index"]] - samples[f"{name}__value"]
            errors[name] = largest(difference) / max(1.0, float(samples[f"{name}__std"]))
    worst = max(errors, key=errors.__getitem__)
    return errors[worst], worst


def scores_error(scores: F32, expected: F32) -> float:
    """The largest difference of a score over max(1, std)."""
    return largest(_as_in(expected, scores) - expected) / max(1.0, float(expected.std()))


def same_labels(scores: F32, expected: F32) -> float:
    """The share of pixels whose label is the original's."""
    return float((_as_in(expected, scores).argmax(axis=1) == expected.argmax(axis=1)).mean())


def _as_in(expected: F32, scores: F32) -> F32:
    """The scores at the pixels that the original's outputs have: all, or every eighth."""
    step = 1 if scores.shape == expected.shape else 8
    return scores[:, :, ::step, ::step]


def check_tf32(job: Checking) -> Iterator[Finding]:
    """How exact float32 is with TF32 forbidden by the environment, left to OpenCV, and forced.

    OpenCV does not use TF32 in float32, so forbidding it must change no bit. Forcing it shows what
    it would do. NVIDIA's libraries read the variable once: hence a process each.
    """
    folder = job.golden / "nets" / _TF32_NET
    settings = ("0", None, "1")

    def measured(setting: str | None) -> dict[str, Any]:
        title = f"{_TF32}={setting}"
        found: dict[str, Any] = call_apart(
            title, largest_error, folder, job, environment={_TF32: setting}
        )
        return found

    # All at once: most of the time is that of loading cuDNN, in each of them.
    every = in_threads(measured, settings, len(settings), "TF32")
    found = dict(zip(settings, every, strict=True))
    for setting, of in found.items():
        same = of["digest"] == found["0"]["digest"]
        good = of["error"] <= MOST_ERROR and same
        verdict: Verdict | None = "pass" if good else "fail"
        facts = {
            _TF32: setting or "unset",
            "worst blob": of["blob"],
            "its error": of["error"],
            "same bits as with 0": same,
        }
        yield Finding("TF32", facts, verdict if setting != "1" else None)


def largest_error(folder: Path, job: Checking) -> dict[str, Any]:
    """The largest error of a golden net in float32, and a digest of its scores."""
    net, data, _ = golden_net(folder)
    engine = job.engine(net, "float32")
    error, blob = blob_error(folder, engine.blobs(data, blob_names(folder)))
    digest = hashlib.sha256(engine.blobs(data, [net.output])[net.output].tobytes()).hexdigest()
    return {"error": error, "blob": blob, "digest": digest}
