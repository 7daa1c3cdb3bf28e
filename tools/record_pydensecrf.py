"""Record pydensecrf2's answers to fixed questions, for the drop-in's tests.

    pip install pydensecrf2 && python tools/record_pydensecrf.py

Writes tests/pydensecrf/recorded.npz: the inputs, as `input/NAME`, and the answers. The tests put
the same questions, `answers`, to deeplab_repro.pydensecrf.
"""

import itertools
import sys
from decimal import Decimal
from fractions import Fraction
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

RECORDED = Path(__file__).resolve().parent.parent / "tests/pydensecrf/recorded.npz"
Arrays = dict[str, np.ndarray]

WIDTH, HEIGHT, LABELS = 5, 3, 3  # 15 pixels: no multiple of 4, which changes the lattice


def make_inputs() -> Arrays:
    """Random arguments in the shapes and types that pydensecrf asks for."""
    rng = np.random.default_rng(20150)
    points = WIDTH * HEIGHT
    symmetric = rng.normal(size=(LABELS, LABELS))
    return {
        "image": rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8),
        "labels": rng.integers(0, LABELS + 1, (HEIGHT, WIDTH)),
        "softmax": np.moveaxis(rng.dirichlet(np.full(LABELS, 0.4), (HEIGHT, WIDTH)), -1, 0),
        "energies": rng.uniform(0, 4, (LABELS, points)).astype(np.float32),
        "features": (2 * rng.normal(size=(3, points))).astype(np.float32),
        "number": np.array(2.5),
        "vector": rng.uniform(-2, 1, LABELS).astype(np.float32),
        "symmetric": (symmetric + symmetric.T).astype(np.float32),
        "asymmetric": rng.normal(size=(LABELS, LABELS)).astype(np.float32),
        "weights": rng.normal(size=(LABELS, 3)).astype(np.float32),
    }


def answers(densecrf: ModuleType, utils: ModuleType, inputs: Arrays) -> Arrays:
    """What the two modules of pydensecrf, or of a drop-in, make of the inputs."""
    return {
        **_utils_answers(utils, inputs),
        **_every_combination(densecrf, inputs),
        **_special_cases(densecrf, inputs),
        **_random_crfs(densecrf),
        **_readings_of_utils(utils, inputs),
        **_readings_of_crfs(densecrf, inputs),
    }


def _utils_answers(utils: ModuleType, inputs: Arrays) -> Arrays:
    labels, image = inputs["labels"], inputs["image"]
    softmax = inputs["softmax"].astype(np.float32)
    certain = (softmax == softmax.max(axis=0)).astype(np.float32)
    return {
        "labels, unsure": utils.unary_from_labels(labels, LABELS, 0.7),
        "labels, sure": utils.unary_from_labels(labels, LABELS + 1, 0.7, zero_unsure=False),
        "compute_unary": utils.compute_unary(labels, LABELS),
        "softmax": utils.unary_from_softmax(softmax),
        "softmax, float64": utils.unary_from_softmax(inputs["softmax"]),
        "softmax, scale": utils.unary_from_softmax(softmax, scale=0.8),
        "softmax, clip": utils.unary_from_softmax(certain, clip=0.02),
        "softmax, default clip": utils.unary_from_softmax(certain),
        "softmax, scale and clip": utils.unary_from_softmax(softmax, 0.9, 0.1),
        "softmax_to_unary": utils.softmax_to_unary(softmax),
        "softmax_to_unary, scale": utils.softmax_to_unary(softmax, GT_PROB=0.6),
        "gaussian, 1 axis": utils.create_pairwise_gaussian((3,), (5,)),
        "gaussian, 2 axes": utils.create_pairwise_gaussian(sdims=(3, 7), shape=(HEIGHT, WIDTH)),
        "gaussian, 3 axes": utils.create_pairwise_gaussian([1.5, 7, 0.3], [2, 3, 4]),
        "bilateral, channels last": utils.create_pairwise_bilateral((9, 8), (13, 5, 7), image, 2),
        "bilateral, channels first": utils.create_pairwise_bilateral(
            sdims=(9, 8), schan=(0.3, 0.1, 2), img=softmax, chdim=0
        ),
        "bilateral, one deviation": utils.create_pairwise_bilateral((9, 8), 13, image, chdim=2),
        "bilateral, no channels": utils.create_pairwise_bilateral((9, 8), (3,), image[:, :, 0]),
        "bilateral, 3 axes": utils.create_pairwise_bilateral((9, 8, 2), 0.5, softmax),
    }


