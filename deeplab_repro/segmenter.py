"""A photo goes in, labels come out: the net, and the CRF behind it."""

import logging
import math
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Literal, NoReturn, overload

import numpy as np

from deeplab_repro.arrays import HW, UInt8
from deeplab_repro.crf.arguments import check_iterations
from deeplab_repro.crf.arguments import memory_needed as crf_memory_needed
from deeplab_repro.crf.cuda.device import crf_device
from deeplab_repro.crf.params import CrfParams
from deeplab_repro.engines.any_size import AnySize, OnTiles, TileSize, check_tile
from deeplab_repro.engines.choose import make_engine
from deeplab_repro.engines.engine import Engine, check_finite
from deeplab_repro.errors import (
    ArgumentError,
    ArgumentTypeError,
    DeepLabError,
    DeviceError,
    one_line,
)
from deeplab_repro.files.given_photo import PhotoLike, check_photos, given_photo, path_of
from deeplab_repro.machine.device import Precision
from deeplab_repro.models.drawn import looks_drawn
from deeplab_repro.models.fetched import weights_file
from deeplab_repro.models.loading import RANDOM, fill, read_model
from deeplab_repro.models.registry import MODELS
from deeplab_repro.models.usable import check_net, published_crf
from deeplab_repro.net.given import check_image
from deeplab_repro.net.net import Net
from deeplab_repro.net.preprocess import VOCS, preprocess
from deeplab_repro.net.scaled import check_max_side, shrunk, within
from deeplab_repro.net.scores import CoarseScores, coarse_size
from deeplab_repro.segmentation import Segmentation, refine
from deeplab_repro.work.outcomes import outcome_of
from deeplab_repro.work.stages import in_threads

