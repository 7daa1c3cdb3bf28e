"""pydensecrf's `densecrf`: a fully connected CRF over any points (DenseCRF) or pixels (DenseCRF2D).

Kraehenbuehl and Koltun (NIPS 2011): unary energies, and pairwise energies that are a label
compatibility times a Gaussian kernel of the points' features.

Errors are ArgumentError, which is a ValueError, and ResourceError where memory would not suffice.
Arrays need not be contiguous. Marginals are plain NumPy arrays, nlabels x points float32.
"""
# ruff: noqa: N803 - pydensecrf's argument names

from enum import IntEnum
from threading import RLock
from typing import Any

import numpy as np

from deeplab_repro.arrays import F32, UInt8, dims
from deeplab_repro.crf.cpu.mean_field import NORMALIZATIONS, Kernel, MeanField
from deeplab_repro.errors import ArgumentError
from deeplab_repro.pydensecrf import eigen as eigen
from deeplab_repro.pydensecrf.arguments import (
    check_memory,
    choice,
    deviations,
    energies,
    float32_array,
    label_compatibility,
    marginals,
    point_features,
    rgb_image,
    whole_number,
)


class KernelType(IntEnum):
    """How the features are correlated. As long as nothing is learned, all three are the same.

    >>> KernelType(1)
    <KernelType.DIAG_KERNEL: 1>
    """

    CONST_KERNEL = 0
    DIAG_KERNEL = 1
    FULL_KERNEL = 2


class NormalizationType(IntEnum):
    """Where a kernel's message is divided by r, the kernel's response to ones.

    before: K (Q / r); after: (K Q) / r; symmetric: K (Q / sqrt r) / sqrt r; none: K Q.

    >>> NormalizationType(3)
    <NormalizationType.NORMALIZE_SYMMETRIC: 3>
    """

    NO_NORMALIZATION = 0
    NORMALIZE_BEFORE = 1
    NORMALIZE_AFTER = 2
    NORMALIZE_SYMMETRIC = 3


CONST_KERNEL = KernelType.CONST_KERNEL
DIAG_KERNEL = KernelType.DIAG_KERNEL
FULL_KERNEL = KernelType.FULL_KERNEL
NO_NORMALIZATION = NormalizationType.NO_NORMALIZATION
NORMALIZE_BEFORE = NormalizationType.NORMALIZE_BEFORE
NORMALIZE_AFTER = NormalizationType.NORMALIZE_AFTER
NORMALIZE_SYMMETRIC = NormalizationType.NORMALIZE_SYMMETRIC


class Unary:
    """Unary energies; make a ConstUnary or a LogisticUnary.

    >>> isinstance(ConstUnary(np.zeros((2, 5), np.float32)), Unary)
    True
    """

    energies: F32


class ConstUnary(Unary):
    """Energies u: nlabels x points float32, copied.

    >>> crf = DenseCRF(nvar=5, nlabels=2)
    >>> crf.setUnary(ConstUnary(np.ones((2, 5), np.float32)))
    """

    def __init__(self, u: F32) -> None:
        self.energies = np.array(float32_array("u", u), order="C")


class LogisticUnary(Unary):
    """Energies L @ f. L: nlabels x features, f: features x points; both float32.

    >>> LogisticUnary(np.ones((2, 3), np.float32), np.ones((3, 5), np.float32)).energies.shape
    (2, 5)
    """

    def __init__(self, L: F32, f: F32) -> None:
        left, right = float32_array("L", L), float32_array("f", f)
        if left.ndim != 2 or right.ndim != 2 or left.shape[1] != len(right):
            raise ArgumentError(
                f"L and f have shapes {dims(left.shape)} and {dims(right.shape)}; expected"
                " labels x features and features x points"
            )
        self.energies = left @ right


