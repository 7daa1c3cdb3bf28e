"""The data layer of training, Caffe's IMAGE_SEG_DATA: batches of crops (SPEC section 1.8).

Every batch is a function of the seed and the iteration alone, so that a run that is resumed gets
the batches that it would have got. Two things differ from the original, on purpose: label maps are
read as the label numbers that they hold (the original turns a palette PNG into grey values), and
the random numbers are NumPy's.
"""

import os
import sys
import threading
import warnings
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

import numpy as np

from deeplab_repro.arrays import HW
from deeplab_repro.errors import ArgumentError, DeepLabError, FormatError, ImageError, one_line
from deeplab_repro.files.images import PILLOW_ERRORS, UInt8, read_image, read_labels
from deeplab_repro.files.whole import check_readable, open_to_read
from deeplab_repro.machine.memory import require_memory
from deeplab_repro.net.net import ImageSegData

Batch = tuple[np.ndarray, np.ndarray]

# Batches made ahead of the one that is worked on.
_AHEAD = 3
# Threads that look at headers: they wait for the disk, not for a core.
_HEADER_THREADS = 8
# Other formats are read in full to learn their size.
_IMAGE_HEADERS, _LABEL_HEADERS = ("JPEG", "PNG"), ("PNG",)
_LABEL_MODES = ("1", "L", "P")
_EXIF_ORIENTATION = 0x0112
# What the generators of random numbers are for. It stands inside their seeds: NumPy takes no
# notice of zeros at a seed's end, so that [seed, 0] and [seed, 0, 0] are the same.
_FOR_ORDER, _FOR_CROPS = 1, 2


