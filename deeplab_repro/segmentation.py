"""One photo's result: its labels and scores, as arrays, in words, as a picture and as files."""

import os
import time
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from deeplab_repro.arrays import F32, HW, UInt8, dims
from deeplab_repro.crf.params import CrfParams
from deeplab_repro.errors import ArgumentError, ArgumentTypeError, one_line
from deeplab_repro.files.given_path import given_path, kind_of
from deeplab_repro.files.given_photo import PhotoLike, given_photo
from deeplab_repro.files.labels import shares
from deeplab_repro.files.outputs import ENDINGS, write_output
from deeplab_repro.files.pictures import overlay
from deeplab_repro.files.targets import check_targets, make_folder
from deeplab_repro.models.registry import class_names
from deeplab_repro.net.given import check_image
from deeplab_repro.net.scaled import labels_at, maps_at, shrunk
from deeplab_repro.net.scores import CoarseScores, softmax

if TYPE_CHECKING:
    from deeplab_repro.crf.dense_crf import CrfResult

# Classes in the one line that stands for a Segmentation.
_MOST_NAMED = 4


@dataclass(frozen=True, eq=False)
class Segmentation:
    """One image's result.

    size: (H, W), the image's, at which all arrays are. scaled: that at which net and CRF saw it,
    where it was scaled down for them. coarse: the net's scores on its own grid, of the image as
    they saw it; None where probabilities were given in place of a net. refined: what the CRF made
    of them; None without a CRF. net_seconds, crf_seconds: how long the two took. tiles: in how many
    the net ran, 0 for the whole image at once. image: HxWx3 uint8 RGB, a copy of the photo; path:
    of its file; None where they are not known. All else is made of these when it is asked for.

    >>> result = DeepLab("ToyVOC-LargeFOV")("photo.jpg")
    >>> result.labels.shape, result.marginals.shape
    ((60, 80), (21, 60, 80))
    >>> max(result.shares(), key=result.shares().get)
    'background'
    >>> [file.name for file in result.save("out/labels.png", "overlay")]
    ['labels.overlay.jpg', 'labels.png']
    """

    size: HW
    coarse: CoarseScores | None
    net_seconds: float = 0.0
    refined: "CrfResult | None" = None
    crf_seconds: float = 0.0
    image: UInt8 | None = None
    path: Path | None = None
    tiles: int = 0
    scaled: HW | None = None

    @property
    def seen(self) -> HW:
        """The size (H, W) at which net and CRF saw the image."""
        return self.scaled or self.size

    @cached_property
    def labels(self) -> UInt8:
        """HxW uint8, the most probable label, ties to the lowest; after the CRF if there is one."""
        if self.refined:
            return labels_at(self.refined.labels, self.size)
        return self.net_labels

    @cached_property
    def net_labels(self) -> UInt8:
        """HxW uint8, the most probable label before the CRF."""
        return labels_at(self.net_scores().labels(self.seen), self.size)

    def net_scores(self) -> CoarseScores:
        """The net's scores on its own grid. Raises ArgumentError where they are not known."""
        if self.coarse is None:
            raise ArgumentError(
                "the net's scores are not kept here, as the labels were made of probabilities: "
                "segment the photo with a model"
            )
        return self.coarse

    @cached_property
    def scores(self) -> F32:
        """CxHxW float32, as the net gives them."""
        return maps_at(self.net_scores().enlarged(self.seen), self.size)

    @cached_property
    def probs(self) -> F32:
        """CxHxW float32, the softmax of the scores."""
        return softmax(self.scores)

    @cached_property
    def marginals(self) -> F32 | None:
        """CxHxW float32, the probabilities after the CRF, if there is one and they were kept."""
        if self.refined is None or self.refined.marginals is None:
            return None
        return maps_at(self.refined.marginals, self.size)

    @property
    def names(self) -> tuple[str, ...]:
        """The classes' names by label: VOC's of a net with 21, else class-0, class-1 and so on."""
        by_label = self.coarse.values if self.coarse else self.marginals
        return class_names(0 if by_label is None else len(by_label))

    def shares(self) -> dict[str, float]:
        """The share of the pixels that each class has, from 0 to 1, by its name; largest first."""
        return shares(self.labels, self.names)

    def overlay(self, image: PhotoLike | None = None, *, alpha: float = 0.55) -> UInt8:
        """The labels over the image in VOC's colours, with a white line around each: HxWx3 uint8.

        image: another one of the same size, in any form that a model takes; None for the photo
        itself. alpha: how opaque the colours are, from 0 to 1. The background leaves the image as
        it is. Raises ArgumentError for an image of another size, or none.
        """
        if image is None and self.image is None:
            raise ArgumentError("the image is not kept here: give it, overlay(image)")
        below = self.image if image is None else given_photo(image)
        assert below is not None
        return overlay(below, self.labels, self.names, alpha=alpha)

    def save(
        self, target: str | os.PathLike[str], *outputs: str, force: bool = False
    ) -> list[Path]:
        """Write the labels as a PNG with VOC's palette, and more beside it, as `segment` does.

        target: the PNG, or a folder for a PNG that is named as the photo's file. Folders are made.
        outputs: of "overlay", "scores", "probs", "marginals", "bin" and "mat". force: replace files
        that this package did not make; the photo's own file is never replaced.

        Returns the files, each written whole or not at all. Raises FileError for what is in the way
        or cannot be written, and ArgumentError for outputs that there are not.
        """
        name = given_path("target", target)
        is_folder = os.path.isdir(name) or name.endswith(("/", os.sep))
        target = Path(name)
        if is_folder or not target.suffix:
            if self.path is None:
                raise ArgumentError(
                    f"{one_line(target)}: is a folder, and the photo has no name: name the file, "
                    f"as {one_line(target / 'photo.png')}"
                )
            target = target / f"{self.path.stem}.png"
        if target.suffix.lower() != ".png":
            raise ArgumentError(
                f"{one_line(target)}: labels are written as PNG, as other formats change them: "
                f"name it {one_line(target.with_suffix('.png').name)}"
            )
        if unknown := [
            each for each in outputs if not isinstance(each, str) or each not in ENDINGS
        ]:
            raise ArgumentError(
                f"output {unknown[0]!r} is none of {', '.join(ENDINGS)}: give each by itself, as "
                'save(target, "overlay", "probs")'
            )
        others = [kind for kind in ENDINGS if kind in outputs and kind != "labels"]
        files = {kind: target.with_name(f"{target.stem}{ENDINGS[kind]}") for kind in others}
        # The labels last: where they are, all is.
        files["labels"] = target
        if "marginals" in files and self.marginals is None:
            raise ArgumentError(
                "marginals are asked for, but are not kept here: segment with a CRF, and refine "
                "with marginals=True"
            )
        if "overlay" in files and self.image is None:
            raise ArgumentError(
                "an overlay is asked for, but the image is not kept here: save "
                "dataclasses.replace(result, image=image)"
            )
        check_targets({target: files.values()}, [self.path] if self.path else [], force)
        make_folder(target.parent)
        for kind, path in files.items():
            write_output(kind, path, self.image, self)
        return list(files.values())

    def __repr__(self) -> str:
        """On one line, with the largest classes if the labels are there already."""
        parts = [dims(self.size)]
        if self.path:
            parts.insert(0, repr(str(self.path)))
        if self.refined or "labels" in self.__dict__:
            largest = list(self.shares().items())[:_MOST_NAMED]
            parts += [f"{name} {share:.0%}" for name, share in largest]
        parts.append("with CRF" if self.refined else "without CRF")
        return f"Segmentation({', '.join(parts)})"


def refine(
    image: UInt8,
    segmentation: Segmentation,
    crf: CrfParams,
    iterations: int,
    device: str,
    marginals: bool = True,
) -> Segmentation:
    """A segmentation by a net after the CRF.

    Raises ArgumentError for an image of another size, and what `dense_crf` raises.
    """
    from deeplab_repro.crf.dense_crf import refine_scores

    if not isinstance(segmentation, Segmentation):
        raise ArgumentTypeError(
            f"segmentation is {kind_of(segmentation)}, expected what run_net(image) gives"
        )
    image = check_image(image)
    if image.shape[:2] != segmentation.size:
        raise ArgumentError(
            f"image is {dims(image.shape[:2])} (HxW), expected the {dims(segmentation.size)} of "
            "the image that was segmented"
        )
    start = time.perf_counter()
    refined = refine_scores(
        shrunk(image, segmentation.seen),
        segmentation.net_scores(),
        crf,
        iterations,
        device=device,
        marginals=marginals,
    )
    return replace(segmentation, refined=refined, crf_seconds=time.perf_counter() - start)
