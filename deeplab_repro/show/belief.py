"""Maps of beliefs and scores in colours that can be told apart by everybody."""

import io

import numpy as np

from deeplab_repro.arrays import F32, UInt8
from deeplab_repro.files.pictures import own_mark

# From dark blue over grey to yellow, in steps that look even to the colour-blind too.
_COLOURS = ((0, 32, 76), (60, 77, 110), (124, 123, 120), (187, 174, 108), (255, 234, 70))
_FAST = 1  # of zlib's levels: a tenth more bytes


def coloured(values: F32, least: float, most: float) -> UInt8:
    """Colour the values from `least` to `most`, HxW float32: HxWx3 uint8 RGB."""
    span = max(most - least, np.finfo(np.float32).tiny)
    share = (np.clip(values, least, most) - least) / span
    stops = np.linspace(0, 1, len(_COLOURS))
    channels = [np.interp(share, stops, channel) for channel in zip(*_COLOURS, strict=True)]
    return np.rint(np.stack(channels, axis=2)).astype(np.uint8)


def belief_png(beliefs: F32) -> bytes:
    """Beliefs from 0 to 1, HxW float32, as an indexed PNG of 256 colours."""
    from PIL import Image

    picture = Image.fromarray(np.rint(255 * beliefs.clip(0, 1)).astype(np.uint8))
    ramp = np.linspace(0, 1, 256, dtype=np.float32)[None]
    picture.putpalette(coloured(ramp, 0, 1).tobytes())
    file = io.BytesIO()
    picture.save(file, "PNG", compress_level=_FAST, **own_mark("PNG"))
    return file.getvalue()
