"""Scripts as people write them for pydensecrf, run with nothing changed but the package's name."""

import numpy as np
import pytest

from deeplab_repro.errors import ArgumentError

HEIGHT, WIDTH = 24, 31


@pytest.fixture
def scene():
    """An image of three flat areas, their labels, and a noisy softmax over 3 labels, 3xHxW."""
    rng = np.random.default_rng(0)
    y, x = np.indices((HEIGHT, WIDTH))
    labels = np.where(x < 12, 0, np.where(y < 10, 1, 2))
    colours = np.array([[200, 30, 40], [20, 180, 60], [30, 60, 220]])
    image = (colours[labels] + rng.integers(-9, 10, (HEIGHT, WIDTH, 3))).astype(np.uint8)
    scores = 2 * np.moveaxis(np.eye(3)[labels], -1, 0) + 1.2 * rng.normal(size=(3, HEIGHT, WIDTH))
    softmax = np.exp(scores) / np.exp(scores).sum(axis=0)
    return image, labels, softmax.astype(np.float32)


def run(script, **names):
    """The names that the script leaves behind."""
    assert "pydensecrf" in script
    exec(script.replace("pydensecrf", "deeplab_repro.pydensecrf"), names)
    return names


def wrong(found, labels):
    return (found != labels).mean()


IMAGE = """
import numpy as np
import pydensecrf.densecrf as dcrf
from pydensecrf.utils import unary_from_softmax

def dense_crf(img, output_probs):
    c, h, w = output_probs.shape
    U = unary_from_softmax(output_probs)
    U = np.ascontiguousarray(U)
    img = np.ascontiguousarray(img)

    d = dcrf.DenseCRF2D(w, h, c)
    d.setUnaryEnergy(U)
    d.addPairwiseGaussian(sxy=3, compat=3)
    d.addPairwiseBilateral(sxy=49, srgb=5, rgbim=img, compat=4)

    Q = d.inference(10)
    Q = np.array(Q).reshape((c, h, w))
    return Q

Q = dense_crf(image, probs)
MAP = np.argmax(Q, axis=0)
"""


def test_softmax_of_a_net(scene):
    image, labels, probs = scene
    found = run(IMAGE, image=image, probs=probs)
    assert found["Q"].shape == (3, HEIGHT, WIDTH)
    assert found["Q"].dtype == np.float32
    assert wrong(probs.argmax(axis=0), labels) > 0.1
    assert wrong(found["MAP"], labels) < 0.01


ANNOTATION = """
import numpy as np
import pydensecrf.densecrf as dcrf
from pydensecrf.utils import compute_unary, create_pairwise_bilateral, \\
    create_pairwise_gaussian, unary_from_labels

colors, labels = np.unique(anno, return_inverse=True)
HAS_UNK = 0 in colors
if HAS_UNK:
    colors = colors[1:]
n_labels = len(set(labels.flat)) - int(HAS_UNK)

if use_2d:
    d = dcrf.DenseCRF2D(img.shape[1], img.shape[0], n_labels)
    U = unary_from_labels(labels, n_labels, gt_prob=0.7, zero_unsure=HAS_UNK)
    d.setUnaryEnergy(U)
    d.addPairwiseGaussian(sxy=(3, 3), compat=3, kernel=dcrf.DIAG_KERNEL,
                          normalization=dcrf.NORMALIZE_SYMMETRIC)
    d.addPairwiseBilateral(sxy=(80, 80), srgb=(13, 13, 13), rgbim=img,
                           compat=10,
                           kernel=dcrf.DIAG_KERNEL,
                           normalization=dcrf.NORMALIZE_SYMMETRIC)
else:
    d = dcrf.DenseCRF(img.shape[1] * img.shape[0], n_labels)
    U = unary_from_labels(labels, n_labels, gt_prob=0.7, zero_unsure=HAS_UNK)
    d.setUnaryEnergy(U)
    feats = create_pairwise_gaussian(sdims=(3, 3), shape=img.shape[:2])
    d.addPairwiseEnergy(feats, compat=3,
                        kernel=dcrf.DIAG_KERNEL,
                        normalization=dcrf.NORMALIZE_SYMMETRIC)
    feats = create_pairwise_bilateral(sdims=(80, 80), schan=(13, 13, 13),
                                      img=img, chdim=2)
    d.addPairwiseEnergy(feats, compat=10,
                        kernel=dcrf.DIAG_KERNEL,
                        normalization=dcrf.NORMALIZE_SYMMETRIC)

Q, tmp1, tmp2 = d.startInference()
divergences = []
for i in range(5):
    divergences.append(d.klDivergence(Q))
    d.stepInference(Q, tmp1, tmp2)
MAP = colors[np.argmax(Q, axis=0)].reshape(img.shape[:2])
"""


