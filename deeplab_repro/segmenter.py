"""A photo goes in, labels come out: the net, and the CRF behind it."""

import math
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Literal, overload

import numpy as np

from deeplab_repro.arrays import HW, UInt8, dims
from deeplab_repro.crf.arguments import check_iterations
from deeplab_repro.crf.arguments import memory_needed as crf_memory_needed
from deeplab_repro.crf.cuda.device import crf_device
from deeplab_repro.crf.params import CrfParams
from deeplab_repro.engines.choose import make_engine
from deeplab_repro.engines.engine import check_finite
from deeplab_repro.errors import ArgumentError, DeepLabError, DeviceError, NetError, one_line
from deeplab_repro.files.given_photo import PhotoLike, check_photos, given_photo, path_of
from deeplab_repro.files.images import VOID
from deeplab_repro.machine.device import Precision
from deeplab_repro.machine.memory import require_memory
from deeplab_repro.models.fetched import weights_file
from deeplab_repro.models.loading import RANDOM, fill, read_model
from deeplab_repro.models.registry import MODELS
from deeplab_repro.net.given import check_image
from deeplab_repro.net.net import DenseCrfParameter, Net
from deeplab_repro.net.preprocess import VOCS, preprocess
from deeplab_repro.net.scores import CoarseScores
from deeplab_repro.segmentation import Segmentation
from deeplab_repro.work.outcomes import outcome_of
from deeplab_repro.work.stages import in_threads

DEFAULT_MODEL = "DeepLab-LargeFOV"

# The path of a photo, if it has one, and what became of it.
_Outcome = tuple[Path | None, Segmentation | DeepLabError]

# CxHxW float32 arrays beside those of the CRF: a library's scores, ours and the probabilities.
_ARRAYS_HELD = 3


@dataclass(frozen=True)
class Recipe:
    """What makes labels of a photo: a net with its weights, and the CRF behind it.

    model: as `DeepLab` takes it; None for the net that kept scores are of, or else
    DeepLab-LargeFOV. The others are as `DeepLab` takes them.

    >>> recipe = Recipe("ToyVOC-LargeFOV", crf=None)
    >>> recipe.build().net.name
    'ToyVOC-LargeFOV'
    """

    model: str | Path | None = None
    weights: str | Path | None = None
    device: str = "auto"
    crf: CrfParams | Literal["model"] | None = "model"
    iterations: int = 10
    variables: Mapping[str, str] = field(default_factory=dict)
    precision: Precision = "float32"
    engine: str = "auto"

    def absolute(self) -> "Recipe":
        """The same recipe with absolute paths, for processes that work in another folder."""
        model = self.model
        if model is not None and model not in MODELS:
            model = Path(os.path.abspath(model))
        # What was fetched is remembered on this machine; what ships is on each, in its own place.
        weights = weights_file(self.weights, model or DEFAULT_MODEL)
        shipped = [known.shipped_weights for known in MODELS.values()]
        if weights is None or weights in shipped or str(weights).startswith(RANDOM):
            return replace(self, model=model)
        return replace(self, model=model, weights=os.path.abspath(weights))

    def build(self) -> "DeepLab":
        """The model, ready to run. Raises what `DeepLab` raises."""
        options = {each.name: getattr(self, each.name) for each in fields(self)}
        return DeepLab(**options | {"model": self.model or DEFAULT_MODEL})


