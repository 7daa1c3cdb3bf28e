"""The CRF beside pydensecrf's on real photos, with the scores of a real net."""

from pathlib import Path

import numpy as np
import pytest

from deeplab_repro.crf.dense_crf import dense_crf
from deeplab_repro.crf.params import CrfParams
from deeplab_repro.files.images import read_image
from deeplab_repro.files.probs import read_probs

DATA = Path(__file__).resolve().parents[3] / "shared/data/voc12-val"
LARGEFOV = CrfParams(4, 121, 5)


@pytest.mark.parametrize("name", ["2007_000033", "2007_000129", "2007_001733"])
def test_labels_and_marginals_are_pydensecrfs(name):
    densecrf = pytest.importorskip("pydensecrf.densecrf")
    photo = DATA / f"JPEGImages/{name}.jpg"
    if not photo.is_file():
        pytest.skip(f"the photos are not at {DATA}")
    image = read_image(photo)
    probs = read_probs(DATA / f"scores-deeplabv3/{name}.npz", image.shape[:2])
    # The middle, with borders of objects: pydensecrf takes two seconds for a whole photo.
    image = np.ascontiguousarray(image[80:280, 120:360])
    probs = np.ascontiguousarray(probs[:, 80:280, 120:360])
    crf = densecrf.DenseCRF2D(image.shape[1], image.shape[0], len(probs))
    crf.setUnaryEnergy(-np.log(np.maximum(probs, 1e-20)).reshape(len(probs), -1))
    authors = {"kernel": densecrf.DIAG_KERNEL, "normalization": densecrf.NORMALIZE_AFTER}
    crf.addPairwiseGaussian(sxy=LARGEFOV.sigma_gamma, compat=LARGEFOV.w2, **authors)
    crf.addPairwiseBilateral(
        sxy=LARGEFOV.sigma_alpha, srgb=LARGEFOV.sigma_beta, rgbim=image, compat=LARGEFOV.w1,
        **authors,
    )  # fmt: skip
    theirs = np.array(crf.inference(10)).reshape(probs.shape)
    ours = dense_crf(image, probs, LARGEFOV)
    assert len(np.unique(ours.labels)) > 1
    np.testing.assert_array_equal(ours.labels, theirs.argmax(axis=0))
    # Sums in another order round in another way: 2e-6 at most was seen on twenty photos.
    assert (np.abs(ours.marginals - theirs) <= 1e-5).mean() > 0.999
