"""A photo in any form that people have it in; and mends that give what was meant."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from deeplab_repro import CrfParams, DeepLab, dense_crf
from deeplab_repro.errors import ArgumentError, ImageError, ResourceError
from deeplab_repro.files.given_photo import check_photos, given_photo, path_of
from deeplab_repro.files.images import read_image
from deeplab_repro.files.pictures import write_image
from deeplab_repro.net.given import check_image
from tests.conftest import CORNERS, assert_one_line, smooth_photo
from tests.crf.test_given import Tensor

PHOTO = smooth_photo(5, 7)
GREY = PHOTO[..., 0]
OPAQUE = np.dstack([PHOTO, GREY])
ORIENTATION = 0x0112


class Offers:
    """Something that NumPy makes an array of."""

    def __array__(self, *_, **__):
        return PHOTO


class Broken:
    """Something whose own code fails."""

    def __array__(self, *_, **__):
        raise KeyError("no pixels")


def turned(tmp_path, orientation):
    """A picture of four colours that its EXIF data says to turn, as a file."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = tmp_path / f"{orientation}.png"
    Image.fromarray(CORNERS).save(path, exif=exif)
    return path


@pytest.fixture
def png(tmp_path):
    write_image(tmp_path / "photo.png", PHOTO)
    return tmp_path / "photo.png"


@pytest.mark.parametrize("how", [lambda path: path, str, Image.open])
def test_files(png, how):
    np.testing.assert_array_equal(given_photo(how(png)), PHOTO)
    assert path_of(how(png)) == png


@pytest.mark.parametrize(
    "array",
    [
        PHOTO,
        Offers(),
        memoryview(PHOTO),
        Image.fromarray(PHOTO),
        np.ma.masked_array(PHOTO),
        np.repeat(np.repeat(PHOTO, 2, 0), 2, 1)[::2, ::2],
        PHOTO[::-1, ::-1].copy()[::-1, ::-1],
        np.asfortranarray(PHOTO),
    ],
)
def test_arrays(array):
    given = given_photo(array)
    np.testing.assert_array_equal(given, PHOTO)
    assert type(given) is np.ndarray
    assert given.flags.c_contiguous
    assert given.flags.writeable
    assert path_of(array) is None


def test_files_in_memory(tmp_path):
    np.save(tmp_path / "photo.npy", PHOTO)
    mapped = np.load(tmp_path / "photo.npy", mmap_mode="r")
    np.testing.assert_array_equal(given_photo(mapped), PHOTO)
    np.testing.assert_array_equal(check_image(mapped), PHOTO)


def test_an_image_that_takes_more_memory_than_there_is():
    """As one that NumPy spreads out of a single pixel."""
    with pytest.raises(ResourceError) as error:
        given_photo(np.broadcast_to(np.uint8(0), (10**7, 10**7, 3)))
    assert_one_line(error, "an image of 10000000x10000000x3: needs", "make it smaller")


def test_what_the_caller_does_later_changes_nothing():
    buffer = PHOTO.copy()
    given = given_photo(buffer)
    buffer[:] = 0
    np.testing.assert_array_equal(given, PHOTO)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "LA", "YCbCr"])
def test_pictures_of_every_mode(mode):
    """As Pillow shows them in RGB; transparent ones over white."""
    picture = Image.fromarray(PHOTO).convert(mode)
    np.testing.assert_array_equal(given_photo(picture), np.asarray(picture.convert("RGB")))
    assert picture.mode == mode


def test_pictures_of_16_bits():
    deep = Image.fromarray(GREY.astype(np.uint16) * 257)
    np.testing.assert_array_equal(given_photo(deep), np.dstack([GREY] * 3))


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pictures_without_a_white(mode):
    with pytest.raises(ImageError, match="whose white is not defined") as error:
        given_photo(Image.fromarray(GREY).convert(mode))
    assert_one_line(error)


