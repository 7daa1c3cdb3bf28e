"""Mean-field inference in a fully connected CRF (Kraehenbuehl and Koltun, NIPS 2011)."""

import functools
import math
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import RLock
from typing import Any, Literal

import numpy as np

from deeplab_repro.arrays import F32, UInt8, in_brief
from deeplab_repro.crf.arguments import check_memory
from deeplab_repro.crf.cpu import steps
from deeplab_repro.crf.cpu.lattice import build_lattice
from deeplab_repro.crf.cpu.threads import is_small, run_alone, run_together
from deeplab_repro.crf.cpu.unary import EnlargedProbs, read_unary
from deeplab_repro.crf.cpu.vectors import LANES
from deeplab_repro.crf.features import kernel_features
from deeplab_repro.crf.params import CrfParams
from deeplab_repro.machine.heap import give_back_excess
from deeplab_repro.machine.memory import require_memory
from deeplab_repro.machine.work_space import empty
from deeplab_repro.net.scores import CoarseScores

Normalization = Literal["none", "before", "after", "symmetric"]
# Numbered as in steps.py, and as by pydensecrf.
NORMALIZATIONS: tuple[Normalization, ...] = ("none", "before", "after", "symmetric")

MOST_VECTORS = 4  # that are worked on at once: more do not fit the registers
MOST_AT_ONCE = 100  # iterations: small CRFs run in the calling thread, which is to hear Ctrl-C
# Beyond so many pixels a corner's weight is multiplied each time by its kernel's factor. The
# products of all corners are faster as long as they fit the caches, but take four times the memory.
MOST_WITH_PRODUCTS = 2_000_000
LARGEST_MESSAGE = 20.0  # exp of it, times any probability, is well within float32's range


@dataclass(frozen=True, eq=False)
class Kernel:
    """One Gaussian kernel K between all pairs of N pixels.

    features: d x N float32, each divided by its standard deviation. compatibility: what the kernel
    adds to log q: w K q for a number w (Potts), v_l (K q)_l for a vector of L, C K q for an L x L
    matrix. normalization: with r = K 1, "after" takes (K q) / r, "before" K (q / r), "symmetric"
    (K (q / sqrt r)) / sqrt r, and "none" K q.
    """

    features: F32
    compatibility: float | F32
    normalization: Normalization = "after"

    __repr__ = in_brief


def infer(
    image: UInt8,
    probs: F32 | CoarseScores,
    params: CrfParams,
    iterations: int,
    marginals: bool = True,
    on_iteration: Callable[[int, F32], object] | None = None,
) -> tuple[UInt8, F32 | None]:
    """The labels and, if wanted, the marginals of `dense_crf`, computed on the CPU.

    probs: probabilities, or a net's coarse scores, whose softmax at the image's size is taken. The
    caller has checked all arguments. The twin of `crf.cuda.mean_field.infer`.
    """
    size = image.shape[0], image.shape[1]
    if isinstance(probs, CoarseScores):
        check_memory(len(probs.values), size, marginals, can_spare=True)
        unary: F32 | EnlargedProbs = EnlargedProbs(probs, size)
    else:
        check_memory(len(probs), size, marginals)
        unary = probs.reshape(len(probs), -1)
    field = MeanField(unary, photo_kernels(image, params), marginals=marginals)
    observe = on_iteration and (lambda i, q: on_iteration(i, q.reshape(-1, *size)))
    labels, found = field.infer(iterations, marginals, observe)
    del field
    give_back_excess()
    return labels.reshape(size), found.reshape(-1, *size) if marginals else None


def photo_kernels(image: UInt8, params: CrfParams) -> list[Kernel]:
    """The positional and the bilateral kernel of an image, HxWx3 uint8."""
    position, bilateral = kernel_features(image, params)
    return [Kernel(position, params.w2), Kernel(bilateral, params.w1)]


