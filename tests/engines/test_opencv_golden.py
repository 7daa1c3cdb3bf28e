"""OpenCV runs our nets as Caffe did: against the original's own outputs."""

import pytest

from deeplab_repro.engines.opencv import BY_CAFFE, OpenCVEngine
from tests.engines.golden_nets import NETS, check_every_blob, check_layers


@pytest.mark.golden
@pytest.mark.parametrize("name", NETS)
def test_every_blob_is_the_originals(golden, name):
    check_every_blob(OpenCVEngine, golden / "nets" / name)


@pytest.mark.golden
def test_the_authors_layers_alone(golden):
    # OpenCV 5 keeps a zoom's positions as multiples of a rounded 1 / factor.
    check_layers(OpenCVEngine, golden, atol=1e-6 if BY_CAFFE else 1e-5)