def _every_combination(densecrf: ModuleType, inputs: Arrays) -> Arrays:
    """Marginals and KL divergences, step by step: normalisation x compatibility x CRF."""
    found: Arrays = {}
    compatibilities = ("number", "vector", "symmetric", "asymmetric")
    for normalization, name in itertools.product(densecrf.NormalizationType, compatibilities):
        compat = inputs[name] if inputs[name].ndim else float(inputs[name])
        crf = densecrf.DenseCRF(WIDTH * HEIGHT, LABELS)
        crf.setUnaryEnergy(inputs["energies"])
        crf.addPairwiseEnergy(inputs["features"], compat, densecrf.DIAG_KERNEL, normalization)
        key = f"{normalization.name}, {name}"
        found |= _steps(crf, key, 2)

        crf = densecrf.DenseCRF2D(WIDTH, HEIGHT, LABELS)
        crf.setUnaryEnergy(inputs["energies"])
        crf.addPairwiseGaussian((2, 3.5), compat, normalization=normalization)
        crf.addPairwiseBilateral(
            (8, 6), (60, 40, 90), inputs["image"], compat, normalization=normalization
        )
        found[f"{key}, 2-D"] = np.array(crf.inference(3))
    return found


def _steps(crf: Any, key: str, steps: int) -> Arrays:
    q, tmp1, tmp2 = crf.startInference()
    divergences = [crf.klDivergence(q)]
    for _ in range(steps):
        crf.stepInference(q, tmp1, tmp2)
        divergences.append(crf.klDivergence(q))
    return {key: np.array(q), f"{key}, KL": np.array(divergences)}


def _special_cases(densecrf: ModuleType, inputs: Arrays) -> Arrays:
    points, image = WIDTH * HEIGHT, inputs["image"]
    found = {}

    readme = densecrf.DenseCRF2D(WIDTH, HEIGHT, LABELS)
    readme.setUnaryEnergy(inputs["energies"])
    readme.addPairwiseGaussian(sxy=3, compat=3)
    readme.addPairwiseBilateral(sxy=80, srgb=13, rgbim=image, compat=10)
    for iterations in (0, 1, 5):
        found[f"defaults, {iterations} iterations"] = np.array(readme.inference(iterations))
    found |= _steps(readme, "defaults", 4)
    # The same object goes on being added to, and its unary replaced.
    readme.addPairwiseEnergy(inputs["features"], 2)
    found["one kernel more"] = np.array(readme.inference(3))
    readme.setUnaryEnergy(inputs["energies"][::-1].copy())
    found["another unary"] = np.array(readme.inference(3))

    for kernel in densecrf.KernelType:
        crf = densecrf.DenseCRF(points, LABELS)
        crf.setUnary(densecrf.ConstUnary(inputs["energies"]))
        crf.addPairwiseEnergy(inputs["features"], compat=2, kernel=kernel)
        found[kernel.name] = np.array(crf.inference(3))

    logistic = densecrf.DenseCRF(points, LABELS)
    logistic.setUnary(densecrf.LogisticUnary(inputs["weights"], inputs["features"]))
    found["logistic, no kernel"] = np.array(logistic.inference(2))

    changed = densecrf.DenseCRF(points, LABELS)
    changed.setUnaryEnergy(inputs["energies"])
    changed.addPairwiseEnergy(inputs["features"], 2)
    q, tmp1, tmp2 = changed.startInference()
    np.asarray(q)[0] = 0.1  # no longer a distribution
    changed.stepInference(q, tmp1, tmp2)
    found["changed between steps"] = np.array(q)

    for width, height, labels in ((1, 1, 3), (4, 2, 1), (3, 1, 2)):
        crf = densecrf.DenseCRF2D(width, height, labels)
        crf.setUnaryEnergy(inputs["energies"][:labels, : width * height].copy())
        crf.addPairwiseGaussian(2, 3)
        crf.addPairwiseBilateral(20, 40, image[:height, :width].copy(), 5)
        found[f"{width}x{height}, {labels} labels"] = np.array(crf.inference(3))

    for d in (1, 2, 7):
        crf = densecrf.DenseCRF(points, LABELS)
        crf.setUnaryEnergy(inputs["energies"])
        crf.addPairwiseEnergy(np.tile(inputs["features"], (3, 1))[-d:].copy(), 2)
        found[f"{d} features"] = np.array(crf.inference(3))
    return found


