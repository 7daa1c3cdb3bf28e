"""Reading pictures of every kind, the net's input, the palette, and what is written."""

import concurrent.futures
import io
import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from deeplab_repro.errors import (
    ArgumentError,
    DeepLabError,
    FileError,
    ImageError,
    ResourceError,
)
from deeplab_repro.image import (
    MEAN_BGR,
    overlay,
    palette,
    preprocess,
    read_image,
    read_labels,
    write_image,
    write_labels,
)

GOLDEN = Path(__file__).resolve().parents[2] / "shared/golden/nets"
GOLDEN_NETS = ("DeepLab", "DeepLab-LargeFOV", "DeepLab-MSc", "DeepLab-MSc-LargeFOV")

# Three of four pixels tell every orientation apart; red, green / blue, white.
CORNERS = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]], np.uint8)


def photo(height: int = 24, width: int = 32) -> np.ndarray:
    """A smooth picture: survives JPEG."""
    y, x = np.mgrid[:height, :width]
    channels = (255 * x / width, 255 * y / height, 128 + 60 * np.sin(x / 5 + y / 7))
    return np.stack(channels, axis=2).astype(np.uint8)


def png(width: int, height: int, bit_depth: int, colour: int, data: bytes) -> bytes:
    """A PNG from its parts: for what Pillow does not write."""

    def chunk(name: bytes, body: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + body))
        return struct.pack(">I", len(body)) + name + body + check

    header = struct.pack(">IIBBBBB", width, height, bit_depth, colour, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(data)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*parts) for parts in chunks)


def assert_one_line(error: pytest.ExceptionInfo, *parts: object) -> None:
    message = str(error.value)
    assert "\n" not in message
    assert message.isprintable()
    for part in parts:
        assert str(part) in message


# --- reading


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.ppm", "a.PNG"])
def test_lossless_colour_comes_back_as_it_was(tmp_path, name):
    path = tmp_path / name
    Image.fromarray(photo()).save(path)
    image = read_image(path)
    np.testing.assert_array_equal(image, photo())
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    assert image.flags.writeable
    np.testing.assert_array_equal(read_image(str(path)), image)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.jpg", {"quality": 95}),
        ("progressive.jpg", {"quality": 95, "progressive": True}),
        ("a.webp", {"quality": 95}),
        ("a.jp2", {}),
    ],
)
def test_lossy_colour_comes_back_about_as_it_was(tmp_path, name, options):
    path = tmp_path / name
    Image.fromarray(photo()).save(path, **options)
    assert np.abs(read_image(path).astype(int) - photo()).mean() < 5


def test_the_content_decides_not_the_extension(tmp_path):
    path = tmp_path / "really_a_png.jpg"
    Image.fromarray(photo()).save(path, "PNG")
    np.testing.assert_array_equal(read_image(path), photo())


def test_jpeg_is_decoded_as_opencv_decodes_it(tmp_path):
    cv2 = pytest.importorskip("cv2")
    path = tmp_path / "a.jpg"
    Image.fromarray(photo(100, 150)).save(path, quality=85)
    difference = read_image(path).astype(int) - cv2.imread(str(path))[..., ::-1]
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize("extension", ["png", "jpg", "tif"])
def test_grey(tmp_path, extension):
    path = tmp_path / f"a.{extension}"
    grey = np.repeat(np.arange(0, 256, 8, np.uint8)[None], 24, axis=0)
    Image.fromarray(grey).save(path)
    image = read_image(path)
    assert image.shape == (24, 32, 3)
    assert np.abs(image.astype(int) - grey[..., None]).max() <= (2 if extension == "jpg" else 0)


def test_one_bit(tmp_path):
    path = tmp_path / "a.png"
    bits = np.indices((5, 9)).sum(axis=0) % 2 == 0
    Image.fromarray(bits).save(path)
    np.testing.assert_array_equal(read_image(path), np.where(bits, 255, 0)[..., None].repeat(3, 2))