@pytest.mark.parametrize("use_2d", [True, False])
def test_annotation_by_hand(scene, use_2d):
    image, labels, _ = scene
    rng = np.random.default_rng(1)
    anno = np.array([50, 100, 150])[labels]
    anno[rng.random(anno.shape) < 0.5] = 0  # not looked at
    mistaken = rng.random(anno.shape) < 0.1
    anno[mistaken] = rng.choice([50, 100, 150], mistaken.sum())
    found = run(ANNOTATION, img=image, anno=anno, use_2d=use_2d)
    assert wrong(found["MAP"], np.array([50, 100, 150])[labels]) < 0.01
    assert np.diff(found["divergences"]).max() < 1e-3  # it rests at -8740


VOLUME = """
import numpy as np
from pydensecrf import densecrf as dcrf, utils

n_labels = probs.shape[0]
d = dcrf.DenseCRF(np.prod(volume.shape), n_labels)
d.setUnaryEnergy(utils.unary_from_softmax(probs))
d.addPairwiseEnergy(utils.create_pairwise_gaussian((1, 1, 1), volume.shape), compat=2)
feats = utils.create_pairwise_bilateral(sdims=(5, 5, 5), schan=(0.1,), img=volume)
d.addPairwiseEnergy(feats, compat=4, normalization=dcrf.NORMALIZE_AFTER)
Q = d.inference(5)
MAP = np.argmax(Q, axis=0).reshape(volume.shape)
confidence = np.max(Q, axis=0)
"""


def test_volume_of_one_channel():
    rng = np.random.default_rng(0)
    z, y, x = np.indices((6, 9, 10))
    labels = ((z - 3) ** 2 + (y - 4) ** 2 + (x - 5) ** 2 < 12).astype(int)
    volume = labels + 0.03 * rng.normal(size=labels.shape)
    p = np.clip(0.2 + 0.6 * labels + 0.25 * rng.normal(size=labels.shape), 0.01, 0.99)
    found = run(VOLUME, volume=volume, probs=np.stack([1 - p, p]))
    assert wrong(p > 0.5, labels) > 0.05
    assert wrong(found["MAP"], labels) < 0.01
    assert found["confidence"].min() >= 0.5


IN_PLACE = """
import numpy as np
import pydensecrf.densecrf as dcrf

d = dcrf.DenseCRF2D(w, h, 3)
d.setUnary(dcrf.ConstUnary(-np.log(probs.reshape(3, -1))))
d.addPairwiseGaussian(3, 0.3, dcrf.FULL_KERNEL, dcrf.NO_NORMALIZATION)
Q, tmp1, tmp2 = d.startInference()
for i in range(3):
    d.stepInference(Q, tmp1, tmp2)
    np.asarray(Q)[:, known] = 0
    np.asarray(Q)[2, known] = 1
proba = np.array(Q)
entropy = -np.sum(proba * np.log(proba + 1e-8), axis=0)
"""


def test_marginals_held_by_hand_between_steps(scene):
    _, _, probs = scene
    known = np.arange(WIDTH * HEIGHT) % 5 == 0
    sizes = {"w": WIDTH, "h": HEIGHT}
    held = run(IN_PLACE, probs=probs, known=known, **sizes)
    free = run(IN_PLACE, probs=probs, known=np.zeros_like(known), **sizes)
    assert (held["entropy"][known] < 1e-6).all()
    # The points that were held draw others to their label.
    assert held["proba"][2, ~known].mean() > free["proba"][2, ~known].mean() + 0.01


COMPATIBILITY = """
import numpy as np
import pydensecrf.densecrf as dcrf

class Refine(object):
    def __init__(self, img, compat):
        self.img = img
        self.compat = compat.astype(np.float32)

    def __call__(self, probs, iterations):
        h, w = self.img.shape[:2]
        d = dcrf.DenseCRF2D(w, h, len(probs))
        d.setUnaryEnergy(-np.log(probs).reshape(len(probs), -1))
        d.addPairwiseBilateral((20, 20), (9, 9, 9), self.img, self.compat,
                               normalization=dcrf.NORMALIZE_BEFORE)
        return np.argmax(d.inference(iterations), axis=0).reshape((h, w))

MAP = Refine(img, 4 * (1 - np.eye(3)))(probs, 5)
"""


def test_compatibility_matrix(scene):
    image, labels, probs = scene
    found = run(COMPATIBILITY, img=image, probs=probs)
    assert wrong(found["MAP"], labels) < wrong(probs.argmax(axis=0), labels) / 5


@pytest.mark.parametrize(
    ("right", "mistake", "told"),
    [
        ("DenseCRF2D(w, h, c)", "DenseCRF2D(h, w, c)", "swapped"),
        ("U = unary_from_softmax(output_probs)", "U = output_probs.reshape(c, -1)", "-np.log"),
        ("U = unary_from_softmax(output_probs)", "U = -output_probs", "reshape"),
        (
            "U = unary_from_softmax(output_probs)",
            "U = -np.log(output_probs.transpose(1, 2, 0)).reshape(c, -1)",
            "moveaxis",
        ),
        ("rgbim=img", "rgbim=img / np.float32(255)", "astype"),
    ],
)
def test_a_mistake_in_a_script_is_explained(scene, right, mistake, told):
    image, _, probs = scene
    assert right in IMAGE
    with pytest.raises(ArgumentError, match=told):
        run(IMAGE.replace(right, mistake), image=image, probs=probs)
