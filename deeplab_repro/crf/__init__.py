"""The fully connected CRF of Kraehenbuehl and Koltun (NIPS 2011), which refines DeepLab's scores.

Only the parameters are exported here, so that they can be had without loading Numba; the CRF
itself is `deeplab_repro.crf.dense_crf.dense_crf`.
"""

from deeplab_repro.crf.params import CrfParams

__all__ = ["CrfParams"]