def test_broken_and_closed_pictures(tmp_path):
    write_image(tmp_path / "cut.jpg", smooth_photo(90, 90))
    content = (tmp_path / "cut.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(content[: len(content) // 2])
    with pytest.raises(ImageError, match=r"cut\.jpg: cannot be made RGB") as error:
        given_photo(Image.open(tmp_path / "cut.jpg"))
    assert_one_line(error)
    closed = Image.open(tmp_path / "cut.jpg")
    closed.close()
    with pytest.raises(ImageError, match="cannot be made RGB"):
        given_photo(closed)


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_pictures_are_upright(tmp_path, orientation):
    path = turned(tmp_path, orientation)
    np.testing.assert_array_equal(given_photo(Image.open(path)), read_image(path))


def test_the_crf_does_not_guess_how_probabilities_lie(tmp_path):
    """Of a photo upside down the shape does not tell whether they are upright."""
    probs = np.random.default_rng(0).dirichlet([1] * 4, (2, 2)).transpose(2, 0, 1)
    probs = probs.astype(np.float32)
    image = Image.open(turned(tmp_path, 3))
    with pytest.raises(ArgumentError, match="says to turn") as error:
        dense_crf(image, probs, CrfParams(3, 5, 5))
    upright, as_it_lies = (
        eval(mend, {"ImageOps": ImageOps, "np": np, "image": image})
        for mend in ("ImageOps.exif_transpose(image)", 'np.array(image.convert("RGB"))')
    )
    assert "use ImageOps.exif_transpose(image) if" in str(error.value)
    assert str(error.value).endswith('else np.array(image.convert("RGB"))')
    for given in (upright, as_it_lies, Image.fromarray(CORNERS).convert("P")):
        dense_crf(given, probs, CrfParams(3, 5, 5), 1)
    np.testing.assert_array_equal(np.asarray(upright), CORNERS[::-1, ::-1])


def mended(error, image):
    mend = str(error.value).rsplit("use ", 1)[-1]
    names = {"np": np, "PIL": Image, "io": io, "ImageOps": ImageOps, "read_image": read_image}
    return eval(mend.replace("PIL.Image", "PIL"), {**names, "image": image})


@pytest.mark.parametrize(
    ("image", "wanted"),
    [
        (PHOTO / 255, PHOTO),
        ((PHOTO / 255).astype(np.float32), PHOTO),
        (PHOTO.astype(np.float32), PHOTO),
        (PHOTO.astype(np.int64), PHOTO),
        (PHOTO > 100, np.where(PHOTO > 100, 255, 0)),
        (OPAQUE, PHOTO),
        (PHOTO.transpose(2, 0, 1), PHOTO),
        (OPAQUE.transpose(2, 0, 1), PHOTO),
        (PHOTO[None], PHOTO),
        (GREY, np.dstack([GREY] * 3)),
        (GREY.view(np.matrix), np.dstack([GREY] * 3)),
        (GREY[..., None], np.dstack([GREY] * 3)),
        (GREY[None], np.dstack([GREY] * 3)),
        (OPAQUE[..., [0, 3]], np.dstack([GREY] * 3)),
        (np.ma.masked_equal(PHOTO, PHOTO[0, 0, 0]), np.where(PHOTO[0, 0, 0] == PHOTO, 0, PHOTO)),
    ],
)
@pytest.mark.parametrize("door", [given_photo, check_image])
def test_mends_of_arrays(door, image, wanted):
    with pytest.raises(ArgumentError) as error:
        door(image)
    assert_one_line(error, "image ", "expected ")
    np.testing.assert_array_equal(door(mended(error, image)), wanted)


@pytest.mark.parametrize("kind", ["bfloat16", "float8_e4m3fn"])
def test_mends_of_types_that_numpy_lacks(kind):
    half = (PHOTO / 255).astype(pytest.importorskip("ml_dtypes").__dict__[kind])
    with pytest.raises(ArgumentError) as error:
        given_photo(half)
    assert_one_line(error, f"image is {kind}; expected ")
    wanted = np.rint(255 * half.astype(np.float32)).astype(np.uint8)
    np.testing.assert_array_equal(given_photo(mended(error, half)), wanted)


def test_tensors_on_a_gpu_are_told_how_to_leave_it():
    with pytest.raises(ArgumentError) as error:
        given_photo(tensor := Tensor(PHOTO, place=Tensor.GPU, dtype="uint8"))
    assert_one_line(error, "image is a Tensor", "use image.cpu()")
    np.testing.assert_array_equal(given_photo(mended(error, tensor)), PHOTO)


def test_mends_of_other_things(png):
    for image in (png.read_bytes(), io.BytesIO(png.read_bytes()), PHOTO.tolist()):
        with pytest.raises(ArgumentError) as error:
            given_photo(image)
        assert_one_line(error, f"image is a {type(image).__name__}; expected a path, a picture of")
        np.testing.assert_array_equal(given_photo(mended(error, image)), PHOTO)
    for image in (png, str(png), Image.open(png)):
        with pytest.raises(ArgumentError) as error:
            check_image(image)
        np.testing.assert_array_equal(check_image(mended(error, image)), PHOTO)


@pytest.mark.parametrize(
    ("image", "told"),
    [
        (None, "image is None; expected a path"),
        (None, "imread gives None for a file that it cannot read, give the file's path"),
        ([PHOTO], "of several photos, use model.stream(image)"),
        (("a.jpg", "b.jpg"), "of several photos, use model.stream(image)"),
        (iter([PHOTO]), "of several photos, use model.stream(image)"),
        (io.StringIO(), "give the file's path, or open it in binary"),
        (3, "image is a int; expected a path"),
        (np.stack([PHOTO, PHOTO]), "give one image at a time"),
        (PHOTO[:0], "image has shape 0x7x3; expected HxWx3 (RGB, channels last, not empty)"),
        (Image.new("RGB", (0, 3)), "image has shape 3x0x3"),
        (np.array(None), "image is object; expected a HxWx3 uint8 array"),
        (np.zeros(PHOTO.shape, complex), "image is complex128"),
        (Broken(), "NumPy cannot read it: 'no pixels'"),
    ],
)
def test_what_is_no_photo(image, told):
    with pytest.raises(ArgumentError) as error:
        given_photo(image)
    assert_one_line(error, told)


@pytest.mark.parametrize(
    "single", ["photo.png", PHOTO, GREY, Image.fromarray(PHOTO), np.array("a")]
)
def test_one_photo_is_not_several(single):
    with pytest.raises(ArgumentError) as error:
        check_photos(single)
    assert_one_line(error, "expected several photos: call the model itself", "or give [photo]")
    check_photos([single])


@pytest.mark.parametrize("other", [None, 3, b"photo.png", io.BytesIO()])
def test_what_is_not_several_photos(other):
    with pytest.raises(ArgumentError) as error:
        check_photos(other)
    assert_one_line(error, "expected several photos: give a list of paths")


def test_a_folder_is_not_its_photos(tmp_path):
    with pytest.raises(ArgumentError, match=r"sorted\(Path\(photos\)\.glob"):
        check_photos(tmp_path)


def test_the_model_takes_all_forms(tiny, png):
    model = DeepLab(tiny, "random:0", crf=None)
    expected = model(PHOTO)
    for photo in (png, str(png), Image.open(png), Offers(), PHOTO[::-1].copy()[::-1]):
        result = model(photo)
        np.testing.assert_array_equal(result.scores, expected.scores)
        np.testing.assert_array_equal(result.image, PHOTO)
    np.testing.assert_array_equal(model.run_net(np.ma.masked_array(PHOTO)).scores, expected.scores)
    with pytest.raises(ArgumentError, match=r"use read_image\(image\)"):
        model.run_net(png)
