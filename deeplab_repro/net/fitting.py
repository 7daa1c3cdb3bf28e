"""Which sizes of image a net takes, so that its scores have the image's size."""

from collections.abc import Callable

from deeplab_repro.arrays import Shape
from deeplab_repro.errors import ArgumentError, NetError

# How many sizes are tried, and the step between those above the net's own; all strides divide both.
_SIZES_TRIED = 64
_SIZE_STEP = 64


def next_fit(
    name: str, input_shape: Shape, output_shape: Callable[[Shape], Shape], axis: int, size: int
) -> int:
    """The first size from `size` on, at least the net's own, at which input and scores have it.

    axis: 2 for the height, 3 for the width; the other is the net's own. output_shape: gives the
    shape of the scores, and raises NetError where there are none. name: of the net, for the
    message. Raises ArgumentError where there is no such size.
    """
    shape = [1, *input_shape[1:]]
    least = shape[axis]
    first = least + _SIZE_STEP * max(0, -(-(size - least) // _SIZE_STEP))
    made: dict[int, int] = {}  # of each size tried, the size of the scores
    for tried in range(first, first + _SIZES_TRIED):
        shape[axis] = tried
        try:
            made[tried] = output_shape(tuple(shape))[axis]
        except NetError:  # branches of several scales meet at some sizes only
            continue
        if made[tried] == tried:
            return tried
    what = {2: "rows", 3: "columns"}[axis]
    raise ArgumentError(
        f"net '{name}' has no size from {max(size, least)} to {first + _SIZES_TRIED - 1} {what} at "
        f"which its scores cover the image: {_why(made, what)}"
    )


def _why(made: dict[int, int], what: str) -> str:
    """What is so at the sizes that were tried, and what to do."""
    tests = "give the net's test prototxt"
    if not made:
        return f"it takes none of them: {tests}, or smaller images"
    (tried, scores), *_ = made.items()
    if len(made) > 1 and len(set(made.values())) == 1:
        return f"it makes {scores} of all of them: give smaller images"
    if scores > tried:
        return f"of {tried} {what} it makes {scores}: {tests}"
    return (
        f"of {tried} {what} it makes {scores}, as it takes away a margin of about "
        f"{(tried - scores + 1) // 2} on each side: {tests}; or, where that is so by design (such "
        "nets want a mirrored border around the photo, which is not added here), convert it to "
        "ONNX and run that as docs/convert.md shows"
    )
