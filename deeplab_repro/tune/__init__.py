"""A page on this machine to see what the CRF's parameters do to a photo, and to choose them."""
