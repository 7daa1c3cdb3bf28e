import numba
import numpy as np

from deeplab_repro.crf.cpu.vectors import (
    LANES,
    exp,
    item,
    largest,
    load,
    multiply_add,
    prefetch,
    rint,
    store,
    total,
    transpose,
    where_less,
    zeros,
)

WIDTH = (0,) * 3


@numba.njit
def apply_all(a, b, out, width):
    """Every operation once, on the rows of a and b."""
    for i in range(a.shape[0]):
        x = load(a, i * a.shape[1], width)
        y = load(b, i * b.shape[1], width)
        prefetch(a, i * a.shape[1], x)
        store(out, (i * 9 + 0) * a.shape[1], x + y)
        store(out, (i * 9 + 1) * a.shape[1], x - y)
        store(out, (i * 9 + 2) * a.shape[1], x * y)
        store(out, (i * 9 + 3) * a.shape[1], x * np.float32(1.1))
        store(out, (i * 9 + 4) * a.shape[1], rint(x))
        store(out, (i * 9 + 5) * a.shape[1], where_less(x, y, x, np.float32(7)))
        store(out, (i * 9 + 6) * a.shape[1], exp(x))
        store(out, (i * 9 + 7) * a.shape[1], zeros(width) + item(b, i))
        store(out, (i * 9 + 8) * a.shape[1], multiply_add(x, y, np.float32(2)) / y)


@numba.njit
def fold_all(a, width):
    x = load(a, 0, width)
    return total(x), largest(x)


def test_every_operation_is_numpys():
    rng = np.random.default_rng(0)
    a = rng.normal(0, 20, (40, len(WIDTH) * LANES)).astype(np.float32)
    a[0] = np.arange(a.shape[1]) + 0.5  # halves go to even
    b = rng.normal(0, 20, a.shape).astype(np.float32)
    out = np.empty((40, 9, a.shape[1]), np.float32)
    apply_all(a, b, out, WIDTH)
    assert (out[:, 0] == a + b).all()
    assert (out[:, 1] == a - b).all()
    assert (out[:, 2] == a * b).all()
    assert (out[:, 3] == a * np.float32(1.1)).all()
    assert (out[:, 4] == np.rint(a)).all()
    assert (out[:, 5] == np.where(a < b, a, 7)).all()
    # The polynomial leaves 8e-8, the rounding of its steps as much again, twice.
    np.testing.assert_allclose(out[:, 6], np.exp(a.astype(np.float64)), rtol=2.5e-7)
    assert (out[:, 7] == b.ravel()[:40, None]).all()
    # One rounding or two, as the machine has it.
    np.testing.assert_allclose(out[:, 8], (a * b + 2) / b, rtol=1e-5, atol=1e-5)


def test_folding():
    a = np.random.default_rng(0).normal(0, 1, len(WIDTH) * LANES).astype(np.float32)
    assert fold_all(a, WIDTH)[1] == a.max()
    # Float32 sums of 24 numbers, added in another order.
    np.testing.assert_allclose(fold_all(a, WIDTH)[0], a.sum(dtype=float), atol=1e-5)


def test_exp_over_its_whole_range():
    a = np.linspace(-87, 87, 24_001, dtype=np.float32)[:24_000].reshape(-1, 24)
    out = np.empty((len(a), 9, 24), np.float32)
    with np.errstate(all="ignore"):
        apply_all(a, np.ones(a.shape, np.float32), out, WIDTH)
    np.testing.assert_allclose(out[:, 6], np.exp(a.astype(np.float64)), rtol=2.5e-7)
    apply_all(np.zeros((1, 24), np.float32), np.ones((1, 24), np.float32), out, WIDTH)
    assert (out[0, 6] == 1).all()


@numba.njit
def transpose_8(source, target):
    transpose(source, 3, source.shape[1], target, 2 * target.shape[1] + 1, target.shape[1])


def test_transposing():
    source = np.random.default_rng(0).random((8, 13)).astype(np.float32)
    target = np.zeros((11, 10), np.float32)
    transpose_8(source, target)
    expected = np.zeros((11, 10), np.float32)
    expected[2:10, 1:9] = source[:, 3:11].T
    assert (target == expected).all()
