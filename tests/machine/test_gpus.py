"""What the CUDA driver tells of the machine, by a driver's library made for the test."""

import shutil
import subprocess
import sys

import pytest

from deeplab_repro.machine import gpus

FAKE_DRIVER = """
#include <stdlib.h>
#include <string.h>
static int number(const char *name) { const char *s = getenv(name); return s ? atoi(s) : 0; }
int cuInit(unsigned flags) { return number("FAKE_CODE"); }
int cuDriverGetVersion(int *version) { *version = number("FAKE_VERSION"); return 0; }
int cuDeviceGetCount(int *count) { *count = number("FAKE_COUNT"); return 0; }
int cuDeviceGet(int *device, int index) { *device = 7 + index; return 0; }
int cuDeviceGetName(char *name, int size, int device) { strncpy(name, "Fake RTX", size); return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    *value = attribute == 75 ? 8 : attribute == 76 ? 6 : -1;
    return device < 7;
}
static int retained, pushed;
int cuDevicePrimaryCtxRetain(void **context, int device) {
    if (device != 7) return 101;
    *context = &retained; retained++; return number("FAKE_CONTEXT_CODE");
}
int cuDevicePrimaryCtxRelease(int device) { retained--; return device != 7; }
int cuCtxPushCurrent_v2(void *context) { pushed++; return context != &retained; }
int cuCtxPopCurrent_v2(void **context) { pushed--; *context = &retained; return 0; }
int cuMemGetInfo_v2(size_t *free, size_t *total) {
    if (pushed != 1 || retained != 1) return 201;
    *free = (size_t)5 << 30; *total = (size_t)12 << 30; return number("FAKE_MEMORY_CODE");
}
int cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = (size_t)12 << 30; return 0; }
"""


@pytest.fixture(scope="module")
def driver_folder(tmp_path_factory):
    """A folder with a driver's library that does as the environment says."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("there is no C compiler to make a driver's library with, or no Linux")
    folder = tmp_path_factory.mktemp("driver")
    (folder / "driver.c").write_text(FAKE_DRIVER)
    command = [compiler, "-shared", "-fPIC", "-o", folder / "libcuda.so.1", folder / "driver.c"]
    subprocess.run(command, check=True)
    return folder


@pytest.fixture
def driver(driver_folder, monkeypatch):
    """Take that library for the driver, in an environment."""
    monkeypatch.setattr(gpus, "_NAME", str(driver_folder / "libcuda.so.1"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def take(**environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)

    return take


def test_two_gpus(driver):
    driver(FAKE_VERSION="12040", FAKE_COUNT="2")
    assert (gpus.driver_problem(), gpus.cuda_version()) == (None, (12, 4))
    assert gpus.find_gpus() == [gpus.Gpu("Fake RTX", (8, 6), 12 << 30)] * 2


def test_free_memory_of_the_gpu_that_is_used(driver):
    driver(FAKE_VERSION="12040", FAKE_COUNT="2")
    assert gpus.free_memory() == gpus.free_memory() == 5 << 30
    driver(FAKE_MEMORY_CODE="999")
    assert gpus.free_memory() is None


def test_free_memory_where_there_is_none(driver):
    driver(FAKE_COUNT="1", FAKE_CONTEXT_CODE="2")
    assert gpus.free_memory() is None
    driver(FAKE_COUNT="0")
    assert gpus.free_memory() is None


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"FAKE_CODE": "100"}, "finds no GPU: see nvidia-smi"),
        ({"FAKE_COUNT": "0"}, "finds no GPU: see nvidia-smi"),
        (
            {"FAKE_CODE": "100", "CUDA_VISIBLE_DEVICES": ""},
            "CUDA_VISIBLE_DEVICES='' leaves no GPU to be seen: unset it",
        ),
        ({"FAKE_CODE": "803"}, "error 803: its library and its kernel module are of different"),
        ({"FAKE_CODE": "804"}, "error 804: the CUDA compatibility package"),
        ({"FAKE_CODE": "999"}, "error 999: restart the machine"),
        ({"FAKE_CODE": "3"}, "error 3: see nvidia-smi"),
    ],
)
def test_what_keeps_the_driver_from_a_gpu(driver, environment, expected):
    driver(FAKE_VERSION="13000", **environment)
    problem = gpus.driver_problem()
    assert expected in problem
    assert problem.endswith(", or use --device cpu")
    assert (gpus.cuda_version(), gpus.find_gpus()) == ((13, 0), [])


def test_no_driver(monkeypatch):
    monkeypatch.setattr(gpus, "_NAME", "libcuda.so.no-such-version")
    problem = gpus.driver_problem()
    assert problem.startswith("this machine has no NVIDIA driver (libcuda.so.no-such-version")
    assert problem.endswith(": install it, or use --device cpu")
    assert "\n" not in problem
    assert (gpus.cuda_version(), gpus.find_gpus()) == ((0, 0), [])


def test_a_library_that_is_no_driver(monkeypatch):
    monkeypatch.setattr(gpus, "_NAME", None)  # what Python itself is linked with
    assert "no NVIDIA driver" in gpus.driver_problem()
    assert (gpus.cuda_version(), gpus.find_gpus()) == ((0, 0), [])
