"""The dense CRF on the CPU, in Numba: the twin of crf/cuda."""
