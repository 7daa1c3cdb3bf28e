"""Small JSON files beside results and kept scores that record how these were made.

A run that goes on compares them with its own settings, so that results of two settings are never
mixed. `evaluate` reads in them what it scores. Each result has their digest in its mark too.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from deeplab_repro.crf.params import CrfParams
from deeplab_repro.errors import ArgumentError, DeepLabError, FormatError, one_line
from deeplab_repro.files.made_of import sha256_of_text
from deeplab_repro.files.whole import open_to_read, write_atomically
from deeplab_repro.machine.device import Precision, ScoresType

_MOST_BYTES = 1 << 20
_LONGEST_SHOWN = 80
_SHOWN_OF_DIGEST = 12

# Names change no result: what they stand for is compared.
_NAMES = ("model", "weights")


@dataclass(frozen=True)
class NetRecord:
    """A net with its weights.

    model: its name in the registry, or in its prototxt. labels: how many classes it has.
    weights: the caffemodel's file name; weights_sha256 and net_sha256: digests of that file (of
    the text random:SEED, if they are) and of the net's prototxt. trained_on: the list that the
    weights were trained on, as train_aug; None if unknown. arithmetic: the precision in which the
    net ran. version: of this package. What runs the net, where, and in which tiles, is no part of
    it: they differ by rounding only.
    """

    model: str
    labels: int
    net_sha256: str
    weights: str
    weights_sha256: str
    trained_on: str | None
    arithmetic: Precision
    version: str

    @cached_property
    def digest(self) -> str:
        """A digest of all that changes results, for their marks."""
        content = {name: value for name, value in asdict(self).items() if name not in _NAMES}
        return sha256_of_text(json.dumps(content, sort_keys=True))


@dataclass(frozen=True)
class ScoresRecord(NetRecord):
    """How a folder of coarse scores was made, and the precision in which they are kept."""

    precision: ScoresType


@dataclass(frozen=True)
class Record(NetRecord):
    """How the results of a split were made.

    crf: None for the net alone. scores: the precision in which scores were kept; None if not.
    """

    split: str
    crf: CrfParams | None
    iterations: int
    scores: ScoresType | None

    @cached_property
    def scores_record(self) -> ScoresRecord | None:
        """How the kept scores were made; None if none are kept."""
        if self.scores is None:
            return None
        net = {each.name: getattr(self, each.name) for each in fields(NetRecord)}
        return ScoresRecord(**net, precision=self.scores)

    @property
    def title(self) -> str:
        """The model and the CRF in words."""
        return f"{self.model} + CRF" if self.crf else self.model

    @property
    def has_seen_split(self) -> bool:
        """Whether the weights were trained on images of this split, which inflates its scores."""
        return self.trained_on is not None and bool(_parts(self.trained_on) & _parts(self.split))


def record_path(out: Path, split: str) -> Path:
    """The path of the record of a split's results."""
    return out / f"predict.{split}.json"


def scores_record_path(scores: Path) -> Path:
    """The path of the record of a folder of coarse scores."""
    return scores / "scores.json"


def read_record(out: Path, split: str) -> Record | None:
    """Read how the results of a split in `out` were made; None without a record.

    Raises FileError if the record cannot be read, FormatError if it is broken or another split's.
    """
    record = _read(record_path(out, split), Record)
    if record and record.split != split:
        raise FormatError(
            f"{one_line(record_path(out, split))}: is the record of split "
            f"{_value_text(record.split)!a}, expected that of '{split}': the results beside it may "
            "be that split's too, give another folder"
        )
    return record


def read_scores_record(scores: Path) -> ScoresRecord | None:
    """Read how a folder of coarse scores was made, as `read_record` does."""
    return _read(scores_record_path(scores), ScoresRecord)


def write_or_compare(path: Path, wanted: Mapping[str, Any], is_begun: bool) -> None:
    """Write the record of work that starts, or compare with the record of work that `is_begun`.

    wanted: plain data by field. A model and weights of other names are no difference: what they
    hold is compared. Raises ArgumentError for a difference, naming the first, and for begun work
    without a record; and what `read_record` raises.
    """
    if is_begun:
        _compare(path, wanted)
        return
    if path.exists() and (_read_fields(path) or {}).keys() != wanted.keys():
        raise _broken(path)
    with write_atomically(path) as file:
        file.write(json.dumps(wanted, indent=1).encode())


def _compare(path: Path, wanted: Mapping[str, Any]) -> None:
    there = _read_fields(path)
    if there is None:
        raise ArgumentError(
            f"{one_line(path.parent)}: holds results but no {path.name}, which says how they were "
            "made: give another folder"
        )
    for name, value in wanted.items():
        if name not in _NAMES and there.get(name) != value:
            raise ArgumentError(
                f"{one_line(path)}: was made with {name} {_text(name, there)}, not with "
                f"{_text(name, wanted)}: give another folder"
            )


def _text(name: str, record: Mapping[str, Any]) -> str:
    """A field of a record in words; of a file's digest the beginning, and the file's name."""
    if not name.endswith("_sha256"):
        return _value_text(record.get(name))
    begin = _value_text(record.get(name))[:_SHOWN_OF_DIGEST]
    called = record.get("model" if name == "net_sha256" else name.removesuffix("_sha256"))
    return f"{begin} ({_value_text(called)})" if called else begin


def _value_text(value: object) -> str:
    if isinstance(value, dict):  # the CRF's parameters
        return ",".join(map(_value_text, value.values()))
    text = "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
    return one_line(text, _LONGEST_SHOWN)


_AnyRecord = TypeVar("_AnyRecord", bound=NetRecord)


def _read(path: Path, kind: type[_AnyRecord]) -> _AnyRecord | None:
    values = _read_fields(path)
    if values is None:
        return None
    try:
        if values.get("crf"):
            values["crf"] = CrfParams(**values["crf"])
        if not isinstance(values.get("trained_on"), str | None):
            raise TypeError
        return kind(**values)
    except (DeepLabError, TypeError) as error:
        raise _broken(path) from error


def _read_fields(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    if path.is_file() and not path.stat().st_size:
        raise _broken(path)
    with open_to_read(path) as (file, _):
        content = file.read(_MOST_BYTES)
    try:
        values = json.loads(content)
    except (RecursionError, ValueError) as error:
        raise _broken(path) from error
    if not isinstance(values, dict):
        raise _broken(path)
    return values


def _broken(path: Path) -> FormatError:
    return FormatError(
        f"{one_line(path)}: is broken, or another program's: remove it with the results beside "
        "it, or give another folder"
    )


def _parts(name: str) -> set[str]:
    """The parts of the data set that a list consists of, as train and val for trainval_aug."""
    return {"train": {"train"}, "val": {"val"}, "trainval": {"train", "val"}}.get(
        name.removesuffix("_aug"), set()
    )
