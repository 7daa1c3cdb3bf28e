"""What the simulator cannot see: that the kernels compile, and what the compiler makes of them.

Needs NVIDIA's compiler (libNVVM), which comes with the CUDA toolkit, but no GPU.
"""

import re
from functools import cache
from types import SimpleNamespace

import pytest
from numba import cuda, float32, int32, int64, types, uint8

from deeplab_repro.crf.cuda import field as gpu_field
from deeplab_repro.crf.cuda import lattice as gpu_lattice
from deeplab_repro.crf.cuda import lists as gpu_lists
from deeplab_repro.crf.cuda import quads as gpu_quads
from deeplab_repro.crf.cuda import scores as gpu_scores

nvvm = pytest.importorskip("numba.cuda.cudadrv.nvvm")
if not nvvm.is_available():
    pytest.skip("libNVVM is absent or replaced by the simulator", allow_module_level=True)

I1, I2, I3, L1, L2 = (int32[::1], int32[:, ::1], int32[:, :, ::1], int64[::1], int64[:, ::1])
F1, F2, F3, U1, U2 = (float32[::1], float32[:, ::1], float32[:, :, ::1], uint8[::1], uint8[:, ::1])


def embedding(d):
    f, i = types.UniTuple(float32, d), types.UniTuple(int64, d + 1)
    return gpu_lattice.embed, (U2, int64, f, f, i, int64, int64, L1, F1)


KERNELS = [
    (gpu_lattice.clear, (I1, I1)),
    embedding(2),
    embedding(5),
    (gpu_lattice.insert, (L1, I1, I1, I1, I1, I1)),
    (
        gpu_lattice.find_neighbours,
        (L1, I1, I1, I1, int64, types.UniTuple(int64, 9), types.UniTuple(int64, 2), I3, I1),
    ),
    (gpu_lists.count, (I1, I1, I1, I1)),
    (gpu_lists.allocate, (int64, I1, I2, I1, I1)),
    (gpu_lists.fill, (I1, F1, I1, I1, I1, F1)),
    (gpu_scores.enlarge, (F3, float32, int64, int64, F2)),
    (gpu_scores.find_labels, (F2, int64, U1)),
    (gpu_field.begin, (F2, F2, F2)),
    (gpu_field.zero, (L2, I2)),
    (gpu_field.splat, (I1, F1, I2, I1, I1, F2, L2, I2, F2)),
    (gpu_field.blur, (int64, I3, int64, F2, F2)),
    (gpu_field.update, (F2, I1, F1, F2, float32, float32, F2)),
    (gpu_field.finish, (F2, F2)),
    (gpu_quads.splat_quads, (I1, F1, I2, I1, I1, F1, L2, I2, F1)),
    (gpu_quads.blur_quads, (int64, I3, int64, F1, F1)),
    (gpu_quads.update_quads, (F1, I1, F1, F1, float32, float32, int64, int64, F1)),
]


@pytest.fixture(scope="module")
def ptx_of():
    gpu = SimpleNamespace(compute_capability=(9, 0))
    with pytest.MonkeyPatch.context() as patch:
        # Numba asks the GPU for its architecture even where it is told.
        patch.setattr("numba.cuda.dispatcher.get_current_device", lambda: gpu)
        yield cache(lambda kernel, types: cuda.compile_ptx(kernel.py_func, types, cc=(9, 0))[0])


def test_every_kernel_is_compiled_here():
    for module in (gpu_lattice, gpu_lists, gpu_field, gpu_quads, gpu_scores):
        kernels = {
            value.py_func.__name__
            for value in vars(module).values()
            if hasattr(value, "py_func")
            and value.py_func.__module__ == module.__name__
            and not value.targetoptions["device"]
        }
        assert kernels == {
            kernel.py_func.__name__
            for kernel, _ in KERNELS
            if kernel.py_func.__module__ == module.__name__
        }


@pytest.mark.parametrize(("kernel", "types"), KERNELS)
def test_kernels_compile_without_double_precision_or_approximate_division(kernel, types, ptx_of):
    ptx = ptx_of(kernel, types)
    assert ".entry" in ptx
    assert not re.search(r"(add|sub|mul|div|fma)[.a-z]*\.f64", ptx)
    assert not re.search(r"div\.(approx|full)|(add|sub|mul|div|fma)[.a-z]*\.ftz", ptx)


@pytest.mark.parametrize("d", [2, 5])
def test_the_embedding_is_not_contracted(d, ptx_of):
    """a * b + c in one rounding would find other simplices than the original does."""
    ptx = ptx_of(*embedding(d))
    zero, step = "0f00000000", {2: "0fC0400000", 5: "0fC0C00000"}[d]  # step: -(d + 1), exact
    contracted = re.findall(r"fma\.rn\.f32\s+[^,]+, ([^,]+), ([^,]+), ([^;]+);", ptx)
    assert contracted
    for a, b, c in contracted:
        assert c == zero or step in (a, b)


def test_the_enlarging_is_not_contracted(ptx_of):
    """Its factors are all variables; exp, which comes after, multiplies by constants."""
    ptx = ptx_of(*next(case for case in KERNELS if case[0] is gpu_scores.enlarge))
    constants = set(re.findall(r"mov\.[fb]32\s+(%\w+), 0f", ptx))
    fused = re.findall(r"fma\.rn\.f32\s+[^,]+, ([^,]+), ([^,]+), ([^;]+);", ptx)
    added = [c for a, b, c in fused if "0f" not in a + b and not constants & {a, b}]
    assert len(added) >= 8  # two positions, and three times two for a score
    assert set(added) == {"0f00000000"}


@pytest.mark.parametrize(
    ("kernel", "loads", "stores"),
    [
        # Loops are unrolled, so there may be more loads than the source has.
        (gpu_quads.splat_quads, 1, 1),
        (gpu_quads.blur_quads, 9, 1),
        (gpu_quads.update_quads, 2 * (9 + 1), 2),
    ],
)
def test_quads_are_moved_at_once_and_kept_in_registers(kernel, loads, stores, ptx_of):
    ptx = ptx_of(*next(case for case in KERNELS if case[0] is kernel))
    assert len(re.findall(r"ld\.global\.v4\.f32", ptx)) >= loads
    assert len(re.findall(r"st\.global\.v4\.f32", ptx)) == stores
    assert ".local" not in ptx
    assert "div.s64" not in ptx  # as in Numba's `range`
    has_exchanges = kernel is gpu_quads.update_quads
    assert ("shfl.sync" in ptx) == has_exchanges
    assert "bar.sync" not in ptx
