"""The dense CRF on CUDA, in Numba: the twin of crf/cpu."""