class MeanField:
    """The mean field of a CRF with L labels over N pixels.

    unary: L x N float32, probabilities; with `energies` they are -log p, where +inf is p = 0.
    kernels: the pairwise terms; there may be none. Their features are not kept. Probabilities below
    1e-20 count as 0, and energies 80 above a pixel's lowest as infinite. marginals: whether there
    is to be memory for them too.

    Threads that use one at once take turns. What is interrupted (Ctrl-C) can be run again.

    Raises ResourceError for too little memory.
    """

    def __init__(
        self,
        unary: F32 | EnlargedProbs,
        kernels: Sequence[Kernel],
        *,
        energies: bool = False,
        marginals: bool = True,
    ) -> None:
        self._shape = n_labels, n = unary.shape
        vectors = -(-n_labels // LANES)
        strips = -(-vectors // MOST_VECTORS)
        self._width = (0,) * -(-vectors // strips)
        self._lanes = strips * len(self._width) * LANES
        self._lock = RLock()
        self._run = run_alone
        if not is_small(n, self._lanes):
            self._run = run_together
            _compile(len(self._width))
        self._given, self._are_energies = unary, energies
        self._is_log: bool | None = None  # the unary is not read yet
        self._no_marginals, self._no_labels = np.empty((0, n), np.float32), np.empty(0, np.uint8)
        self._result_bytes = 4 * n_labels * n if marginals else n
        self._features: list[weakref.ref[F32]] = []
        self.change_kernels(kernels)

    def change_kernels(self, kernels: Sequence[Kernel]) -> None:
        """Replace the kernels, as if made with them. The unary's array must not have changed.

        If their features are the same arrays as before, and still there, the lattice is kept.
        """
        with self._lock:
            self._change_kernels(kernels)

    def _change_kernels(self, kernels: Sequence[Kernel]) -> None:
        kernels = kernels or [Kernel(np.zeros((1, self._shape[1]), np.float32), 0.0)]
        has_lattice = len(kernels) == len(self._features) and all(
            kernel.features is known()
            for kernel, known in zip(kernels, self._features, strict=True)
        )
        if not has_lattice:
            lattice = build_lattice([kernel.features for kernel in kernels], self._lanes)
        self._read_unary(self._are_energies or _largest_message(kernels) > LARGEST_MESSAGE)
        if not has_lattice:
            # The lattice's values: one array is sliced while the other is splat.
            n_rows = int(lattice.rows[-1])
            n_bytes = 2 * 4 * self._lanes * n_rows + self._result_bytes
            # `check_memory` goes by photos; noise has many times as many vertices.
            mend = "use larger deviations, a smaller image or a machine with more memory"
            require_memory(n_bytes, f"a CRF on {n_rows:,} vertices", mend)
            self._values = [empty((n_rows, self._lanes)) for _ in range(2)]
            self._lattice = lattice
        # Weakly: they take as much memory as the lattice's weights, and nobody needs them any more.
        self._features = [weakref.ref(kernel.features) for kernel in kernels]
        compatibilities = [np.asarray(k.compatibility, np.float32) for k in kernels]
        self._matrices = [(k, c) for k, c in enumerate(compatibilities) if c.ndim]
        self._modes = np.array([NORMALIZATIONS.index(kernel.normalization) for kernel in kernels])
        scales = [
            (1 / (1 + 2.0 ** -len(kernel.features)), c if c.ndim == 0 else 1.0)
            for kernel, c in zip(kernels, compatibilities, strict=True)
        ]
        self._scales = np.array(scales, np.float32)
        self._splat_weights = self._lattice.weights
        self._factors: F32 | None = None  # not before the response to ones is known

    def _read_unary(self, is_log: bool) -> None:
        """Keep the unary as rows of probabilities, or of their logarithms."""
        if is_log == self._is_log:
            return
        rows = empty((self._shape[1], self._lanes))
        read_unary(self._given, rows, is_log, self._are_energies)
        self._unary, self._is_log = rows, is_log

    def run(self, iterations: int, on_iteration: Callable[[int, F32], object] | None = None) -> F32:
        """The marginals, L x N float32, after so many iterations from softmax(log unary).

        on_iteration is called after each with its number, from 1, and the marginals (L x N, the
        same array each time).
        """
        marginals = empty(self._shape)
        self._infer(iterations, marginals, self._no_labels, on_iteration)
        return marginals

    def infer(
        self,
        iterations: int,
        marginals: bool = True,
        on_iteration: Callable[[int, F32], object] | None = None,
    ) -> tuple[UInt8, F32]:
        """The most probable labels, N uint8, ties to the lowest, and what `run` gives.

        That is 0 x N if neither marginals are wanted nor on_iteration is given. For up to 256
        labels.
        """
        labels = np.empty(self._shape[1], np.uint8)
        found = self._no_marginals
        if marginals or on_iteration:
            found = empty(self._shape)
        self._infer(iterations, found, labels, on_iteration)
        return labels, found

    def _infer(
        self,
        iterations: int,
        marginals: F32,
        labels: UInt8,
        on_iteration: Callable[[int, F32], object] | None,
    ) -> None:
        with self._lock:
            if iterations == 0:
                self._start(self._values[0][:0], marginals, labels)
                return
            here = self._start_normalised()
            if on_iteration is None:
                self._iterate(here, iterations, marginals, labels)
                return
            for iteration in range(1, iterations + 1):
                is_end = iteration == iterations
                here = self._iterate(here, 1, marginals, labels, is_end)
                on_iteration(iteration, marginals)

    def step(self, q: F32) -> F32:
        """The marginals, L x N float32, one iteration after q (L x N float32)."""
        marginals = empty(self._shape)
        with self._lock:
            self._iterate(self._filter(q), 1, marginals, self._no_labels)
        return marginals

    def message(self, q: F32) -> F32:
        """What the kernels add to log q: L x N float32 for an L x N float32 q."""
        message = empty(self._shape)
        with self._lock:
            here = self._filter(q)
            self._run(steps.slice_, self._width, self._lattice, self._factors, here, message)
        return message

    def _start_normalised(self) -> F32:
        """The blurred splat of softmax(log unary), with the kernels' normalisation known."""
        here = self._values[0]
        nothing = self._no_marginals, self._no_labels
        self._start(here, *nothing)
        if self._factors is None:
            self._normalise(here)
            if self._splat_weights is not self._lattice.weights:
                self._start(here, *nothing)
        self._mix(here)
        return here

    def _start(self, here: F32, marginals: F32, labels: UInt8) -> None:
        """Write the blurred splat of q = softmax(log unary), unless there are no rows, and q."""
        no_factors = self._no_marginals
        self._run_steps(no_factors, here[:0], here, 1, False, marginals, labels)

    def _iterate(
        self, here: F32, iterations: int, marginals: F32, labels: UInt8, is_end: bool = True
    ) -> F32:
        """Iterate from the blurred values `here`; returns those of the last iteration's q."""
        there = self._values[0] if here is self._values[1] else self._values[1]
        at_once = 1 if self._matrices else MOST_AT_ONCE
        for done in range(0, iterations, at_once):
            count = min(at_once, iterations - done)
            is_last = done + count == iterations
            wanted = marginals if is_last else self._no_marginals
            named = labels if is_last else self._no_labels
            is_done = is_end and is_last
            self._run_steps(self._factors, here, there, count, is_done, wanted, named)
            if count % 2:
                here, there = there, here
            if not is_done:
                self._mix(here)
        return here

    def _run_steps(self, factors: F32 | None, *how: Any) -> None:
        """`steps.iterate` with what stays the same."""
        of, weights = self._lattice, (factors, self._splat_weights)
        self._run(steps.iterate, self._width, self._unary, self._is_log, of, *weights, *how)

    def _filter(self, q: F32) -> F32:
        """The blurred splat of q."""
        if self._factors is None:
            self._start_normalised()
        here = self._values[0]
        q = np.ascontiguousarray(q)
        self._run(steps.splat, self._width, self._lattice, self._splat_weights, q, here)
        self._run(steps.blur, self._width, here, self._lattice)
        self._mix(here)
        return here

    def _mix(self, values: F32) -> None:
        """Apply the compatibilities that are more than a number to blurred values.

        It comes to the same as after slicing, and there are fewer rows.
        """
        n_labels = self._shape[0]
        for k, compatibility in self._matrices:
            for rows in self._lattice.kernel_rows[:, k : k + 2]:
                labels = values[slice(*rows), :n_labels]
                labels[:] = (
                    labels @ compatibility.T if compatibility.ndim == 2 else labels * compatibility
                )

    def _normalise(self, here: F32) -> None:
        """Compute the factors and weights, given the blurred splat of some q."""
        of = self._lattice
        n, (_, n_corners) = self._shape[1], of.weights.shape
        n_factors = n_corners if n <= MOST_WITH_PRODUCTS else len(self._modes)
        factors = empty((n, n_factors))
        early = any(mode in (steps.BEFORE, steps.SYMMETRIC) for mode in self._modes.tolist())
        splat_weights = empty(of.weights.shape) if early else np.empty((0, 0), np.float32)
        self._run(
            steps.normalise,
            len(self._width),
            of,
            self._scales,
            self._modes,
            here,
            empty((here.size // LANES,)),
            factors,
            splat_weights.reshape(-1),
        )
        if splat_weights.size:
            self._splat_weights = splat_weights
        self._factors = factors  # last, in case this is interrupted


def compile_all() -> None:
    """Compile what CRFs of any number of labels run, so that it is on disk when it is needed."""
    for vectors in range(1, MOST_VECTORS + 1):
        field = _tiny(vectors)
        field.message(field.step(field.run(1)))


@functools.cache
def _compile(vectors: int) -> None:
    """Compile what large CRFs run whose rows are so many vectors wide: here, not in other threads.

    So Ctrl-C is heard meanwhile.
    """
    _tiny(vectors).run(1)


def _tiny(vectors: int) -> MeanField:
    labels = vectors * LANES
    return MeanField(np.full((labels, LANES), 1 / labels, np.float32), [])


def _largest_message(kernels: Sequence[Kernel]) -> float:
    """A bound on what is added to log q; only kernels that are normalised after have one."""
    if any(kernel.normalization != "after" for kernel in kernels):
        return math.inf
    return float(sum(np.abs(kernel.compatibility).max() for kernel in kernels))
