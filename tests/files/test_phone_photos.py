"""Photos as phones write them, HEIC and AVIF: read where a reader is installed, else explained."""

import struct

import numpy as np
import pytest
from PIL import Image

from deeplab_repro.errors import ImageError
from deeplab_repro.files import images
from deeplab_repro.files.images import missing_reader, picture_endings, read_image
from tests.conftest import CORNERS, assert_one_line


@pytest.fixture(params=["HEIC", "AVIF"])
def phone(tmp_path, request):
    """A photo of a phone's that lies on its side, and how it looks upright."""
    if request.param == "HEIC":
        pytest.importorskip("pillow_heif").register_heif_opener()
    elif not images._reads("AVIF"):
        pytest.skip("this Pillow reads no AVIF")
    upright = CORNERS.repeat(32, axis=0).repeat(32, axis=1)
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / f"a.{request.param.lower()}"
    Image.fromarray(np.rot90(upright)).save(path, exif=exif.tobytes(), quality=95)
    return path, upright


def test_photos_of_phones(phone):
    """Upright, and up to what compression changes."""
    path, upright = phone
    assert path.suffix in picture_endings()
    assert missing_reader(path) is None
    assert np.abs(read_image(path).astype(int) - upright).mean() < 5
    for name, content in (("renamed.jpg", path.read_bytes()), ("half", path.read_bytes()[:300])):
        path.with_name(name).write_bytes(content)
    assert read_image(path.with_name("renamed.jpg")).shape == upright.shape
    with pytest.raises(ImageError) as error:
        read_image(path.with_name("half"))
    assert_one_line(error, "half: ")


@pytest.mark.parametrize(
    ("brands", "mend"),
    [
        (b"heic\0\0\0\0mif1heic", "HEIC, which is not read here: pip install pillow-heif"),
        (b"mif1\0\0\0\0mif1heix", "HEIC, which is not read here: pip install pillow-heif"),
        (b"mif1\0\0\0\0mif1avif", 'AVIF, which is not read here: pip install "pillow>=11.3"'),
        (b"isom\0\0\0\0isomavc1", "is not an image"),  # a film
    ],
)
def test_photos_of_phones_where_nothing_reads_them(tmp_path, monkeypatch, brands, mend):
    monkeypatch.setattr(images, "_reads", lambda _: False)
    path = tmp_path / "a.jpg"  # as some programs call them
    path.write_bytes(struct.pack(">I4s", 8 + len(brands), b"ftyp") + brands + bytes(99))
    with pytest.raises(ImageError) as error:
        read_image(path)
    assert_one_line(error, "a.jpg: ", mend)
    assert not picture_endings() & {".heic", ".heif", ".hif", ".avif"}
    assert missing_reader("A.HEIF") == "HEIC (pip install pillow-heif)"
    assert missing_reader("a.jpg") is None