class SegData:
    """The batches of a train net, from the list file of its data layer.

    Building one checks every pair of files: both are there, and of one size by their headers.
    Raises ArgumentError for a value out of range, FileError for files that are missing or cannot
    be read, FormatError for a list that is none, ImageError where a picture is none, a label map is
    in colour or the sizes differ, and ResourceError where a batch is larger than the memory.
    """

    def __init__(self, data: ImageSegData, n_labels: int, seed: int) -> None:
        _check_arguments(data, n_labels, seed)
        self.data = data
        self.n_labels = n_labels
        self.seed = seed
        self.pairs = read_list(data.source, data.root_folder)
        """Paths of the images and of their label maps, in the order of the list."""
        _check_pairs(self.pairs, data)
        # (pixel - mean) * scale of every byte. Caffe computes in float64, with constants that are
        # float32, and rounds once.
        mean = np.array(data.mean_bgr, np.float32).astype(np.float64)
        scale = np.float64(np.float32(data.scale))
        self._values_bgr = ((np.arange(256) - mean[:, None]) * scale).astype(np.float32)
        self._is_label = np.zeros(256, bool)
        self._is_label[:n_labels] = True
        if data.ignore_label in range(256):
            self._is_label[data.ignore_label] = True

    def batch(self, iteration: int) -> Batch:
        """The batch of an iteration, from 0: data Nx3xcropxcrop and labels Nx1xcropxcrop, float32.

        data is BGR, (pixel - mean) * scale; labels are the numbers of the classes. Where an image
        is smaller than the crop, the rest of data is 0 and the rest of labels ignore_label: below
        it and to its right, or to its left where it is mirrored.

        Raises ImageError for a label map with another value, naming it, and what `read_image` and
        `read_labels` raise.
        """
        crop = self.data.crop_size
        data = np.zeros((self.data.batch_size, 3, crop, crop), np.float32)
        labels = np.full((self.data.batch_size, 1, crop, crop), self.data.ignore_label, np.float32)
        rng = np.random.default_rng([self.seed, _FOR_CROPS, iteration])
        for i, pair in enumerate(self._pairs_of(iteration)):
            image, label_map = self._read(*pair)
            mirror = self.data.mirror and rng.integers(2)
            top, left = (rng.integers(max(side - crop, 0) + 1) for side in label_map.shape)
            window = slice(top, top + crop), slice(left, left + crop)
            image, label_map = image[window], label_map[window]
            # The original mirrors what it has padded and cropped, so the padding goes left.
            step = -1 if mirror else 1
            height, width = label_map.shape
            for channel, values in enumerate(self._values_bgr):
                data[i, channel, :, ::step][:height, :width] = values[image[..., 2 - channel]]
            labels[i, 0, :, ::step][:height, :width] = label_map
        return data, labels

    def batches(self, start: int, stop: int) -> Generator[Batch, None, None]:
        """The batches of iterations start..stop-1, made ahead by a thread.

        The thread ends with the iterator: at its end, at an error, and when it is closed or
        dropped, after the batch that it is at. Raises, at the batch concerned, what `batch` raises.
        """
        ready: SimpleQueue[Batch | BaseException] = SimpleQueue()
        free = threading.Semaphore(_AHEAD)
        ended = threading.Event()

        def work() -> None:
            try:
                for iteration in range(start, stop):
                    free.acquire()
                    if ended.is_set():
                        return
                    ready.put(self.batch(iteration))
            except BaseException as error:
                ready.put(error)

        # A daemon, so that a process that has to end does not wait for it.
        thread = threading.Thread(target=work, name="batches", daemon=True)
        thread.start()
        try:
            for _ in range(start, stop):
                made = ready.get()
                if isinstance(made, BaseException):
                    raise made
                free.release()
                yield made
        finally:
            ended.set()
            free.release()
            if not sys.is_finalizing():  # then it runs no more, and never ends
                thread.join()

    def _pairs_of(self, iteration: int) -> Iterator[tuple[str, str]]:
        """The files of a batch; where an epoch ends inside of it, the next one begins."""
        n = len(self.pairs)
        first = iteration * self.data.batch_size
        last = first + self.data.batch_size - 1
        orders = {epoch: self._order(epoch) for epoch in range(first // n, last // n + 1)}
        for position in range(first, last + 1):
            epoch, at = divmod(position, n)
            yield self.pairs[orders[epoch][at]]

    def _order(self, epoch: int) -> np.ndarray:
        n = len(self.pairs)
        if not self.data.shuffle:
            return np.arange(n)
        return np.random.default_rng([self.seed, _FOR_ORDER, epoch]).permutation(n)

    def _read(self, image_path: str, label_path: str) -> tuple[UInt8, UInt8]:
        """An image, HxWx3 RGB, and its labels, HxW, both checked."""
        image, labels = read_image(image_path), read_labels(label_path)
        if image.shape[:2] != labels.shape:
            raise _sizes_differ(image_path, image.shape[:2], label_path, labels.shape)
        if not self._is_label[labels].all():
            wrong = labels[~self._is_label[labels]].min()
            raise ImageError(
                f"{one_line(label_path)}: holds the label {wrong}, expected 0 to "
                f"{self.n_labels - 1}, or {self.data.ignore_label} to ignore: save label maps as "
                "indexed PNGs of the label numbers, not of colours turned grey, or train a net "
                "of more labels"
            )
        return image, labels


def read_list(source: str | os.PathLike[str], root_folder: str = "") -> list[tuple[str, str]]:
    """Read lines "image label-map": the paths of both, `root_folder` in front as it is.

    As in the original nothing is put between the folder and a name, so one of them needs a slash.
    Raises FileError, and FormatError, naming the line, for a file that is no such list.
    """
    name = one_line(source)
    with open_to_read(source) as (file, size):
        require_memory(8 * size, name, "check that it is the right file")
        content = file.read()
    if b"\0" in content:
        raise FormatError(
            f"{name}: is a binary file, expected the text of a list: lines 'image label-map'"
        )
    pairs = []
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").splitlines(), 1):
        columns = [os.fsdecode(column) for column in line.split()]
        if columns and len(columns) != 2:
            mend = "name the label map too" if len(columns) == 1 else "names cannot hold blanks"
            raise FormatError(
                f"{name}, line {number}: has {len(columns)} columns, expected 2, 'image "
                f"label-map': {mend}"
            )
        if columns:
            pairs.append((root_folder + columns[0], root_folder + columns[1]))
    if not pairs:
        raise FormatError(f"{name}: the list is empty, expected lines 'image label-map'")
    return pairs


def _check_arguments(data: ImageSegData, n_labels: int, seed: int) -> None:
    source = one_line(data.source)
    if not source:
        raise ArgumentError("source: the data layer names no list file: give it one")
    for what in ("crop_size", "batch_size"):
        if getattr(data, what) < 1:
            raise ArgumentError(
                f"{what}: is {getattr(data, what)} in the data layer of {source}, expected at "
                "least 1: give it in the train prototxt"
            )
    if not 1 <= n_labels <= 256:
        raise ArgumentError(f"n_labels: is {n_labels}, expected 1 to 256")
    if seed < 0:
        raise ArgumentError(f"seed: is {seed}, expected 0 or more")
    # Those made ahead, the one being made and the one worked on: float32, 3 channels and labels.
    n_bytes = (_AHEAD + 2) * data.batch_size * 4 * data.crop_size**2 * 4
    what = f"{source}: batches of {data.batch_size} at crop_size {data.crop_size}"
    require_memory(n_bytes, what, "make the batches smaller")


def _check_pairs(pairs: list[tuple[str, str]], data: ImageSegData) -> None:
    """Raise the error of the first pair that has one, and tell how many more have."""
    with warnings.catch_warnings(), ThreadPoolExecutor(_HEADER_THREADS) as pool:
        warnings.filterwarnings("ignore", module=r"PIL\b")
        errors = [error for error in pool.map(_pair_error, pairs) if error]
    if not errors:
        return
    first, more = errors[0], len(errors) - 1
    where = ""
    if isinstance(first.__cause__, FileNotFoundError):
        folder = f"'{one_line(data.root_folder)}'" if data.root_folder else "empty"
        where = (
            f": looked for what {one_line(data.source)} names, with root_folder ({folder}) "
            "put in front as it is"
        )
    others = f" (and {more:,} more of {len(pairs):,} pairs are wrong)" if more else ""
    raise type(first)(f"{first}{where}{others}") from first


def _pair_error(pair: tuple[str, str]) -> DeepLabError | None:
    image, labels = pair
    try:
        check_readable(image)
        check_readable(labels)
        image_size = _image_size(image) or read_image(image).shape[:2]
        labels_size = _labels_size(labels) or read_labels(labels).shape
        if image_size == labels_size[::-1]:
            # Perhaps turned after all: not every format has its orientation in the header.
            image_size = read_image(image).shape[:2]
    except DeepLabError as error:
        return error
    if image_size != labels_size:
        return _sizes_differ(image, image_size, labels, labels_size)
    return None


def _image_size(path: str) -> HW | None:
    """The upright height and width that the header tells; None where reading has to find out."""
    from PIL import Image

    try:
        with Image.open(path, formats=_IMAGE_HEADERS) as picture:
            # Of a PNG this would decode the pixels, since the note may lie behind them.
            exif = picture.getexif() if picture.format == "JPEG" else {}
            is_turned = exif.get(_EXIF_ORIENTATION, 1) in (5, 6, 7, 8)
            width, height = picture.size
    except (*PILLOW_ERRORS, Image.DecompressionBombError):  # read_image gives the error its words
        return None
    return (width, height) if is_turned else (height, width)


def _labels_size(path: str) -> HW | None:
    """The height and width that the header tells; None where reading has to find out."""
    from PIL import Image

    try:
        with Image.open(path, formats=_LABEL_HEADERS) as picture:
            width, height = picture.size
            return (height, width) if picture.mode in _LABEL_MODES else None
    except (*PILLOW_ERRORS, Image.DecompressionBombError):  # read_labels gives the error its words
        return None


def _sizes_differ(image: str, image_size: HW, labels: str, labels_size: HW) -> ImageError:
    return ImageError(
        f"{one_line(labels)}: is {labels_size[0]}x{labels_size[1]} (height x width), expected "
        f"{image_size[0]}x{image_size[1]} as {one_line(image)} is, upright: save the label map "
        "at the size of its image"
    )
