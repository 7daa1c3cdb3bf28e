"""DeepLab: an image goes in, labels come out."""

import math
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from deeplab_repro.caffe import load_weights, read_net
from deeplab_repro.crf.params import CrfParams
from deeplab_repro.engines.opencv import OpenCVEngine
from deeplab_repro.errors import ArgumentError
from deeplab_repro.files import require_memory
from deeplab_repro.image import MEAN_BGR, preprocess
from deeplab_repro.layers import dims
from deeplab_repro.models import MODELS, get_model
from deeplab_repro.net import Net

RANDOM = "random:"
"""With a seed behind it, stands for weights where there is no caffemodel."""

# Peak memory measured with OpenCV 4.14, from 513x513 to 1537x1025: its blobs are reused, but its
# convolutions pack their inputs and weights anew.
_COPIES_OF_WEIGHTS = 5
_ACTIVATIONS_HELD = 0.75
# Scores, probabilities, marginals and the CRF's working arrays, in float32 maps of image size.
_MAPS_HELD = 8


@dataclass(frozen=True)
class Segmentation:
    """One image's result, all at the image's size.

    labels: HxW uint8, the most probable label, ties to the lowest; after the CRF, if there is one.
    scores: CxHxW float32, as the net gives them. probs: CxHxW float32, their softmax.
    marginals: CxHxW float32, the probabilities after the CRF; None without one.
    net_seconds, crf_seconds: how long the two took.
    """

    labels: np.ndarray
    probs: np.ndarray
    scores: np.ndarray
    marginals: np.ndarray | None
    net_seconds: float
    crf_seconds: float = 0.0


class DeepLab:
    """A net with its weights, and the CRF behind it.

    model: a name of `deeplab_repro.models.MODELS`, or the path of a prototxt.
    weights: the path of a caffemodel, or "random:SEED" to try things out without one.
    device: where the net runs: "cpu", "cuda", or "auto" for the best there is (see `.device`).
    crf: "model" for the parameters published with the model, CrfParams for others, None for none.
    iterations: of the CRF's mean field.
    variables: values for ${NAME} in the prototxt, besides EXP=voc12 and NUM_LABELS=21.

    Raises a DeepLabError, on one line, for files that cannot be used and devices that are absent.
    """

    def __init__(
        self,
        model: str | Path = "DeepLab-LargeFOV",
        weights: str | Path | None = None,
        *,
        device: str = "auto",
        crf: CrfParams | Literal["model"] | None = "model",
        iterations: int = 10,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        is_file = Path(model).suffix == ".prototxt" or Path(model).is_file()
        path = model if is_file else get_model(str(model)).test_prototxt
        net = read_net(path, variables).ending_in_scores()
        self.crf = _published_crf(net) if crf == "model" else crf
        self.iterations = iterations
        self.engine = OpenCVEngine(net, device)
        _fill(net, weights)

    @property
    def net(self) -> Net:
        """The net that is run: plain data."""
        return self.engine.net

    @property
    def device(self) -> str:
        """Where the net runs: "cpu" or "cuda"."""
        return self.engine.device

    def __call__(self, image: np.ndarray) -> Segmentation:
        """Segment an image, HxWx3 uint8 RGB of any size.

        An image up to the net's crop is padded to it, as the authors did; a larger one runs at its
        own size, padded to the next that the net's strides fit. Raises ArgumentError for other
        arrays, and ResourceError where the image needs more memory than there is.
        """
        return self.refine(image, self.run_net(image))

    def stream(self, images: Iterable[np.ndarray]) -> Iterator[Segmentation]:
        """Segment images one after the other: while the CRF works on one, the net does the next."""
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="crf") as crf:
            if self.crf:
                # Numba takes a moment to load; the first image's net hides it.
                crf.submit(_load_crf)
            previous: Future[Segmentation] | None = None
            for image in images:
                coming = crf.submit(self.refine, image, self.run_net(image))
                if previous:
                    yield previous.result()
                previous = coming
            if previous:
                yield previous.result()

    def run_net(self, image: np.ndarray) -> Segmentation:
        """The net alone: a Segmentation without CRF."""
        start = time.perf_counter()
        size = self.check(image)
        height, width = image.shape[:2]
        data = preprocess(image, size, self.net.mean_bgr or MEAN_BGR)
        scores = np.ascontiguousarray(self.engine.forward(data)[0, :, :height, :width])
        return Segmentation(
            labels=scores.argmax(axis=0).astype(np.uint8),
            probs=softmax(scores),
            scores=scores,
            marginals=None,
            net_seconds=time.perf_counter() - start,
        )

    def refine(self, image: np.ndarray, segmentation: Segmentation) -> Segmentation:
        """The same segmentation after the CRF; as it was if this model has none."""
        if self.crf is None:
            return segmentation
        from deeplab_repro.crf.dense_crf import dense_crf

        start = time.perf_counter()
        result = dense_crf(image, segmentation.probs, self.crf, self.iterations)
        return replace(
            segmentation,
            labels=result.labels,
            marginals=result.marginals,
            crf_seconds=time.perf_counter() - start,
        )

    def check(self, image: np.ndarray) -> tuple[int, int]:
        """The size (H, W) at which the net would run an image; raises what running it would."""
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            found = f"{dims(image.shape)} {image.dtype}"
            raise ArgumentError(f"the image is {found}, expected HxWx3 uint8, RGB")
        height, width = self.net.fitting_size((image.shape[0], image.shape[1]))
        shape = (1, 3, height, width)
        n_bytes = (
            _COPIES_OF_WEIGHTS * 4 * self.net.parameters
            + _ACTIVATIONS_HELD * self.net.activation_bytes(shape)
            + _MAPS_HELD * 4 * math.prod(self.net.output_shape(shape))
        )
        what = f"net '{self.net.name}' on an image of {width}x{height} pixels"
        require_memory(int(n_bytes), what)
        return height, width


