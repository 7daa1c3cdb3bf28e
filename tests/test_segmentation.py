"""What a result tells of itself, shows and writes."""

import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from deeplab_repro.crf.params import CrfParams
from deeplab_repro.errors import ArgumentError, FileError
from deeplab_repro.files.images import read_image, read_labels
from deeplab_repro.files.outputs import ENDINGS
from deeplab_repro.files.pictures import overlay
from deeplab_repro.net.scores import CoarseScores
from deeplab_repro.segmentation import Segmentation
from deeplab_repro.segmenter import DeepLab
from tests.conftest import assert_one_line

CRF = CrfParams(4, 20, 5)


@pytest.fixture
def model(tiny):
    return DeepLab(tiny, "random:0", device="cpu", crf=CRF, iterations=1)


def halves(n_labels, **more):
    """A person beside more of a dog, of a net with so many labels."""
    values = np.zeros((n_labels, 4, 6), np.float32)
    values[1, :, :2], values[2, :, 2:] = 1, 1
    return Segmentation((4, 6), CoarseScores(values, 1), **more)


def test_names_and_shares(model, photo):
    result = model(photo(20, 30))
    assert result.names == ("class-0", "class-1", "class-2", "class-3")
    shares = result.shares()
    assert sum(shares.values()) == pytest.approx(1)
    assert list(shares.values()) == sorted(shares.values(), reverse=True)
    for name, share in shares.items():
        assert share == pytest.approx((result.labels == result.names.index(name)).mean())
    assert halves(21).shares() == {"bicycle": pytest.approx(2 / 3), "aeroplane": 1 / 3}
    assert halves(21).names[0] == "background"


def test_overlay(model, photo):
    image = photo(20, 30)
    result = model(image)
    np.testing.assert_array_equal(result.overlay(), overlay(image, result.labels))
    np.testing.assert_array_equal(result.overlay(Image.fromarray(image)), result.overlay())
    faint = np.abs(result.overlay(alpha=0.1).astype(int) - image).mean()
    assert faint < np.abs(result.overlay(alpha=0.9).astype(int) - image).mean()
    for alpha in (-0.1, 1.1, np.nan, "half"):
        with pytest.raises(ArgumentError, match="alpha is"):
            result.overlay(alpha=alpha)
    with pytest.raises(ArgumentError, match="expected the image's 5x6"):
        result.overlay(photo(5, 6))
    with pytest.raises(ArgumentError, match=r"not kept here: give it, overlay\(image\)"):
        model.run_net(image).overlay()


def test_save_writes_what_segment_does(model, pictures, command, tiny, tmp_path):
    """Under the same names; arrays byte by byte, and the same labels."""
    (path,) = pictures("photo.png")
    result = model(path)
    written = result.save(tmp_path / "ours" / "photo.png", *ENDINGS)
    assert len(written) == len(ENDINGS)
    net = ["--prototxt", tiny, "--weights", "random:0", "--device", "cpu"]
    crf = ["--crf", "4,20,5", "--iterations", 1]
    save = ["--save", ",".join(ENDINGS.keys() - {"labels"})]
    status, _, err = command("segment", path, *net, *crf, *save, "--out", tmp_path / "theirs")
    assert status == 0, err
    for file in written:
        theirs = tmp_path / "theirs" / file.name
        if file.suffix in (".npy", ".bin", ".mat"):
            assert file.read_bytes() == theirs.read_bytes()
        elif file.suffix == ".png":
            np.testing.assert_array_equal(read_labels(file), result.labels)
            np.testing.assert_array_equal(read_labels(file), read_labels(theirs))
    overlaid = read_image(tmp_path / "ours" / "photo.overlay.jpg").astype(int)
    assert np.abs(overlaid - result.overlay()).mean() < 10  # JPEG


@pytest.mark.parametrize("folder", ["made", "new", "new/deep", "new.d/"])
def test_save_in_a_folder_names_the_file_as_the_photo(model, pictures, tmp_path, folder):
    (tmp_path / "made").mkdir()
    (path,) = pictures("photo.jpg")
    assert model(path).save(f"{tmp_path}/{folder}") == [tmp_path / folder / "photo.png"]
    with pytest.raises(ArgumentError, match=r"the photo has no name: name the file, as .*\.png"):
        model(read_image(path)).save(f"{tmp_path}/{folder}")