def _random_crfs(densecrf: ModuleType) -> Arrays:
    """One kernel or two of 1 to 8 dimensions, of any kind."""
    found = {}
    for seed in range(12):
        rng = np.random.default_rng(seed)
        labels, points = rng.integers(2, 9), rng.integers(10, 40)
        crf = densecrf.DenseCRF(int(points), int(labels))
        crf.setUnaryEnergy(rng.uniform(0, 4, (labels, points)).astype(np.float32))
        for d in (1 + seed % 8, 8 - seed % 8)[: 1 + seed % 2]:
            compatibilities = (
                rng.uniform(0.2, 3),
                rng.uniform(-3, 0, labels).astype(np.float32),
                rng.normal(size=(labels, labels)).astype(np.float32),
            )
            features = (rng.uniform(0.3, 3) * rng.normal(size=(d, points))).astype(np.float32)
            kinds = int(rng.integers(3)), int(rng.integers(4))
            crf.addPairwiseEnergy(features, compatibilities[rng.integers(3)], *kinds)
        found[f"random CRF {seed}"] = np.array(crf.inference(1 + seed % 5))
    return found


# What pydensecrf reads as true or false, as a number, and as a sequence of two or three.
TRUTHS: tuple[Any, ...] = (
    None,
    0,
    "",
    [],
    np.array(0),
    np.False_,
    2,
    "no",
    [0],
    np.array([1]),
    float("nan"),
)
NUMBERS = (3.0, np.float32(3), np.float16(3), np.int64(3), np.uint8(3), Fraction(3), Decimal(3))
ITERATIONS = (True, np.True_, False, np.array(2), Fraction(2), 2.0, np.uint8(2))
TWO = (
    [3, 2],
    np.array([3.0, 2]),
    np.array([3, 2], np.uint8),
    range(2, 4),
    {3: 0, 2: 0},
    (9, np.inf),
)
TWO_ARRAYS = (np.array(3.0), np.array([2.0]))
THREE = ([40, 30, 20], np.array([40, 30, 20]), (np.float32(40), np.array(30), np.inf))