def softmax(scores: np.ndarray) -> np.ndarray:
    """Softmax over the labels of CxHxW float32 scores, maximum subtracted, in float32."""
    probs = scores - scores.max(axis=0)
    np.exp(probs, out=probs)
    probs /= probs.sum(axis=0)
    return probs


def _fill(net: Net, weights: str | Path | None) -> None:
    if weights is None:
        raise ArgumentError(
            f"net '{net.name}' needs weights: give a caffemodel, or {RANDOM}0 for seeded random "
            "ones (the labels then mean nothing)"
        )
    name = str(weights)
    if name.startswith(RANDOM):
        seed = name.removeprefix(RANDOM)
        if not (seed.isdecimal() and seed.isascii() and len(seed) < 10):
            raise ArgumentError(f"weights are '{name}', expected {RANDOM} and a whole number")
        require_memory(4 * net.parameters, f"net '{net.name}' with random weights")
        net.fill_random(int(seed))
    else:
        load_weights(net, weights)


def _published_crf(net: Net) -> CrfParams:
    """The CRF of the net's name in the registry, or else the one that its own file asks for."""
    published = MODELS[net.name].crf if net.name in MODELS else None
    block = net.dense_crf
    if published is None and block and all((block.bi_w, block.bi_xy_std, block.bi_rgb_std)):
        published = CrfParams(block.bi_w[0], block.bi_xy_std[0], block.bi_rgb_std[0])
    if published is None:
        raise ArgumentError(
            f"no CRF parameters are published for net '{net.name}': give them as "
            "W1,SIGMA_ALPHA,SIGMA_BETA (--crf), or do without a CRF (--no-crf)"
        )
    return published


def _load_crf() -> None:
    from deeplab_repro.crf.dense_crf import dense_crf

    image = np.zeros((2, 2, 3), np.uint8)
    dense_crf(image, np.ones((1, 2, 2), np.float32), CrfParams(1, 1, 1), iterations=1)