class DenseCRF:
    """A fully connected CRF over `nvar` points with `nlabels` labels each.

    Threads that ask one at the same time take turns.

    >>> crf = DenseCRF(nvar=3, nlabels=2)
    >>> crf.setUnaryEnergy(np.float32([[0.1, 0.9, 0.1], [2, 0.5, 2]]))
    >>> crf.addPairwiseEnergy(np.float32([[0, 0.1, 0.2]]), compat=3)  # three points on a line
    >>> crf.inference(5).argmax(axis=0)
    array([0, 0, 0])
    """

    _size: tuple[int, int] | None = None  # height and width, where the points are pixels

    def __init__(self, nvar: int, nlabels: int) -> None:
        self._nvar = whole_number("nvar", nvar, 1)
        self._nlabels = whole_number("nlabels", nlabels, 1)
        check_memory(self._nvar, self._nlabels, [])
        self._energies: F32 | None = None
        self._kernels: list[Kernel] = []
        self._mean_field: MeanField | None = None
        self._lock = RLock()

    def setUnary(self, u: Unary) -> None:
        """Set the unary energies, in place of any set before."""
        if not hasattr(u, "energies"):
            raise ArgumentError(
                f"the unary is a {type(u).__name__}; expected ConstUnary(U) or LogisticUnary(L, f),"
                " use setUnaryEnergy(U) for an array"
            )
        checked = energies(u.energies, self._nlabels, self._nvar, self._size)
        with self._lock:
            self._energies = checked
            self._mean_field = None

    def setUnaryEnergy(self, u: F32) -> None:
        """Set the unary energies -log p: nlabels x nvar float32; +inf is allowed. `u` is copied.

        Arrays that hold probabilities or log-probabilities, or that were reshaped with the labels
        last, are recognised and refused; warned of where they may be energies.
        """
        self.setUnary(ConstUnary(u))

    def addPairwiseEnergy(
        self,
        features: F32,
        compat: float | F32,
        kernel: int = DIAG_KERNEL,
        normalization: int = NORMALIZE_SYMMETRIC,
    ) -> None:
        """Add an energy of compatibility times exp(-|f_i - f_j|^2 / 2).

        features: d x nvar float32, each already divided by its standard deviation.
        compat: a number w, for Potts: points of different labels cost w times their kernel. Or,
        float32, the energies themselves: nlabels for points of the same label, nlabels x nlabels
        for all pairs (made symmetric). Their sign is pydensecrf's, so a Potts model of weight w is
        also -w for each label, or -w times the identity.
        kernel: one of the KernelTypes. normalization: one of the NormalizationTypes.
        """
        points = point_features(features, self._nvar)
        self._check_memory(len(points))
        self._add(np.array(points, order="C"), compat, kernel, normalization)

    def _add(self, features: F32, compat: float | F32, kernel: int, normalization: int) -> None:
        choice("kernel", kernel, KernelType)
        normalized = choice("normalization", normalization, NormalizationType)
        compatibility = label_compatibility(compat, self._nlabels)
        added = Kernel(features, compatibility, NORMALIZATIONS[normalized])
        with self._lock:
            self._kernels.append(added)
            self._mean_field = None

    def inference(self, niter: int) -> F32:
        """The marginals, nlabels x nvar, after `niter` mean-field steps from softmax(-U)."""
        return self._prepared().run(whole_number("the number of iterations", niter, 0))

    def startInference(self) -> tuple[F32, F32, F32]:
        """Marginals softmax(-U) to step on, and two empty arrays that stepInference ignores."""
        nothing = np.empty((0, 0), np.float32)
        return self._prepared().run(0), nothing, nothing.copy()

    def stepInference(self, Q: F32, tmp1: Any, tmp2: Any) -> None:  # noqa: ARG002
        """Make one mean-field step from the marginals Q, in place."""
        Q[...] = self._prepared().step(marginals(Q, self._nlabels, self._nvar))

    def klDivergence(self, Q: F32) -> float:
        """The KL divergence of Q from the CRF's distribution, up to a constant.

        The sum over points and labels of Q (log Q + U - messages), in nats; a Q of 0 counts 0.
        """
        q = marginals(Q, self._nlabels, self._nvar)
        with self._lock:
            messages, energies = self._prepared().message(q), self._energies
        with np.errstate(divide="ignore", invalid="ignore"):  # log 0, and 0 times infinity
            terms = q * (np.log(q) + energies - messages)
        return float(terms.sum(dtype=np.float64, where=q > 0))

    def _prepared(self) -> MeanField:
        with self._lock:
            if self._energies is None:
                raise ArgumentError("the CRF has no unary yet; call setUnaryEnergy first")
            if self._mean_field is None:
                self._check_memory()  # before the lattice; MeanField asks again, by its vertices
                self._mean_field = MeanField(self._energies, self._kernels, energies=True)
            return self._mean_field

    def _check_memory(self, *more: int) -> None:
        """Raise ResourceError if the CRF would not fit with kernels of so many features more."""
        held = [len(kernel.features) for kernel in self._kernels]
        check_memory(self._nvar, self._nlabels, [*held, *more])