_log = logging.getLogger(__name__)

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
    tile: TileSize = "auto"
    max_side: int | None = None

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

    model: a name of `deeplab_repro.MODELS`, or the path of a prototxt, or of a .safetensors that
        holds a net and its weights (as a Path always).
    weights: the path of a caffemodel or a .safetensors, the name of a model whose weights were
        fetched, or "random:SEED" to try things out without any. None for the model's own: ToyVOC's
        bring theirs, the paper's are what was fetched, those of train_aug before those of
        trainval_aug. Which it was stands in `.weights`.
    device: where it runs: "cpu", "cuda", or "auto" for the best there is (see `.device` and
        `.crf_device`).
    crf: "model" for the parameters published with the model, CrfParams for others, None for none.
    iterations: of the CRF's mean field.
    variables: values for ${NAME} in the prototxt, besides EXP=voc12 and NUM_LABELS=21.
    precision: of the net's arithmetic, "float32", on CUDA "float16", on CPUs that have it
        "bfloat16" with OpenVINO.
    engine: what runs the net, "opencv", "onnxruntime", "openvino", or "auto" (see
        `engines.choose`).
    tile: "auto" to run the net in tiles where the memory is too small for the whole image; the
        largest side of a tile in pixels, for images that are larger; None or "never" for no tiles.
        The scores are those of the whole image up to float32's rounding.
    max_side: images whose longer side has more pixels are scaled down to it for net and CRF. Labels
        are at full size all the same, by the nearest pixel, and all else is enlarged bilinearly.

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
        tile: TileSize = "auto",
        max_side: int | None = None,
    ) -> None:
        check_iterations(iterations)
        check_tile(tile)
        check_max_side(max_side)
        net = read_model(model, variables).ending_in_scores()
        check_net(net)
        self.crf = published_crf(net.name, net.dense_crf) if crf == "model" else crf
        if not isinstance(self.crf, CrfParams | None):
            raise ArgumentError(f"crf is {crf!r}, expected 'model', CrfParams or None")
        self.iterations = iterations
        self.max_side = max_side
        engine_of = partial(make_engine, device=device, precision=precision, engine=engine)
        self._runs = AnySize(net, engine_of, tile, partial(engine_of, measures=False))
        self.crf_device = crf_device(device) if self.crf else None
        is_whole = self._runs.fits(*self._needs((1, 1), labels_only=True))
        self.weights = weights_file(weights, model)
        fill(net, self.weights)
        known = MODELS.get(net.name)
        self._is_to_warn_of_photos = (
            known is not None
            and known.knows == "drawings"
            and self.weights == known.shipped_weights
        )
        if is_whole:
            self.engine.build()

    def __repr__(self) -> str:
        weights = one_line(self.weights)
        crf = f"CRF on {self.crf_device}" if self.crf else "without CRF"
        return f"DeepLab({self.net.name!r}, {weights!r}, {self.engine.name}, {self.device}, {crf})"

    def __reduce__(self) -> NoReturn:
        """Refuse copies, also those for other processes: what runs the net cannot be copied."""
        raise ArgumentTypeError(
            f"a model cannot be copied or pickled: give a Recipe({self.net.name!r}) to the other "
            "process, and build() it there"
        )

    @property
    def engine(self) -> Engine:
        """What runs the net."""
        return self._runs.engine

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

    def warn_of_photo(self, image: np.ndarray, name: str = "the image") -> None:
        """Log a warning, once, if this net knows drawn scenes only and an image is none.

        image: HxWx3 uint8 RGB. name: of the image, as the user knows it.
        """
        if self._is_to_warn_of_photos and not looks_drawn(image):
            self._is_to_warn_of_photos = False
            _log.warning(
                "%s knows drawn scenes only, and %s does not look like one: its labels will mean "
                "little",
                self.net.name,
                name,
            )

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
        image, path = given_photo(photo), path_of(photo)
        self.warn_of_photo(image, path.name if path else "the image")
        return replace(self.run_net(image), image=image, path=path)

    def _refined(self, scored: Segmentation) -> Segmentation:
        assert scored.image is not None
        return self.refine(scored.image, scored)

    def run_net(
        self, image: UInt8, *, labels_only: bool = False, on_tiles: OnTiles | None = None
    ) -> Segmentation:
        """The net alone: a Segmentation without CRF, with float32 scores on the net's own grid.

        image: HxWx3 uint8 RGB; the result does not keep it. Of a net that adds up branches at full
        size (the MSc nets) they are the scores at full size.

        labels_only: whether nothing else of the image's size will be asked for, neither scores nor
        marginals: then less memory must be there. on_tiles: what is called if it runs in tiles.

        Raises ArgumentError for other arrays, and what calling raises.
        """
        image = check_image(image)
        start = time.perf_counter()
        whole = image.shape[0], image.shape[1]
        seen = within(whole, self.max_side)
        size, net_bytes, rest = self._needs(whole, labels_only, self.max_side)
        smaller = partial(self._smaller, whole, labels_only)
        way = self._runs.way(size, net_bytes, rest, smaller)
        _, stride, offset = self.net.coarse_output
        data = preprocess(shrunk(image, seen), size, self.net.preprocessing or VOCS)
        wanted = coarse_size(seen, stride, offset)
        values, way = self._runs.run(way, data, wanted, on_tiles)
        check_finite(self.net, values, self.precision)
        coarse = CoarseScores(values, stride, offset).covering(seen)
        coarse = replace(coarse, values=np.ascontiguousarray(coarse.values))
        return Segmentation(
            whole,
            coarse,
            time.perf_counter() - start,
            tiles=way.count,
            scaled=None if seen == whole else seen,
        )

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
        return sum(self._needs(size, max_side=self.max_side)[1:])

    def _needs(
        self, image: HW, labels_only: bool = False, max_side: int | None = None
    ) -> tuple[HW, int, int]:
        """The size (H, W) at which to run an image, the bytes of the net, and those of the rest."""
        size = self.net.fitting_size(within(image, max_side))
        shape = (1, 3, *size)
        shapes = self.net.blob_shapes(shape)
        _, labels, *output_size = shapes[self.net.output]
        pixels = math.prod(output_size)
        if labels_only:
            rest = 2 * 4 * math.prod(shapes[self.net.coarse_output[0]])
        else:
            rest = _ARRAYS_HELD * 4 * labels * max(pixels, math.prod(image))
        if self.crf:
            rest += crf_memory_needed(labels, pixels, marginals=not labels_only)
        return size, self.engine.memory_needed(shape), rest

    def _smaller(self, image: HW, labels_only: bool, free: float) -> str:
        """What to do with an image that is too large for so many free bytes."""

        side, least, size = max(image), self.net.fitting_size((1, 1)), (0, 0)
        while size != least:
            side = side * 3 // 4
            size, net_bytes, rest = self._needs(image, labels_only, max(1, side))
            if self._runs.way_within(size, net_bytes, rest, 0.9 * free):
                return f"make it smaller (--max-side {max(1, side)})"
        return "use a machine with more memory"
