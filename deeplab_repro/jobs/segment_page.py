"""Segmented photos on a page to look at, while they go by."""

from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path

from deeplab_repro.files.holding import hold
from deeplab_repro.files.images import read_image, read_labels
from deeplab_repro.files.marks import PAGE_PICTURES
from deeplab_repro.files.whole import remove_unfinished
from deeplab_repro.jobs.photos import Outcome, Photo, Skipped
from deeplab_repro.models.registry import class_names
from deeplab_repro.segmenter import DeepLab
from deeplab_repro.show.photo_page import LabelledPhoto, PhotoPage
from deeplab_repro.work.outcomes import Failed
from deeplab_repro.work.stages import in_threads, io_threads


def on_a_page(
    photos: Iterable[Outcome], out: Path, model: DeepLab, about: str, force: bool = False
) -> Iterator[Outcome]:
    """Yield photos as they come, and show them all on a page in the folder `out` at the end.

    about: what made the labels of this run, in words. force: replace files of others.

    Raises FileError where the page cannot be written, and where another run makes one there.
    """
    page = PhotoPage(out, class_names(model.net.output_shape()[1]), force)

    def show(photo: Outcome) -> Outcome:
        if isinstance(photo, Failed):
            page.add_failure(photo.path, photo.error)
        else:
            page.add(_read_again(photo, model) if isinstance(photo, Skipped) else _labelled(photo))
        return photo

    threads = min(1, io_threads(model.device))  # one at a time: the page has their order
    with hold(out / PAGE_PICTURES), closing(in_threads(show, photos, threads, "page")) as shown:
        remove_unfinished(out / PAGE_PICTURES)
        yield from shown
        page.write(about)


def _read_again(photo: Skipped, model: DeepLab) -> LabelledPhoto:
    """A photo that was segmented before, with the labels that are there."""
    labels = {"net + CRF" if model.crf else "net": read_labels(photo.labels)}
    return LabelledPhoto(photo.path, read_image(photo.path), labels, {}, [photo.labels])


def _labelled(photo: Photo) -> LabelledPhoto:
    made = photo.segmentation
    assert made
    if made.refined:
        labels = {"net": made.net_labels, "net + CRF": made.labels}
        seconds = {"net": made.net_seconds, "CRF": made.crf_seconds}
    else:
        labels, seconds = {"net": made.labels}, {"net": made.net_seconds}
    return LabelledPhoto(
        photo.path, photo.image, labels, seconds, [*chain(*photo.written.values())]
    )
