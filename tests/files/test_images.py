"""Reading pictures of every kind, and what cannot be read."""

import concurrent.futures
import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from deeplab_repro.errors import DeepLabError, FileError, ImageError, ResourceError
from deeplab_repro.files.images import read_image
from tests.conftest import CORNERS, assert_one_line
from tests.conftest import smooth_photo as photo


def png(width: int, height: int, bit_depth: int, colour: int, data: bytes) -> bytes:
    """A PNG from its parts: for what Pillow does not write."""

    def chunk(name: bytes, body: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + body))
        return struct.pack(">I", len(body)) + name + body + check

    header = struct.pack(">IIBBBBB", width, height, bit_depth, colour, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(data)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*parts) for parts in chunks)


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


def test_a_picture_that_memory_does_not_suffice_for_is_not_called_broken(tmp_path, monkeypatch):
    def convert(*_):
        raise MemoryError

    path = tmp_path / "a.png"
    Image.fromarray(photo(8, 8)).save(path)
    monkeypatch.setattr(Image.Image, "convert", convert)
    with pytest.raises(ResourceError) as error:
        read_image(path)
    assert_one_line(error, f"{path}: it ran out of memory: use a smaller image")


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
    assert_one_line(error, f"{path}: image size ({60000 * 60000} pixels)", ": use a smaller image")
    assert "attack" not in str(error.value)
    assert limit == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("pillow_limit", [None, 89478485])
def test_size_is_checked_against_the_memory_before_decoding(tmp_path, monkeypatch, pillow_limit):
    path = tmp_path / "large.png"
    path.write_bytes(png(10000, 12000, 8, 2, b"\0"))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pillow_limit)
    monkeypatch.setattr("deeplab_repro.machine.memory.available_memory", lambda: 10**9)
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
    max_examples=60,
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
