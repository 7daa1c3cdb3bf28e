"""VOCdevkit's layout: lists, classes, masks, and every way in which they can be wrong."""

import numpy as np
import pytest
from PIL import Image

from deeplab_repro.errors import DeepLabError, FileError, FormatError, ImageError
from deeplab_repro.files.images import VOID
from deeplab_repro.files.pictures import palette, write_labels
from deeplab_repro.models.registry import VOC_CLASSES
from deeplab_repro.voc.devkit import Devkit, open_devkit
from tests.conftest import assert_one_line

LABELS = np.array([[0, 1, 15], [20, VOID, 3]], np.uint8)


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "VOC2007"
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    (root / "SegmentationClass").mkdir()
    (root / "ImageSets/Segmentation/val.txt").write_text("2007_000033\n2007_000042\n")
    return root


def list_of(root, content, name="val"):
    path = root / f"ImageSets/Segmentation/{name}.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def test_a_folder_of_voc(root):
    devkit = open_devkit(root)
    assert devkit == Devkit(root, VOC_CLASSES)
    assert devkit.n_labels == 21
    assert devkit.year == "VOC2007"
    assert devkit.ids("val") == ["2007_000033", "2007_000042"]
    assert devkit.photo("a") == root / "JPEGImages/a.jpg"
    assert devkit.mask("a") == root / "SegmentationClass/a.png"


def test_another_folder_has_the_year_of_the_test_server(tmp_path):
    (tmp_path / "ImageSets/Segmentation").mkdir(parents=True)
    assert open_devkit(tmp_path).year == "VOC2012"


def test_other_classes(root, tmp_path):
    (root / "classes.txt").write_text("sky\nroad\n\n")
    assert open_devkit(root).classes == ("sky", "road")
    (tmp_path / "own.txt").write_text("a\nb\nc")
    devkit = open_devkit(root, tmp_path / "own.txt")
    assert devkit.classes == ("a", "b", "c")
    assert devkit.classes_told == f"{tmp_path}/own.txt: has 3 classes"
    assert str(root) not in devkit.classes_mend


def test_lists_as_editors_leave_them(root):
    list_of(root, b"\xef\xbb\xbf2007_000033 \r\n\r\n 2007_000042\r\n")
    assert open_devkit(root).ids("val") == ["2007_000033", "2007_000042"]


def test_lists_of_other_folders(root):
    """ImageSets/Main has the presence of a class behind each id; ids may hold blanks."""
    (root / "JPEGImages").mkdir()
    (root / "JPEGImages/my photo 1.jpg").write_bytes(b"")
    list_of(root, "2007_000033 -1\n2007_000042  1\nIMG (3) 0\nmy photo 1\nmy photo 2\nmy, -1 1\n")
    expected = ["2007_000033", "2007_000042", "IMG (3)", "my photo 1", "my photo 2", "my, -1"]
    assert open_devkit(root).ids("val") == expected


@pytest.mark.parametrize("ending", ["jpg", "JPG", "jpeg", "JPEG", "png", "PNG"])
def test_endings_of_photos(root, ending):
    (root / "JPEGImages").mkdir()
    path = root / f"JPEGImages/2007_000033.{ending}"
    path.write_bytes(b"")
    devkit = open_devkit(root)
    assert devkit.photo("2007_000033") == path
    devkit.require(["2007_000033"], "val", masks=False)


def test_an_id_with_two_photos(root):
    (root / "JPEGImages").mkdir()
    for ending in ("png", "jpg"):
        (root / f"JPEGImages/a.{ending}").write_bytes(b"")
    with pytest.raises(FileError) as error:
        open_devkit(root).require(["a"], "val", masks=False)
    assert_one_line(error, "a.png: is a second photo of 'a', beside a.jpg: remove")