def _readings_of_utils(utils: ModuleType, inputs: Arrays) -> Arrays:
    labels, image = inputs["labels"] % LABELS, inputs["image"]
    softmax = inputs["softmax"].astype(np.float32)
    gaussian, bilateral = utils.create_pairwise_gaussian, utils.create_pairwise_bilateral
    found = {
        f"labels, zero_unsure {i}": utils.unary_from_labels(labels, LABELS, 0.7, value)
        for i, value in enumerate(TRUTHS)
    }
    for i, value in enumerate((np.int64(LABELS), np.uint8(LABELS), np.array(LABELS))):
        found[f"labels, n_labels {i}"] = utils.unary_from_labels(labels, value, 0.7, False)
    for i, value in enumerate((np.float32(0.7), np.array(0.7), np.array([0.7]))):
        found[f"labels, gt_prob {i}"] = utils.unary_from_labels(labels, LABELS, value)
    for i, value in enumerate((True, np.float32(0.5), np.array(0.5), np.array([0.5]))):
        found[f"softmax, scale {i}"] = utils.unary_from_softmax(softmax, value)
    for i, value in enumerate((False, np.array(0.1), np.array([[[0.1]], [[0.2]], [[0.3]]]))):
        found[f"softmax, clip {i}"] = utils.unary_from_softmax(softmax, clip=value)
    for i, value in enumerate((*TWO, TWO_ARRAYS)):
        found[f"gaussian, sdims {i}"] = gaussian(value, (HEIGHT, WIDTH))
    for i, value in enumerate(
        ([HEIGHT, WIDTH], np.array([HEIGHT, WIDTH], np.uint8), (np.array(HEIGHT), WIDTH))
    ):
        found[f"gaussian, shape {i}"] = gaussian((3, 2), value)
    found["gaussian, shape by a generator"] = gaussian((3, 2), (n for n in (HEIGHT, WIDTH)))
    for i, value in enumerate((*THREE, np.float32(13), np.array([13.0]), (13, 12), ())):
        found[f"bilateral, schan {i}"] = bilateral((3, 2), value, image, 2)
    for i, value in enumerate((-2, -3, np.int64(2), True)):
        sdims = (1, 1)
        found[f"bilateral, chdim {i}"] = bilateral(sdims, 13, image, value)
    for kind in ("bool", "int8", "uint16", "int64", "float16", "float64"):
        found[f"bilateral, img of {kind}"] = bilateral((3, 2), 13, image.astype(kind), 2)
    found["bilateral, an axis of one"] = bilateral((3, 2), (13,), image[None, :, :, 0])
    return found


def _readings_of_crfs(densecrf: ModuleType, inputs: Arrays) -> Arrays:
    image, found = inputs["image"], {}

    def run(sxy: Any = 3, srgb: Any = 40, rgbim: Any = image, compat: Any = 3, **kinds: Any) -> Any:
        iterations = kinds.pop("iterations", 2)
        crf = densecrf.DenseCRF2D(kinds.pop("width", WIDTH), HEIGHT, LABELS)
        crf.setUnaryEnergy(inputs["energies"])
        crf.addPairwiseBilateral(sxy, srgb, rgbim, compat, **kinds)
        return np.array(crf.inference(iterations))

    for name, values in {
        "width": (float(WIDTH), np.array(WIDTH), Fraction(WIDTH)),
        "sxy": (*NUMBERS[:5], *TWO[:4], (9, np.inf), (np.float32(3), np.array(2))),
        "srgb": (*NUMBERS[:5], *THREE),
        "compat": (*NUMBERS, True, False, -3),
        "kernel": (1.0, True, np.int64(2), np.array(1)),
        "normalization": (1.0, True, np.uint8(2), np.array(1)),
        "iterations": ITERATIONS,
    }.items():
        for i, value in enumerate(values):
            found[f"{name} {i}"] = run(**{name: value})
    found["rgbim of bool"] = run(rgbim=image > 100)
    found["rgbim of a buffer"] = run(rgbim=image.data)

    crf = densecrf.DenseCRF(WIDTH * HEIGHT, LABELS)
    crf.setUnaryEnergy(inputs["energies"].data)
    crf.addPairwiseEnergy(inputs["features"], 2)
    q, tmp1, tmp2 = crf.startInference()
    crf.stepInference(q, tmp1, tmp2)
    q = densecrf.eigen.matrixXf(0.5 * np.array(q, order="C") + np.float32(0.25))
    crf.stepInference(q, tmp1, tmp2)
    found["one's own Q"] = np.array(q)
    found["a vector"] = np.array(densecrf.eigen.vectorXf(inputs["vector"]))
    return found


def main() -> None:
    """Put the questions to pydensecrf2, and write its answers."""
    try:
        densecrf, utils = (import_module(f"pydensecrf.{name}") for name in ("densecrf", "utils"))
    except ImportError:
        sys.exit("error: pydensecrf2 is not installed: pip install pydensecrf2")
    inputs = make_inputs()
    found = answers(densecrf, utils, inputs)
    named = {f"input/{name}": array for name, array in inputs.items()}
    np.savez_compressed(RECORDED, **named, **found)  # type: ignore[arg-type]
    print(f"{RECORDED}: {len(found)} answers, {RECORDED.stat().st_size} bytes")


if __name__ == "__main__":
    main()
