"""A drop-in for pydensecrf: replace `pydensecrf` by `deeplab_repro.pydensecrf` in a script.

`densecrf` holds the CRF, `utils` makes unaries and features, and `eigen` arrays. Names, argument
meanings, defaults and shapes are pydensecrf's, and where it reads a thing as true, as a number or
as a sequence, so is it read here. Mistakes that it accepts silently are ArgumentErrors, or logged
as a warning, once, where they may be meant. Other libraries' tensors on the CPU are arrays too.
"""
