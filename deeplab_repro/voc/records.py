"""How results and kept scores were made: small JSON files that lie beside them.

A run that goes on reads them, lest results of two settings be mixed; whoever scores the results
reads in them what they are.
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from deeplab_repro.coarse import Precision
from deeplab_repro.crf.params import CrfParams
from deeplab_repro.errors import ArgumentError, DeepLabError, FormatError
from deeplab_repro.files import display_name, open_to_read, write_atomically

_MOST_BYTES = 1 << 20


@dataclass(frozen=True)
class NetRecord:
    """A net with its weights.

    model: its name in the registry, or in its prototxt. labels: how many it tells apart.
    weights: the caffemodel's file name; weights_sha256 and net_sha256: digests of that file and of
    the net's prototxt. trained_on: the list that the weights were trained on, as train_aug; None
    where nothing says so.
    """

    model: str
    labels: int
    net_sha256: str
    weights: str
    weights_sha256: str
    trained_on: str | None


@dataclass(frozen=True)
class ScoresRecord(NetRecord):
    """A folder of coarse scores, and their precision."""

    precision: Precision


@dataclass(frozen=True)
class Record(NetRecord):
    """Results of a split.

    crf: None for the net alone. scores: the precision of the scores if they were kept.
    """

    split: str
    crf: CrfParams | None
    iterations: int
    scores: Precision | None

    @property
    def has_seen_split(self) -> bool:
        """Whether the weights were trained on images of this split: its scores are inflated."""
        return self.trained_on is not None and bool(_parts(self.trained_on) & _parts(self.split))


def record_path(out: Path, split: str) -> Path:
    """Where the record of a split's results is."""
    return out / f"predict.{split}.json"


def scores_record_path(scores: Path) -> Path:
    """Where the record of a folder of coarse scores is."""
    return scores / "scores.json"


def read_record(out: Path, split: str) -> Record | None:
    """How the results of a split in `out` were made; None where nothing says so.

    Raises FileError where the record cannot be read, FormatError where it is not one.
    """
    return _read(record_path(out, split), Record)


def read_scores_record(scores: Path) -> ScoresRecord | None:
    """How a folder of coarse scores was made; as `read_record`."""
    return _read(scores_record_path(scores), ScoresRecord)


def write_or_compare(path: Path, record: Record | ScoresRecord, is_begun: bool) -> None:
    """Write a record, or if something `is_begun` there, see that it was made in the same way.

    Raises ArgumentError naming the first difference, or where there is no record of what is there.
    """
    there = _read(path, type(record))
    if there is None and is_begun:
        raise ArgumentError(
            f"{display_name(path.parent)}: holds results without {path.name}, which says how they "
            "were made: give another folder"
        )
    if there is None or not is_begun:
        with write_atomically(path) as file:
            file.write(json.dumps(dataclasses.asdict(record), indent=1).encode())
        return
    for field in dataclasses.fields(record):
        found, wanted = getattr(there, field.name), getattr(record, field.name)
        if found != wanted:
            raise ArgumentError(
                f"{display_name(path)}: was made with {field.name} {_text(found)}, not with "
                f"{_text(wanted)}: give another folder"
            )


def _text(value: object) -> str:
    if isinstance(value, CrfParams):
        numbers = dataclasses.astuple(value)
        return ",".join(f"{number:g}" for number in numbers)
    return "none" if value is None else str(value)


_AnyRecord = TypeVar("_AnyRecord", bound=NetRecord)


def _read(path: Path, kind: type[_AnyRecord]) -> _AnyRecord | None:
    if not path.exists():
        return None
    with open_to_read(path) as (file, _):
        content = file.read(_MOST_BYTES)
    try:
        values: dict[str, Any] = json.loads(content)
        if values.get("crf"):
            values["crf"] = CrfParams(**values["crf"])
        return kind(**values)
    except (AttributeError, DeepLabError, RecursionError, TypeError, ValueError) as error:
        raise FormatError(
            f"{display_name(path)}: is not what predict wrote there, or broken: remove it with the "
            "results beside it"
        ) from error


def _parts(name: str) -> set[str]:
    """The parts of the data set that a list is made of: train and val for trainval_aug."""
    return {"train": {"train"}, "val": {"val"}, "trainval": {"train", "val"}}.get(
        name.removesuffix("_aug"), set()
    )
