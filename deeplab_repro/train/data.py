"""The data layer of training, Caffe's IMAGE_SEG_DATA: batches of crops (docs/original.md, 1.8).

Every batch depends on the seed and the iteration only, so that a resumed run gets the same batches
as an uninterrupted one. Two things differ from the original, on purpose: label maps are read as the
label numbers that they hold (the original turns a palette PNG into grey values), and the random
numbers are NumPy's.
"""

import sys
import threading
from collections.abc import Generator, Iterator
from queue import SimpleQueue

import numpy as np

from deeplab_repro.arrays import UInt8
from deeplab_repro.errors import ArgumentError, ImageError, NetError, one_line
from deeplab_repro.files.images import read_image, read_labels
from deeplab_repro.machine.memory import require_memory
from deeplab_repro.net.other_layers import ImageSegData
from deeplab_repro.net.preprocess import Preprocessing, averages_instead
from deeplab_repro.train.pairs import check_pairs, read_list, sizes_differ

Batch = tuple[np.ndarray, np.ndarray]

# Batches made ahead of the one in use.
_AHEAD = 3
# Part of a generator's seed: what its numbers are for. Not 0, as NumPy ignores zeros at a seed's
# end: [seed, 0] and [seed, 0, 0] are the same.
_FOR_ORDER, _FOR_CROPS = 1, 2


class SegData:
    """The batches of a train net, from the list file of its data layer, numbered from 0.

    The constructor checks every pair of files: both exist, and their headers give the same size.
    Raises ArgumentError for a value out of range, NetError for a mean of each pixel, FileError for
    files that are missing or cannot be read, FormatError for a broken list, ImageError if a file is
    not a picture, a label map is in colour or the sizes differ, and ResourceError if a batch is
    larger than the memory.
    """

    def __init__(
        self, data: ImageSegData, preprocessing: Preprocessing, n_labels: int, seed: int
    ) -> None:
        _check_arguments(data, n_labels, seed)
        if mean := preprocessing.mean_image:
            raise NetError(
                f"mean_file '{one_line(mean.file)}' has a mean for each pixel, expected one a "
                f"channel, as images of any size are trained on: {averages_instead(mean)}"
            )
        self.data = data
        self.preprocessing = preprocessing
        self.n_labels = n_labels
        self.seed = seed
        self.pairs = read_list(data.source, data.root_folder)
        """Paths of the images and of their label maps, in the order of the list."""
        check_pairs(self.pairs, data)
        self._is_label = np.zeros(256, bool)
        self._is_label[:n_labels] = True
        if data.ignore_label in range(256):
            self._is_label[data.ignore_label] = True

    def batch(self, number: int) -> Batch:
        """One batch: data Nx3xcropxcrop and labels Nx1xcropxcrop, both float32.

        data is BGR, (pixel - mean) * scale; labels are class numbers. If an image is smaller than
        the crop, the rest of data is 0 and the rest of labels ignore_label: below it and to its
        right (to its left if it is mirrored).

        Raises ImageError for a label map with any other value, naming it, and what `read_image` and
        `read_labels` raise.
        """
        crop = self.data.crop_size
        data = np.zeros((self.data.batch_size, 3, crop, crop), np.float32)
        labels = np.full((self.data.batch_size, 1, crop, crop), self.data.ignore_label, np.float32)
        rng = np.random.default_rng([self.seed, _FOR_CROPS, number])
        for i, pair in enumerate(self._pairs_of(number)):
            image, label_map = self._read(*pair)
            mirror = self.data.mirror and rng.integers(2)
            top, left = (rng.integers(max(side - crop, 0) + 1) for side in label_map.shape)
            window = slice(top, top + crop), slice(left, left + crop)
            image, label_map = image[window], label_map[window]
            # The original mirrors what it has padded and cropped, so the padding goes left.
            step = -1 if mirror else 1
            height, width = label_map.shape
            self.preprocessing.apply(image, data[i, :, :, ::step][:, :height, :width])
            labels[i, 0, :, ::step][:height, :width] = label_map
        return data, labels

    def batches(self, start: int, stop: int) -> Generator[Batch, None, None]:
        """The batches start..stop-1, made ahead by a thread.

        The thread ends with the iterator: at its end, at an error, or when it is closed or dropped.
        Raises what `batch` raises, at the batch concerned.
        """
        ready: SimpleQueue[Batch | BaseException] = SimpleQueue()
        free = threading.Semaphore(_AHEAD)
        ended = threading.Event()

        def work() -> None:
            try:
                for number in range(start, stop):
                    free.acquire()
                    if ended.is_set():
                        return
                    ready.put(self.batch(number))
            except BaseException as error:
                ready.put(error)

        # A daemon, so that a process that ends does not wait for it.
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
            if not sys.is_finalizing():  # daemon threads are frozen then
                thread.join()

    def _pairs_of(self, number: int) -> Iterator[tuple[str, str]]:
        """The files of a batch; when an epoch ends inside the batch, the next one begins."""
        n = len(self.pairs)
        first = number * self.data.batch_size
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
            raise sizes_differ(image_path, image.shape[:2], label_path, labels.shape)
        if not self._is_label[labels].all():
            wrong = labels[~self._is_label[labels]].min()
            raise ImageError(
                f"{one_line(label_path)}: holds the label {wrong}, expected 0 to "
                f"{self.n_labels - 1}, or {self.data.ignore_label} to ignore: save label maps as "
                "indexed PNGs of the label numbers, not of colours turned grey, or train a net "
                "of more labels"
            )
        return image, labels


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