class DenseCRF2D(DenseCRF):
    """A fully connected CRF over the pixels of an image: width first, then height.

    Point y * w + x is the pixel in row y and column x.

    >>> image = np.zeros((2, 3, 3), np.uint8)
    >>> crf = DenseCRF2D(3, 2, 2)
    >>> crf.setUnaryEnergy(np.float32([[0.1, 0.1, 0.1, 0.1, 0.9, 0.1], [2, 2, 2, 2, 0.5, 2]]))
    >>> crf.addPairwiseGaussian(sxy=3, compat=3)
    >>> crf.addPairwiseBilateral(sxy=80, srgb=13, rgbim=image, compat=10)
    >>> crf.inference(5).argmax(axis=0).reshape(2, 3)
    array([[0, 0, 0],
           [0, 0, 0]])
    """

    def __init__(self, w: int, h: int, nlabels: int) -> None:
        width, height = whole_number("the width", w, 1), whole_number("the height", h, 1)
        super().__init__(width * height, nlabels)
        self._size: tuple[int, int] = height, width

    def addPairwiseGaussian(
        self,
        sxy: float | tuple[float, float],
        compat: float | F32,
        kernel: int = DIAG_KERNEL,
        normalization: int = NORMALIZE_SYMMETRIC,
    ) -> None:
        """Add a pairwise energy of the pixels' distance.

        sxy: standard deviation in pixels, one or (x, y). The rest: see addPairwiseEnergy.
        """
        self._check_memory(2)
        self._add(self._positions(sxy), compat, kernel, normalization)

    def addPairwiseBilateral(
        self,
        sxy: float | tuple[float, float],
        srgb: float | tuple[float, float, float],
        rgbim: UInt8,
        compat: float | F32,
        kernel: int = DIAG_KERNEL,
        normalization: int = NORMALIZE_SYMMETRIC,
    ) -> None:
        """Add a pairwise energy of the pixels' distance and their difference in colour.

        sxy: standard deviation in pixels, one or (x, y). srgb: standard deviation in steps of
        colour, one or (r, g, b). rgbim: HxWx3 uint8. The rest: see addPairwiseEnergy.
        """
        self._check_memory(5)
        positions = self._positions(sxy)
        deviation = deviations("srgb", srgb, ("red", "green", "blue"))
        colours = rgb_image(rgbim, self._size).reshape(-1, 3).T / deviation[:, None]
        self._add(np.concatenate([positions, colours]), compat, kernel, normalization)

    def _positions(self, sxy: float | tuple[float, float]) -> F32:
        height, width = self._size
        across, down = deviations("sxy", sxy, ("x", "y"))
        positions = np.empty((2, height, width), np.float32)
        positions[0] = np.arange(width, dtype=np.float32) / across
        positions[1] = (np.arange(height, dtype=np.float32) / down)[:, None]
        return positions.reshape(2, -1)