@pytest.mark.parametrize(
    ("content", "kind", "parts"),
    [
        ("a\nb\na\n", FormatError, ["line 3 repeats 'a' of line 1", "count twice"]),
        ("a/b\n", FormatError, ["line 1 is 'a/b', expected the id"]),
        ("a -1\nb 0\na 1\n", FormatError, ["line 3 repeats 'a' of line 1"]),
        ("../a\n", FormatError, ["line 1 is '../a', expected the id"]),
        ("a\n.hidden\n", FormatError, ["line 2 is '.hidden'"]),
        ("\n\n", FormatError, ["holds no ids"]),
        ("", FileError, ["is empty"]),
        (b"\xff\xfe\x00", FormatError, ["is not a text in UTF-8"]),
    ],
)
def test_a_list_that_is_none(root, content, kind, parts):
    list_of(root, content)
    with pytest.raises(kind) as error:
        open_devkit(root).ids("val")
    assert_one_line(error, "val.txt", *parts)


@pytest.mark.parametrize("split", ["test", "../Segmentation/val", "", "a/b", "x" * 5000, "\0"])
def test_no_such_split(root, split):
    with pytest.raises(FileError) as error:
        open_devkit(root).ids(split)
    assert_one_line(error, "Segmentation: has no list of split '", "the splits here are val")


def test_ids_without_files(root):
    devkit = open_devkit(root)
    write_labels(devkit.mask("2007_000033"), LABELS)
    with pytest.raises(FileError) as error:
        devkit.require(devkit.ids("val"), "val", masks=True)
    assert_one_line(error, "2007_000042.png: does not exist, but split 'val' names it (and 0 more")
    with pytest.raises(FileError, match=r"2007_000033.jpg: does not exist.*and 1 more"):
        devkit.require(devkit.ids("val"), "val", masks=False)


@pytest.mark.parametrize("inside", ["", "VOC2007", "VOCdevkit/VOC2007"])
def test_no_devkit(tmp_path, inside):
    other = tmp_path / "other"
    (other / inside).mkdir(parents=True)
    if inside:
        (other / inside / "ImageSets/Segmentation").mkdir(parents=True)
    with pytest.raises(FileError) as error:
        open_devkit(other)
    mend = f"give {other / inside}" if inside else "give the folder VOC2012 or alike"
    assert_one_line(error, "has no ImageSets/Segmentation", mend)
    assert "swapped" not in str(error.value)
    (other / "results").mkdir()
    with pytest.raises(FileError, match="has results, are the two folders swapped"):
        open_devkit(other)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("a\nb\na\n", "3 names, 2 different"),
        ("\n\n", "0 names"),
        ("\n".join(map(str, range(256))), "256"),
    ],
)
def test_classes_that_are_none(root, content, found):
    (root / "classes.txt").write_text(content)
    with pytest.raises(FormatError) as error:
        open_devkit(root)
    assert_one_line(error, "classes.txt", found, "expected 1 to 255 different names")


# --- masks


def grey(labels, of=lambda picture: picture.convert("L")):
    picture = Image.fromarray(labels)
    picture.putpalette(palette().tobytes())
    return of(picture.convert("RGB"))


def as_opencv(picture):
    """What cv2.imread(..., IMREAD_GRAYSCALE) makes of a palette PNG: the authors' 52 and 220."""
    import cv2

    return Image.fromarray(cv2.cvtColor(np.array(picture), cv2.COLOR_RGB2GRAY))


def test_indices_whatever_the_mode(root):
    devkit = open_devkit(root)
    small = np.array([[0, 1, 2], [3, 2, 1]], np.uint8)
    for bits in (2, 4, 8):
        picture = Image.fromarray(small)
        picture.putpalette(palette().tobytes()[: 3 * 2**bits])
        picture.save(devkit.mask("a"), bits=bits)
        np.testing.assert_array_equal(devkit.read_mask("a"), small)
    Image.fromarray(LABELS).save(devkit.mask("a"))  # grey whose values are the labels
    np.testing.assert_array_equal(devkit.read_mask("a"), LABELS)