class DeepLab:
    """A net with its weights, and the CRF behind it.

    model: a name of `deeplab_repro.MODELS`, or the path of a prototxt (as a Path always).
    weights: the path of a caffemodel, the name of a model whose weights were fetched, or
        "random:SEED" to try things out without any. None for the model's own: ToyVOC's bring
        theirs, the paper's are what was fetched, those of train_aug before those of trainval_aug.
        Which it was stands in `.weights`.
    device: where it runs: "cpu", "cuda", or "auto" for the best there is (see `.device` and
        `.crf_device`).
    crf: "model" for the parameters published with the model, CrfParams for others, None for none.
    iterations: of the CRF's mean field.
    variables: values for ${NAME} in the prototxt, besides EXP=voc12 and NUM_LABELS=21.
    precision: of the net's arithmetic, "float32", on CUDA "float16", on CPUs that have it
        "bfloat16" with OpenVINO.
    engine: what runs the net, "opencv", "onnxruntime", "openvino", or "auto" (see
        `engines.choose`).

    Raises a DeepLabError, on one line, for files that cannot be used, devices that are absent, nets
    that do not take a colour image to scores of 1 to 255 labels, and too little memory.

    >>> model = DeepLab("ToyVOC-LargeFOV")
    >>> model("photo.jpg").labels.shape  # one photo
    (60, 80)
    >>> [result.size for result in model.stream(["photo.jpg", "photo.jpg"])]  # many
    [(60, 80), (60, 80)]
    """

    def __init__(
        self,
        model: str | Path = DEFAULT_MODEL,
        weights: str | Path | None = None,
        *,
        device: str = "auto",
        crf: CrfParams | Literal["model"] | None = "model",
        iterations: int = 10,
        variables: Mapping[str, str] | None = None,
        precision: Precision = "float32",
        engine: str = "auto",
    ) -> None:
        check_iterations(iterations)
        net = read_model(model, variables).ending_in_scores()
        check_net(net)
        self.crf = published_crf(net.name, net.dense_crf) if crf == "model" else crf
        if not isinstance(self.crf, CrfParams | None):
            raise ArgumentError(f"crf is {crf!r}, expected 'model', CrfParams or None")
        self.iterations = iterations
        self.engine = make_engine(net, device, precision, engine)
        self.crf_device = crf_device(device) if self.crf else None
        self._net_bytes_held = 0
        self._check_memory(*self._needs((1, 1)))
        self.weights = weights_file(weights, model)
        fill(net, self.weights)
        self.engine.build()

    def __repr__(self) -> str:
        weights = one_line(self.weights)
        crf = f"CRF on {self.crf_device}" if self.crf else "without CRF"
        return f"DeepLab({self.net.name!r}, {weights!r}, {self.engine.name}, {self.device}, {crf})"

    @property
    def net(self) -> Net:
        """The net that is run: plain data."""
        return self.engine.net

    @property
    def device(self) -> str:
        """Where the net runs: "cpu" or "cuda"."""
        return self.engine.device

    @property
    def precision(self) -> Precision:
        """Of the net's arithmetic: "float32", "float16" or "bfloat16"."""
        return self.engine.precision

    def __call__(self, photo: PhotoLike) -> Segmentation:
        """Segment a photo of any size.

        photo: the path of a file, a picture of Pillow's, or an HxWx3 uint8 array in RGB. Paths and
        pictures are upright afterwards, as `read_image` makes them. An array's order of colours
        cannot be told from its values: of OpenCV's, which have blue first, give
        `image[..., ::-1]`.

        A photo up to the net's crop is padded to it, as the authors did; a larger one to the next
        of sizes 64 pixels apart (`Net.fitting_size`). Raises ArgumentError for what is no photo,
        ResourceError where it needs more memory than there is, and what `read_image` raises.
        """
        return self._refined(self._scored(photo))

    @overload
    def stream(
        self, photos: Iterable[PhotoLike], *, errors: Literal["raise"] = "raise"
    ) -> Iterator[Segmentation]: ...

    @overload
    def stream(
        self, photos: Iterable[PhotoLike], *, errors: Literal["yield"]
    ) -> Iterator[Segmentation | DeepLabError]: ...

    def stream(
        self, photos: Iterable[PhotoLike], *, errors: Literal["raise", "yield"] = "raise"
    ) -> Iterator[Segmentation | DeepLabError]:
        """Segment many photos, each when its result is asked for; results in order.

        While the CRF works on a photo, the net does the next, so that one photo is taken ahead;
        this saves time where there are cores to spare, or a GPU. photos: a list or any other
        iterable; each is of a kind that calling takes. The CRF's thread ends with the stream, or
        when it is closed.

        errors: "raise" ends the stream at a photo that cannot be segmented, with an error that
        names it by number and path. "yield" gives the error in the photo's place and goes on; an
        error of the device is raised all the same. Raises ArgumentError for a single photo.

        >>> model = DeepLab("ToyVOC-LargeFOV", crf=None)
        >>> for result in model.stream(["photo.jpg", "nowhere.jpg"], errors="yield"):
        ...     print(repr(result))
        Segmentation('photo.jpg', 60x80, without CRF)
        FileError('photo 2: nowhere.jpg: cannot be read: no such file or directory')
        """
        check_photos(photos)
        if errors not in ("raise", "yield"):
            raise ArgumentError(f"errors is {errors!r}, expected 'raise' or 'yield'")
        return self._stream(photos, errors == "yield")

    def _stream(
        self, photos: Iterable[PhotoLike], goes_on: bool
    ) -> Iterator[Segmentation | DeepLabError]:
        scored = ((path_of(photo), outcome_of(self._scored, photo)) for photo in photos)
        threads = 1 if self.crf else 0
        with closing(in_threads(self._try_crf, scored, threads, "crf", self.load_crf)) as results:
            for number, (path, result) in enumerate(results, 1):
                if isinstance(result, Segmentation):
                    yield result
                    continue
                name = f"photo {number}"
                if path and one_line(path) not in str(result):
                    name = f"{name}, {one_line(path)}"
                error = type(result)(f"{name}: {result}")
                if not goes_on or isinstance(error, DeviceError):
                    raise error
                yield error

    def _try_crf(self, scored: _Outcome) -> _Outcome:
        path, made = scored
        if isinstance(made, Segmentation):
            return path, outcome_of(self._refined, made)
        return scored

    def _scored(self, photo: PhotoLike) -> Segmentation:
        """A photo after the net, which it keeps for the CRF."""
        image = given_photo(photo)
        return replace(self.run_net(image), image=image, path=path_of(photo))

    def _refined(self, scored: Segmentation) -> Segmentation:
        assert scored.image is not None
        return self.refine(scored.image, scored)

    def run_net(self, image: UInt8) -> Segmentation:
        """The net alone: a Segmentation without CRF, with float32 scores on the net's own grid.

        image: HxWx3 uint8 RGB; the result does not keep it. Of a net that adds up branches at full
        size (the MSc nets) they are the scores at full size.

        Raises ArgumentError for other arrays, and what calling raises.
        """
        image = check_image(image)
        start = time.perf_counter()
        size, net_bytes = self._check(image)
        data = preprocess(image, size, self.net.preprocessing or VOCS)
        blob, stride, offset = self.net.coarse_output
        values = self.engine.blobs(data, [blob])[blob][0]
        self._net_bytes_held = max(self._net_bytes_held, net_bytes)
        check_finite(self.net, values, self.precision)
        coarse = CoarseScores(values, stride, offset).covering(image.shape[:2])
        coarse = replace(coarse, values=np.ascontiguousarray(coarse.values))
        return Segmentation(image.shape[:2], coarse, time.perf_counter() - start)

    def refine(
        self, image: UInt8, segmentation: Segmentation, marginals: bool = True
    ) -> Segmentation:
        """The same segmentation after the CRF; as it was if this model has none.

        marginals: whether they are wanted; to bring them from a GPU takes longer than the CRF.
        """
        if self.crf is None or self.crf_device is None:
            return segmentation
        return refine(image, segmentation, self.crf, self.iterations, self.crf_device, marginals)

    def load_crf(self) -> None:
        """Load Numba and what it compiled, ahead of the first image, if there is a CRF."""
        if self.crf_device:
            from deeplab_repro.crf.dense_crf import load

            load(self.net.output_shape()[1], self.crf_device)

    def memory_needed(self, size: HW) -> int:
        """About how many bytes a process takes to segment images of up to `size` = (H, W).

        Measured on a CPU.
        """
        return sum(self._needs(size)[1:])

    def _needs(self, size: HW) -> tuple[HW, int, int]:
        """The size (H, W) at which to run an image, the bytes of the net, and those of the rest."""
        size = self.net.fitting_size(size)
        shape = (1, 3, *size)
        _, labels, *output_size = self.net.output_shape(shape)
        pixels = math.prod(output_size)
        rest = _ARRAYS_HELD * 4 * labels * pixels
        if self.crf:
            rest += crf_memory_needed(labels, pixels)
        return size, self.engine.memory_needed(shape), rest

    def _check(self, image: UInt8) -> tuple[HW, int]:
        """The size (H, W) at which to run an image, and the net's bytes. The memory suits."""
        size, net_bytes, rest = self._needs((image.shape[0], image.shape[1]))
        self._check_memory(size, net_bytes, rest)
        return size, net_bytes

    def _check_memory(self, size: HW, net_bytes: int, rest: int) -> None:
        # What the net took for an earlier image, it has not given back.
        n_bytes = net_bytes + rest - self._net_bytes_held
        what = f"net '{self.net.name}' on an image of {size[1]}x{size[0]} pixels"
        require_memory(n_bytes, what)


