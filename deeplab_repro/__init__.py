"""The released DeepLab models without Caffe: nets, dense CRF, and their numbers.

>>> from deeplab_repro import MODELS, DeepLab
>>> [name for name, model in MODELS.items() if model.shipped_weights]  # these bring their weights
['ToyVOC-LargeFOV', 'ToyVOC-MSc-LargeFOV']
>>> model = DeepLab("ToyVOC-LargeFOV")
>>> model("photo.jpg").labels.shape  # a label of each pixel
(60, 80)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from deeplab_repro.version import __version__

if TYPE_CHECKING:
    from deeplab_repro.crf.dense_crf import dense_crf
    from deeplab_repro.crf.params import CrfParams
    from deeplab_repro.errors import DeepLabError
    from deeplab_repro.files.images import read_image
    from deeplab_repro.machine.heap import keep_freed_memory
    from deeplab_repro.machine.work_space import free_memory
    from deeplab_repro.models.registry import MODELS
    from deeplab_repro.segmentation import Segmentation
    from deeplab_repro.segmenter import DeepLab, Recipe

# Loaded when first asked for: the command line must not wait for OpenCV and Numba to print help.
_HOMES = {
    "CrfParams": "deeplab_repro.crf.params",
    "DeepLab": "deeplab_repro.segmenter",
    "DeepLabError": "deeplab_repro.errors",
    "MODELS": "deeplab_repro.models.registry",
    "Recipe": "deeplab_repro.segmenter",
    "Segmentation": "deeplab_repro.segmentation",
    "dense_crf": "deeplab_repro.crf.dense_crf",
    "free_memory": "deeplab_repro.machine.work_space",
    "keep_freed_memory": "deeplab_repro.machine.heap",
    "read_image": "deeplab_repro.files.images",
}

__all__ = [
    "MODELS",
    "CrfParams",
    "DeepLab",
    "DeepLabError",
    "Recipe",
    "Segmentation",
    "__version__",
    "dense_crf",
    "free_memory",
    "keep_freed_memory",
    "read_image",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'deeplab_repro' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