def test_save_loses_nothing(model, pictures, tmp_path):
    (path,), other = pictures("photo.png"), tmp_path / "other.png"
    Image.new("RGB", (3, 3)).save(other)
    result = model(path)
    before = path.read_bytes(), other.read_bytes()
    for force in (False, True):
        with pytest.raises(FileError, match="would overwrite it"):
            result.save(path, force=force)
    with pytest.raises(FileError, match="force=True"):
        result.save(other)
    assert (path.read_bytes(), other.read_bytes()) == before
    result.save(other, force=True)
    result.save(other)  # which is its own now
    assert not list(tmp_path.glob(".deeplab-*"))


def test_save_explains(model, pictures, photo, tmp_path):
    (path,) = pictures("photo.png")
    with pytest.raises(ArgumentError, match=r"labels are written as PNG.*name it labels\.png"):
        model(path).save("labels.jpg")
    with pytest.raises(ArgumentError, match="output 'overlays' is none of labels, overlay"):
        model(path).save("labels.png", "overlays")
    with pytest.raises(ArgumentError, match="give each by itself, as save"):
        model(path).save("labels.png", ["overlay", "probs"])
    image = photo(5, 6)
    plain = model.run_net(image)
    for output in ("marginals", "overlay"):
        with pytest.raises(ArgumentError, match="asked for, but") as error:
            plain.save("labels.png", output)
        assert_one_line(error)
    assert str(error.value).endswith("save dataclasses.replace(result, image=image)")
    replace(plain, image=image).save(tmp_path / "mended.png", "overlay")
    model.refine(image, plain, marginals=True).save(tmp_path / "refined.png", "marginals")
    (tmp_path / "file").write_text("")
    for bad in ("file/labels.png", "~/labels.png", "a\0b.png", f"{300 * 'a'}.png"):
        with pytest.raises(FileError) as error:
            plain.save(bad)
        assert_one_line(error)


def test_repr_is_one_short_line(model, photo):
    image = photo(20, 30)
    result = halves(21, path="p.jpg")
    assert repr(result) == "Segmentation('p.jpg', 4x6, without CRF)"
    assert "labels" not in result.__dict__  # it computed nothing
    assert result.labels.any()
    assert repr(result) == "Segmentation('p.jpg', 4x6, bicycle 67%, aeroplane 33%, without CRF)"
    result = model(image)
    for thing in (result, result.refined, result.coarse, model, model.net, model.net.layers[0]):
        assert "\n" not in repr(thing)
        assert len(repr(thing)) < 500, repr(thing)
    assert repr(result).endswith(", with CRF)")
    assert repr(model).startswith("DeepLab('tiny', 'random:0', ")


def test_copies_and_comparisons(model, photo):
    result = model(photo(20, 30))
    for other in (copy.copy(result), copy.deepcopy(result), pickle.loads(pickle.dumps(result))):
        np.testing.assert_array_equal(other.labels, result.labels)
        np.testing.assert_array_equal(other.probs, result.probs)
        assert other.names == result.names
        assert other != result
    assert result == result
    assert len({result, result}) == 1


def test_what_was_made_of_probabilities_has_no_scores(model, photo):
    made = model.refine(photo(20, 30), model.run_net(photo(20, 30)))
    made = replace(made, coarse=None)
    assert made.labels.shape == (20, 30)
    for ask in (lambda: made.scores, lambda: model.refine(photo(20, 30), made)):
        with pytest.raises(ArgumentError, match="segment the photo with a model"):
            ask()


def test_another_images_segmentation_is_refused(model, photo):
    made = model.run_net(photo(20, 30))
    for bad in (None, made.labels):
        with pytest.raises(ArgumentError, match=r"expected what run_net\(image\) gives"):
            model.refine(photo(20, 30), bad)
    with pytest.raises(ArgumentError, match=r"image is 10x30 .* expected the 20x30 of the image"):
        model.refine(photo(10, 30), made)