@pytest.mark.parametrize("of", [as_opencv, lambda picture: picture.convert("L")])
def test_a_mask_that_was_converted_to_grey(root, of):
    devkit = open_devkit(root)
    grey(LABELS, of).save(devkit.mask("a"))
    with pytest.raises(ImageError) as error:
        devkit.read_mask("a")
    assert_one_line(
        error, "a.png: has label 220", "the brightness of VOC's colours", "converted to"
    )


def test_a_mask_in_colour(root):
    devkit = open_devkit(root)
    grey(LABELS, lambda picture: picture).save(devkit.mask("a"))
    with pytest.raises(ImageError, match="is a picture of mode RGB: labels are an indexed"):
        devkit.read_mask("a")


def test_labels_beyond_the_classes(root):
    (root / "classes.txt").write_text("sky\nroad\ncar\n")
    devkit = open_devkit(root)
    write_labels(devkit.mask("a"), LABELS)
    with pytest.raises(ImageError) as error:
        devkit.read_mask("a")
    assert_one_line(error, "a.png: has label 20, expected 0 to 2 and 255 (3 other labels in all)")
    with pytest.raises(DeepLabError, match="has label 255, expected 0 to 2: 255 is void"):
        devkit.check(np.full((2, 2), VOID, np.uint8), devkit.mask("a"), void=None)


# --- other classes than VOC's


def test_masks_of_other_classes_are_told_where_vocs_are_assumed(root, caplog):
    ids = ["0016E5_07959", "0016E5_08159"]
    list_of(root, "\n".join(ids))
    devkit = open_devkit(root)
    devkit.warn_of_other_classes(ids)  # without masks, as a test split
    write_labels(devkit.mask(ids[0]), np.array([[*range(11), VOID]], np.uint8))
    devkit.mask(ids[1]).write_bytes(b"broken")
    assert not caplog.messages
    devkit.warn_of_other_classes(ids)
    assert caplog.messages == [
        f"{root}: has no classes.txt, so VOC's 21 classes are assumed, but 1 of 2 label maps hold "
        "none above 10: if its classes are others, write the names of its classes, by label, one a "
        f"line, to {root}/classes.txt, or name such a file with --classes"
    ]
    caplog.clear()
    (root / "classes.txt").write_text("\n".join(VOC_CLASSES))
    open_devkit(root).warn_of_other_classes(ids)
    assert not caplog.messages


def test_masks_of_0_and_255_are_told(root, caplog):
    """As other tools write two classes: here the second would count as void, in silence."""
    (root / "classes.txt").write_text("background\nroad\n")
    devkit = open_devkit(root)
    write_labels(devkit.mask("a"), np.array([[0, 1, VOID]], np.uint8))
    devkit.warn_of_other_classes(["a"])
    assert not caplog.messages
    write_labels(devkit.mask("a"), np.array([[0, VOID]], np.uint8))
    devkit.warn_of_other_classes(["a"])
    (told,) = caplog.messages
    assert told.startswith(f"{root}/SegmentationClass: the true labels are 0 and 255 only")
    assert told.endswith("save it as that class's number, 1 say")


def test_vocs_masks_are_never_doubted(root, caplog):
    devkit = open_devkit(root)
    for name in devkit.ids("val"):
        write_labels(devkit.mask(name), np.array([[*range(11), VOID]], np.uint8))
    devkit.warn_of_other_classes(devkit.ids("val"))
    assert not caplog.messages


def test_a_label_above_the_classes_has_a_mend(root):
    devkit = open_devkit(root)
    write_labels(devkit.mask("a"), np.array([[0, 21, 31]], np.uint8))
    with pytest.raises(ImageError) as error:
        devkit.read_mask("a")
    assert_one_line(error, "has label 31, expected 0 to 20 and 255", f"to {root}/classes.txt, or")
