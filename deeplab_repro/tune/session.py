"""One photo and its probabilities, ready to be refined with one setting after the other."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deeplab_repro.arrays import F32, HW, UInt8, in_brief
from deeplab_repro.crf.arguments import check_memory, given_photos
from deeplab_repro.crf.cpu.mean_field import Kernel, MeanField
from deeplab_repro.crf.features import kernel_features
from deeplab_repro.machine.heap import give_back_excess
from deeplab_repro.machine.opencv import cv2
from deeplab_repro.models.registry import class_names
from deeplab_repro.net.scaled import shrunk, within
from deeplab_repro.tune.setting import Setting

_SMALL = 256  # pixels of the small copy's longer side

# Called after each iteration with its number and the marginals, LxHxW float32.
_OnIteration = Callable[[int, F32], object]


@dataclass(frozen=True)
class Source:
    """Where a photo and its probabilities are from, as a command line names them.

    probs: their file; or else model and weights: of the net that made them.
    """

    photo: Path
    probs: Path | None = None
    model: str | None = None
    weights: str | None = None


@dataclass(frozen=True, eq=False)
class Refined:
    """labels: HxW uint8, and marginals: CxHxW float32, of the photo or its small copy."""

    labels: UInt8
    marginals: F32

    __repr__ = in_brief


class Session:
    """A photo with the probabilities of its labels, and a small copy of both.

    image: HxWx3 uint8 RGB. probs: CxHxW float32. truth: HxW uint8, 255 void, or None. start: the
    setting to begin with. One thread at a time may use it.

    Raises what `dense_crf` raises for such an image and probabilities.
    """

    def __init__(
        self, source: Source, image: UInt8, probs: F32, start: Setting, truth: UInt8 | None = None
    ) -> None:
        image, probs = given_photos(image, probs)
        size = image.shape[0], image.shape[1]
        check_memory(len(probs), size, marginals=True)
        self.source, self.image, self.probs, self.start = source, image, probs, start
        self.truth = truth
        self.names = class_names(len(probs))
        self.net_labels: UInt8 = probs.argmax(axis=0).astype(np.uint8)
        self._full = _Field(image, probs)
        self._small = self._full.within(_SMALL)

    @property
    def size(self) -> HW:
        """The photo's (H, W)."""
        return self.image.shape[0], self.image.shape[1]

    def refine(
        self,
        setting: Setting,
        small: bool = False,
        on_iteration: _OnIteration | None = None,
    ) -> Refined:
        """The CRF's labels and marginals with a setting: on the CPU those of `dense_crf`.

        small: of the small copy, on which the deviations in pixels are smaller too. on_iteration:
        as `dense_crf` takes it; what it raises ends the work.
        """
        return (self._small if small else self._full).refine(setting, on_iteration)


class _Field:
    """The mean field of a photo or of a smaller copy; its lattice is kept from call to call."""

    def __init__(self, image: UInt8, probs: F32, scale: float = 1) -> None:
        self._image, self._probs, self._scale = image, probs, scale
        self._field: MeanField | None = None
        self._sigmas: tuple[float, ...] = ()
        self._features: tuple[F32, F32]

    def within(self, side: int) -> "_Field":
        """The same of a copy with at most so many pixels a side; itself where that is no smaller.

        A copy's pixel has the mean colour and the mean probabilities of those that it covers.
        """
        whole = self._image.shape[0], self._image.shape[1]
        size = within(whole, side)
        if size == whole:
            return self
        maps = [cv2.resize(each, size[::-1], interpolation=cv2.INTER_AREA) for each in self._probs]
        return _Field(shrunk(self._image, size), np.stack(maps), max(size) / max(whole))

    def refine(self, setting: Setting, on_iteration: _OnIteration | None) -> Refined:
        """The CRF's labels and marginals with a setting for the whole photo."""
        shape = self._probs.shape
        observe = on_iteration and (lambda i, q: on_iteration(i, q.reshape(shape)))
        field = self._with(setting.scaled(self._scale))
        labels, marginals = field.infer(setting.iterations, on_iteration=observe)
        give_back_excess()
        return Refined(labels.reshape(shape[1:]), marginals.reshape(shape))

    def _with(self, setting: Setting) -> MeanField:
        params = setting.params
        sigmas = (params.sigma_alpha, params.sigma_beta, params.sigma_gamma)
        if sigmas != self._sigmas:
            # The same arrays again tell the field that its lattice is still right.
            self._features, self._sigmas = kernel_features(self._image, params), sigmas
        position, bilateral = self._features
        kernels = [Kernel(position, params.w2), Kernel(bilateral, params.w1)]
        if self._field is None:
            self._field = MeanField(self._probs.reshape(len(self._probs), -1), kernels)
        else:
            self._field.change_kernels(kernels)
        return self._field
