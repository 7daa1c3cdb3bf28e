"""Training as the original did: its loss, gradients, and weights after one and twelve steps."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from deeplab_repro.train.convolution import ConvolutionStep
from deeplab_repro.train.network import Network
from tests.train import golden_run

pytestmark = pytest.mark.golden

LARGEFOV, MSC = "DeepLab-LargeFOV", "DeepLab-MSc-LargeFOV"
NETS = pytest.mark.parametrize("name", [LARGEFOV, MSC])


@NETS
def test_the_first_step(golden, name):
    folder = golden / "train" / name
    network = Network(golden_run.read(folder))
    trace = json.loads((folder / "trace.json").read_text())
    with np.load(folder / "first_step.npz") as recorded:
        loss = network.forward(recorded["data"], recorded["label"])
        assert loss == pytest.approx(trace["loss_backward"], rel=1e-6)
        accuracy = network.values["accuracy"].data
        np.testing.assert_allclose(accuracy, recorded["accuracy"], rtol=1e-6)
        network.backward()
        for layer, step in zip(network.net.layers, network.steps, strict=True):
            if not isinstance(step, ConvolutionStep):
                continue
            for i, parameter in enumerate(step.parameters):
                expected = recorded[f"{layer.name}.param{i}.diff"]
                assert parameter.diff.any() == expected.any(), layer.name
                assert golden_run.distance(parameter.diff, expected) < 1e-5, layer.name


# --- whole runs, in processes with an arithmetic of their own


def runs(golden: Path, **environment: str) -> dict:
    """What `golden_run` tells of both nets."""
    folders = {name: str(golden / "train" / name) for name in (LARGEFOV, MSC)}
    done = subprocess.run(
        [sys.executable, golden_run.__file__, *folders.values()],
        # As the command line has it: the threads are those of the trainer.
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr in (
        "",
        "compiling for this computer takes some seconds, and is kept for later runs\n",
    )
    told = json.loads(done.stdout)
    return {name: told[folder] for name, folder in folders.items()}


@pytest.fixture(scope="module")
def run_here(golden) -> dict:
    """The runs in whatever arithmetic this machine has."""
    return runs(golden)


@pytest.fixture(scope="module")
def plain_run(golden) -> dict:
    """The runs with sums and an exp as the original's; skips where these cannot be had.

    OpenBLAS has kernels for CPUs of every age, whose sums differ in their last bits, and NumPy's
    exp without SIMD is the C library's, which Caffe took. With both the weights after twelve steps
    are 2.3e-7 from the recorded ones (and with PRESCOTT's kernel, the oldest, 6.8e-6).
    """
    config = np.__config__.CONFIG
    blas = config["Build Dependencies"]["blas"]
    simd = config.get("SIMD Extensions", {}).get("found", [])
    if "DYNAMIC_ARCH" not in str(blas.get("openblas configuration", "")):
        pytest.skip(f"NumPy's BLAS is {blas.get('name')}, not an OpenBLAS with a choice of kernels")
    if platform.machine() not in ("x86_64", "AMD64") or not {"X86_V3", "AVX2"} & set(simd):
        pytest.skip(f"OpenBLAS's kernel for Haswell does not run on this {platform.machine()} CPU")
    return runs(golden, OPENBLAS_CORETYPE="HASWELL", NPY_DISABLE_CPU_FEATURES=" ".join(simd))


@NETS
def test_the_weights_after_one_step(run_here, name):
    assert run_here[name]["weights"]["1"] < 1e-6


@NETS
def test_the_losses_of_six_steps(run_here, name):
    assert max(run_here[name]["losses"][:6]) < 1e-4


@NETS
def test_frozen_layers_keep_their_bits(run_here, name):
    assert len(run_here[name]["frozen"]) == {LARGEFOV: 0, MSC: 32}[name]
    assert all(run_here[name]["frozen"])


@NETS
def test_twelve_steps(run_here, name):
    """At iteration 4 of DeepLab-LargeFOV's run a value lies so near a kink that the last bits of
    the GEMM's sums and of the softmax's exp decide about its side. With many an arithmetic (float64
    too) it is the other than the recorded one; then losses differ by up to 1.4e-2, and the weights
    by 1.8e-3 in the end.
    """
    assert max(run_here[name]["losses"]) < {LARGEFOV: 2e-2, MSC: 5e-3}[name]
    assert run_here[name]["weights"]["12"] < {LARGEFOV: 3e-3, MSC: 1e-3}[name]


@NETS
def test_twelve_steps_in_the_originals_arithmetic(plain_run, name):
    assert max(plain_run[name]["losses"]) < 5e-3
    assert plain_run[name]["weights"]["12"] < 1e-3