def test_palette_colours_not_indices(tmp_path):
    path = tmp_path / "a.png"
    picture = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8))
    picture.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    picture.save(path)
    expected = np.array([[[10, 20, 30], [40, 50, 60]], [[70, 80, 90], [40, 50, 60]]])
    np.testing.assert_array_equal(read_image(path), expected)


@pytest.mark.parametrize("transparency", [1, bytes([255, 0, 128])])
def test_transparent_palette_is_laid_over_white(tmp_path, transparency):
    path = tmp_path / "a.png"
    picture = Image.fromarray(np.array([[0, 1, 2]], np.uint8))
    picture.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    picture.save(path, transparency=transparency)
    last = [70, 80, 90] if transparency == 1 else [162, 167, 172]
    expected = np.array([[[10, 20, 30], [255, 255, 255], last]])
    np.testing.assert_allclose(read_image(path), expected, atol=1)


@pytest.mark.parametrize("extension", ["png", "tif", "webp"])
def test_alpha_is_laid_over_white(tmp_path, extension):
    path = tmp_path / f"a.{extension}"
    rgba = np.dstack([photo(), np.full((24, 32), 255, np.uint8)])
    rgba[:8, :, 3], rgba[8:16, :, 3] = 0, 128
    options = {"lossless": True} if extension == "webp" else {}
    Image.fromarray(rgba).save(path, **options)
    image = read_image(path)
    assert (image[:8] == 255).all()
    np.testing.assert_allclose(image[8:16], (photo()[8:16] * 128.0 + 255 * 127) / 255, atol=1)
    np.testing.assert_array_equal(image[16:], photo()[16:])


def test_grey_with_alpha(tmp_path):
    path = tmp_path / "a.png"
    Image.frombytes("LA", (2, 1), bytes([50, 255, 50, 0])).save(path)
    np.testing.assert_array_equal(read_image(path)[0, :, 0], [50, 255])


