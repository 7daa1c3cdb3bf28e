"""Nets that convert wrote for PyTorch, as others run them."""

import runpy
from pathlib import Path

import numpy as np
import pytest

from deeplab_repro.convert.torch import write_torch
from deeplab_repro.net.net import Net

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
safetensors = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")


class TorchNet:
    """A net written to a folder, and what its model.py gives."""

    def __init__(self, net: Net, folder: Path):
        weights, code = folder / "model.safetensors", folder / "model.py"
        write_torch(net, weights, code)
        self.outputs = net.outputs
        self.stored = safetensors.load_file(weights)
        self.names = runpy.run_path(str(code))
        self.net = self.names["from_pretrained"](weights)

    def __call__(self, data: np.ndarray) -> dict[str, np.ndarray]:
        """The outputs by name."""
        with torch.inference_mode():
            made = self.net(torch.from_numpy(data))
        several = made if isinstance(made, tuple) else (made,)
        return dict(zip(self.outputs, (each.numpy() for each in several), strict=True))
