"""A drop-in for pydensecrf: replace `pydensecrf` by `deeplab_repro.pydensecrf` in a script.

`densecrf` holds the CRF, and `utils` makes unaries and features. Names, argument meanings,
defaults and shapes are pydensecrf's; mistakes that it accepts silently are ArgumentErrors here.
"""