def test_transparent_colour(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(CORNERS).save(path, transparency=(255, 0, 0))
    expected = CORNERS.copy()
    expected[0, 0] = 255
    np.testing.assert_array_equal(read_image(path), expected)


@pytest.mark.parametrize("extension", ["png", "tif"])
def test_16_bit_grey_is_scaled_not_clipped(tmp_path, extension):
    path = tmp_path / f"a.{extension}"
    values = np.array([[0, 128, 129, 257, 32768, 65535]], np.uint16)
    Image.fromarray(values).save(path)
    np.testing.assert_array_equal(read_image(path)[0, :, 0], [0, 0, 1, 1, 128, 255])


def test_16_bit_big_endian_tiff(tmp_path):
    path = tmp_path / "a.tif"
    Image.frombytes("I;16B", (2, 1), struct.pack(">HH", 257, 65535)).save(path)
    np.testing.assert_array_equal(read_image(path)[0, :, 0], [1, 255])


def test_16_bit_pgm(tmp_path):
    path = tmp_path / "a.pgm"
    path.write_bytes(b"P5 3 1 65535\n" + struct.pack(">HHH", 0, 32768, 65535))
    np.testing.assert_array_equal(read_image(path)[0, :, 0], [0, 128, 255])


def test_16_bit_colour(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(png(2, 1, 16, 2, b"\0" + struct.pack(">6H", 0, 257, 514, 51400, 65278, 65535)))
    np.testing.assert_array_equal(read_image(path), [[[0, 1, 2], [200, 254, 255]]])


def test_cmyk_jpeg_is_not_a_negative(tmp_path):
    path = tmp_path / "a.jpg"
    Image.fromarray(photo()).convert("CMYK").save(path, quality=95)
    assert b"Adobe" in path.read_bytes()[:200]
    assert np.abs(read_image(path).astype(int) - photo()).mean() < 6


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_samples_without_a_white_are_refused(tmp_path, dtype):
    path = tmp_path / "a.tif"
    Image.fromarray(np.ones((4, 4), dtype)).save(path)
    with pytest.raises(ImageError) as error:
        read_image(path)
    assert_one_line(error, path, "8-bit")


@pytest.mark.parametrize("extension", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(tmp_path, extension, orientation):
    # From the picture as it should be seen to the picture as the camera stored it.
    stored = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a.transpose(1, 0, 2)[::-1, ::-1],
        8: lambda a: np.rot90(a, -1),
    }[orientation]
    seen = CORNERS.repeat(16, axis=0).repeat(24, axis=1)
    path = tmp_path / f"a.{extension}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = Image.fromarray(np.ascontiguousarray(stored(seen)))
    picture.save(path, exif=exif)
    image = read_image(path)
    assert image.shape == (32, 48, 3)
    assert np.abs(image[8::16, 12::24].astype(int) - CORNERS).max() < 40


def test_broken_exif_does_not_spoil_the_picture(tmp_path):
    path = tmp_path / "a.jpg"
    Image.fromarray(photo()).save(path, exif=b"Exif\0\0MM\0*\xff\xff\xff\xffnonsense")
    assert read_image(path).shape == (24, 32, 3)


def test_first_frame_of_an_animation(tmp_path):
    path = tmp_path / "a.gif"
    frames = [Image.new("RGB", (8, 6), colour) for colour in ("red", "blue")]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(read_image(path), np.full((6, 8, 3), (255, 0, 0)))


def test_threads_read_the_same(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(photo()).save(path)
    before = list(warnings.filters)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        images = list(pool.map(read_image, [path] * 64))
    assert all((image == photo()).all() for image in images)
    assert warnings.filters == before


# --- what cannot be read


def test_missing_empty_and_folder(tmp_path):
    for name in ("missing.png", "empty.png", "folder"):
        path = tmp_path / name
        if name == "empty.png":
            path.touch()
        if name == "folder":
            path.mkdir()
        with pytest.raises(FileError) as error:
            read_image(path)
        assert_one_line(error, path)


def test_not_an_image(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_text("<html>404 Not found</html>")
    with pytest.raises(ImageError) as error:
        read_image(path)
    assert_one_line(error, path, "JPEG")


@pytest.mark.parametrize(
    "content", [b"P6 0 0 255\n", b"GIF89a" + bytes(7) + b";", png(0, 0, 8, 2, b"")]
)
def test_no_pixels(tmp_path, content):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(ImageError) as error:
        read_image(path)
    assert_one_line(error, path)


def test_no_other_program_is_started_for_postscript(tmp_path):
    path = tmp_path / "a.eps"
    Image.fromarray(photo()).save(path)
    with pytest.raises(ImageError, match="not an image"):
        read_image(path)


@pytest.mark.parametrize("extension", ["png", "jpg", "gif", "bmp", "tif", "webp", "ppm", "jp2"])
def test_truncated(tmp_path, extension):
    path = tmp_path / f"a.{extension}"
    Image.fromarray(photo(200, 200)).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ImageError) as error:
        read_image(path)
    assert_one_line(error, path)


def test_line_break_in_the_name(tmp_path):
    path = tmp_path / "a\nb.png"
    path.write_bytes(b"nonsense")
    with pytest.raises(ImageError) as error:
        read_image(path)
    assert_one_line(error, r"a\nb.png")


def test_decompression_bomb(tmp_path):
    path = tmp_path / "bomb.png"
    path.write_bytes(png(60000, 60000, 8, 2, b"\0"))
    limit = Image.MAX_IMAGE_PIXELS
    with pytest.raises(ResourceError) as error:
        read_image(path)
    assert_one_line(error, path, 60000 * 60000)
    assert limit == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("pillow_limit", [None, 89478485])
def test_size_is_checked_against_the_memory_before_decoding(tmp_path, monkeypatch, pillow_limit):
    path = tmp_path / "large.png"
    path.write_bytes(png(10000, 12000, 8, 2, b"\0"))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pillow_limit)
    monkeypatch.setattr("deeplab_repro.files.available_memory", lambda: 10**9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ResourceError) as error:
            read_image(path)
    assert_one_line(error, path, "12000x10000", "2.9 GB", "1.0 GB")


def encoded(file_format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    picture = Image.fromarray(photo(12, 16))
    exif = Image.Exif()
    exif[0x0112] = 6
    if file_format == "GIF":
        picture = picture.convert("P")
    else:
        options["exif"] = exif
    picture.save(stream, file_format, **options)
    return stream.getvalue()


WHOLE = [
    encoded("PNG"),
    encoded("JPEG"),
    encoded("GIF"),
    encoded("TIFF"),
    encoded("TIFF", compression="tiff_lzw"),
    encoded("BMP"),
    encoded("WEBP"),
    encoded("JPEG2000"),
    b"P5 4 2 65535\n" + bytes(range(16)),
]


@settings(
    max_examples=250,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_broken_files_give_our_errors_only(tmp_path, data):
    content = bytearray(data.draw(st.sampled_from(WHOLE)))
    positions = st.integers(0, len(content) - 1) | st.integers(0, min(60, len(content) - 1))
    edits = st.lists(st.tuples(positions, st.integers(0, 255)), max_size=8)
    for position, value in data.draw(edits):
        content[position] = value
    if data.draw(st.booleans()):
        del content[data.draw(positions) :]
    path = tmp_path / "fuzz"
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            image = read_image(path)
        except DeepLabError as error:
            message = str(error)
        else:
            message = ""
            assert image.dtype == np.uint8
            assert image.ndim == 3
    assert "\n" not in message


# --- the net's input


@pytest.mark.golden
@pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"the original's outputs are not at {GOLDEN}")
@pytest.mark.parametrize("net", GOLDEN_NETS)
def test_input_has_the_bits_of_the_original(net):
    with np.load(GOLDEN / net / "expected.npz") as expected:
        image, original = expected["image"], expected["input"]
    ours = preprocess(image, original.shape[2:])
    assert ours.shape == original.shape
    assert ours.dtype == original.dtype
    assert ours.tobytes() == original.tobytes()


def test_input_is_bgr_minus_mean_top_left():
    x = preprocess(CORNERS, (3, 4))
    mean = np.float32(MEAN_BGR)
    assert x.shape == (1, 3, 3, 4)
    assert x.dtype == np.float32
    np.testing.assert_array_equal(x[0, :, 0, 0], np.float32([0, 0, 255]) - mean)  # red
    np.testing.assert_array_equal(x[0, :, 1, 0], np.float32([255, 0, 0]) - mean)  # blue
    assert (x[0, :, 2:] == 0).all()
    assert (x[0, :, :, 2:] == 0).all()


def test_every_grey_value_is_rounded_as_from_float64():
    values = np.arange(256, dtype=np.uint8)[None, :, None].repeat(3, 2)
    exact = np.arange(256, dtype=np.float64) - np.float32(MEAN_BGR).astype(np.float64)[:, None]
    x = preprocess(values, (1, 256))
    np.testing.assert_array_equal(x[0, :, 0], exact.astype(np.float32))


def test_input_takes_any_layout_of_the_array():
    image = photo()
    flipped = preprocess(image[::-1, ::-1], (30, 40))
    np.testing.assert_array_equal(flipped, preprocess(image[::-1, ::-1].copy(), (30, 40)))


@pytest.mark.parametrize(
    ("image", "size"),
    [
        (photo(5, 4), (4, 4)),
        (photo(4, 5), (4, 4)),
        (photo().astype(np.float32), (99, 99)),
        (photo()[..., 0], (99, 99)),
        (photo()[..., :2], (99, 99)),
        (photo()[:0], (99, 99)),
    ],
)
def test_input_refuses(image, size):
    with pytest.raises(ArgumentError) as error:
        preprocess(image, size)
    assert_one_line(error, "image", "x".join(map(str, image.shape[:2])))


def test_input_refuses_a_mean_of_another_length():
    with pytest.raises(ArgumentError, match="mean"):
        preprocess(photo(), (99, 99), (1.0, 2.0))


# --- labels and pictures written


def test_palette_is_vocs():
    # From the VOC devkit's colour map: aeroplane, bicycle, ..., tv/monitor, void.
    colours = palette()
    assert colours.shape == (256, 3)
    assert colours.dtype == np.uint8
    known = {
        0: (0, 0, 0),
        1: (128, 0, 0),
        2: (0, 128, 0),
        7: (128, 128, 128),
        8: (64, 0, 0),
        15: (192, 128, 128),
        20: (0, 64, 128),
        64: (32, 0, 0),
        255: (224, 224, 192),
    }
    for label, colour in known.items():
        assert tuple(colours[label]) == colour
    assert len(np.unique(colours, axis=0)) == 256


def test_labels_come_back(tmp_path):
    path = tmp_path / "a.png"
    labels = np.arange(256, dtype=np.uint8).reshape(8, 32)
    write_labels(path, labels)
    np.testing.assert_array_equal(read_labels(path), labels)
    np.testing.assert_array_equal(read_image(path), palette()[labels])
    with Image.open(path) as picture:
        assert picture.mode == "P"


def test_raw_labels_are_read_too(tmp_path):
    path = tmp_path / "a.png"
    labels = np.array([[0, 20, 255]], np.uint8)
    Image.fromarray(labels).save(path)
    np.testing.assert_array_equal(read_labels(path), labels)


def test_labels_in_colour_or_jpeg_are_refused(tmp_path):
    for name in ("a.png", "a.jpg"):
        Image.fromarray(photo()).save(tmp_path / name)
        with pytest.raises(ImageError) as error:
            read_labels(tmp_path / name)
        assert_one_line(error, tmp_path / name, "PNG")


@pytest.mark.parametrize("labels", [np.zeros((4, 4), np.int64), np.zeros((1, 4, 4), np.uint8)])
def test_labels_of_another_kind_are_not_written(tmp_path, labels):
    with pytest.raises(ArgumentError, match="labels"):
        write_labels(tmp_path / "a.png", labels)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.JPEG"])
def test_images_come_back(tmp_path, name):
    write_image(tmp_path / name, photo())
    difference = np.abs(read_image(tmp_path / name).astype(int) - photo())
    assert difference.mean() <= (0 if name == "a.png" else 5)


def test_image_of_unknown_extension_is_not_written(tmp_path):
    with pytest.raises(ArgumentError, match=r"\.png"):
        write_image(tmp_path / "a.xyz", photo())


def test_jpeg_too_long_for_the_format(tmp_path):
    with pytest.raises(ArgumentError) as error:
        write_image(tmp_path / "a.jpg", np.zeros((1, 70000, 3), np.uint8))
    assert_one_line(error, "JPEG", "70000")
    assert not list(tmp_path.iterdir())


def test_overlay():
    image = np.full((9, 12, 3), 100, np.uint8)
    labels = np.zeros((9, 12), np.uint8)
    labels[:, 4:] = 15
    labels[:, 8:] = 255
    out = overlay(image, labels)
    assert out.shape == image.shape
    assert out.dtype == np.uint8
    np.testing.assert_array_equal(out[:, 0], image[:, 0])  # background: the photo itself
    assert out[4, 5, 0] > out[4, 5, 1]  # person: pinkish
    assert out[4, 10].min() > 150  # void: whitish
    assert (out[:, 3] == 255).all()  # the boundary
    assert (image == 100).all()
    with pytest.raises(ArgumentError, match="labels"):
        overlay(image, labels[:-1])


def test_boundaries_are_as_visible_in_a_large_image():
    labels = np.zeros((3, 2000), np.uint8)
    labels[:, 1000:] = 1
    out = overlay(np.zeros((3, 2000, 3), np.uint8), labels)
    assert (out == 255).all(axis=2).sum(axis=1).tolist() == [4, 4, 4]


def test_no_file_is_left_when_writing_fails(tmp_path):
    with pytest.raises(FileError) as error:
        write_labels(tmp_path / "nowhere" / "a.png", np.zeros((2, 2), np.uint8))
    assert_one_line(error, "nowhere", "create")
    assert os.listdir(tmp_path) == []
