"""The dense CRF on the CPU, in Numba: the twin of crf/cuda."""

from deeplab_repro.machine import jit as jit  # first, as it tells what is wrong with Numba
