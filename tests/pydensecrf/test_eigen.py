import numpy as np
import pytest

from deeplab_repro.errors import ArgumentError
from deeplab_repro.pydensecrf import densecrf, eigen

MATRIX = np.arange(12, dtype=np.float32).reshape(3, 4)


def test_copies_of_arrays_in_any_order():
    for array in (MATRIX, MATRIX.T, MATRIX[:, ::2], np.broadcast_to(MATRIX[:1], (3, 4))):
        copied = eigen.matrixXf(array)
        np.testing.assert_array_equal(copied, array)
        assert isinstance(copied, eigen.MatrixXf)
        assert copied.flags.writeable
        assert not np.shares_memory(copied, array)
    np.testing.assert_array_equal(eigen.vectorXf(MATRIX[:, 1]), MATRIX[:, 1])


@pytest.mark.parametrize("make", [eigen.matrixXf, eigen.vectorXf])
@pytest.mark.parametrize("wrong", [MATRIX[None], np.float32(3), MATRIX.astype(float), [1.0]])
def test_other_arrays_are_value_errors(make, wrong):
    with pytest.raises(ArgumentError, match="arr "):
        make(wrong)
    with pytest.raises(TypeError, match="arr is a NoneType"):
        make(None)


def test_densecrf_has_it_and_takes_what_it_makes():
    crf = densecrf.DenseCRF(4, 3)
    crf.setUnaryEnergy(densecrf.eigen.matrixXf(MATRIX))
    q = crf.inference(0)
    assert isinstance(q, eigen.MatrixXf)
    assert crf.klDivergence(eigen.matrixXf(q)) == pytest.approx(crf.klDivergence(q))
