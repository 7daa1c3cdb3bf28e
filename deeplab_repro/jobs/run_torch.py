"""Runs a model.py that convert wrote, in a process of its own with PyTorch, an optional package."""

import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from deeplab_repro.errors import NetError, one_line

_CODE = """
import runpy, sys
import numpy, torch
weights, code, data, out = sys.argv[1:]
net = runpy.run_path(code)["from_pretrained"](weights)
with torch.inference_mode():
    made = net(torch.from_numpy(numpy.load(data)))
numpy.savez(out, *(each.numpy() for each in (made if isinstance(made, tuple) else (made,))))
print(torch.__version__)
"""


def has_torch() -> bool:
    """Whether what a model.py imports is installed."""
    return all(find_spec(name) for name in ("torch", "safetensors"))


def run_torch(weights: Path, code: Path, data: np.ndarray) -> tuple[str, list[np.ndarray]]:
    """Run the net on NxCxHxW float32. Returns what ran it, and its outputs.

    Raises NetError where PyTorch cannot run it.
    """
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder, "data.npy"), Path(folder, "made.npz")
        np.save(given, data)
        done = subprocess.run(
            [sys.executable, "-c", _CODE, weights.absolute(), code.absolute(), given, made],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1]
            raise NetError(
                f"PyTorch cannot run the converted net: {one_line(last)}; where others can, "
                "convert it without verifying"
            )
        with np.load(made) as arrays:
            return f"PyTorch {done.stdout.split()[-1]}", list(arrays.values())
