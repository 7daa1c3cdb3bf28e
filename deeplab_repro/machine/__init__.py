"""What this computer has: devices, memory, OpenCV, Numba."""