def refine(
    image: UInt8,
    segmentation: Segmentation,
    crf: CrfParams,
    iterations: int,
    device: str,
    marginals: bool = True,
) -> Segmentation:
    """A segmentation by a net after the CRF.

    Raises ArgumentError for an image of another size, and what `dense_crf` raises.
    """
    from deeplab_repro.crf.dense_crf import refine_scores

    assert segmentation.coarse
    image = check_image(image)
    if image.shape[:2] != segmentation.size:
        raise ArgumentError(
            f"image is {dims(image.shape[:2])} (HxW), expected the {dims(segmentation.size)} of "
            "the image that was segmented"
        )
    start = time.perf_counter()
    refined = refine_scores(
        image, segmentation.coarse, crf, iterations, device=device, marginals=marginals
    )
    return replace(segmentation, refined=refined, crf_seconds=time.perf_counter() - start)


def check_net(net: Net) -> None:
    """Raise NetError unless the net takes a colour image to scores of labels that fit uint8."""
    net.check_map()
    if net.input_shape[1:2] != (3,):
        raise NetError(
            f"net '{net.name}' takes {dims(net.input_shape)}, expected 3 channels: a colour image "
            "(is_color: false and force_gray in a data layer ask for grey ones)"
        )
    found = net.output_shape((1, *net.input_shape[1:]))
    if len(found) != 4 or found[0] != 1 or not 1 <= found[1] <= VOID:
        raise NetError(
            f"net '{net.name}' ends in '{net.output}' of shape {dims(found)}, expected scores of "
            f"1 to {VOID} labels, 1xCxHxW"
        )


def published_crf(model: str, block: DenseCrfParameter | None = None) -> CrfParams:
    """The CRF of a net's name in the registry, or else the one that its own file asks for.

    Raises ArgumentError where there is neither.
    """
    published = MODELS[model].crf if model in MODELS else None
    if published is None and block:
        kernels = (block.bi_w, block.bi_xy_std, block.bi_rgb_std, block.pos_w, block.pos_xy_std)
        if all(len(values) == 1 for values in kernels):  # with more, it is another CRF than ours
            try:
                published = CrfParams(*(value for (value,) in kernels))
            except ArgumentError as error:
                raise ArgumentError(f"net '{model}' asks for a CRF: {error}, by --crf") from error
    if published is None:
        raise ArgumentError(
            f"no CRF parameters are published for net '{model}': give them as "
            "W1,SIGMA_ALPHA,SIGMA_BETA (--crf), or do without a CRF (--no-crf)"
        )
    return published
