"""Sizes at which scores cover the image, and what is told where there are none."""

import pytest

from deeplab_repro.errors import ArgumentError, NetError
from deeplab_repro.net.fitting import next_fit


def fit(scores, size=1, least=20, axis=2):
    def output_shape(shape):
        made = scores(shape[axis])
        if made is None:
            raise NetError("branches do not meet")
        return (1, 5, *(made if at == axis else 9 for at in (2, 3)))

    return next_fit("n", (1, 3, 20 if axis == 3 else least, least), output_shape, axis, size)


def test_sizes_that_fit():
    assert fit(lambda n: n) == 20
    assert fit(lambda n: n, 21) == 84
    assert fit(lambda n: n if n % 8 == 1 else None) == 25
    assert fit(lambda n: n if n % 8 == 1 else n + 1, 22, axis=3) == 89


@pytest.mark.parametrize(
    ("scores", "told"),
    [
        (
            lambda n: n - 13,
            "from 20 to 83 rows at which its scores cover the image: of 20 rows it makes 7, as it "
            "takes away a margin of about 7 on each side: give the net's test prototxt; or",
        ),
        (lambda n: 2 * n, "of 20 rows it makes 40: give the net's test prototxt"),
        (lambda _: 9, "it makes 9 of all of them: give smaller images"),
        (lambda _: None, "it takes none of them: give the net's test prototxt, or smaller images"),
    ],
)
def test_none_fits(scores, told):
    with pytest.raises(ArgumentError) as error:
        fit(scores)
    assert told in str(error.value)
