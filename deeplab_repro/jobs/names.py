"""What the results of each photo are called, so that those of no two photos clash."""

import os
import re
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import count, takewhile
from pathlib import Path

from deeplab_repro.files.targets import ignores_case
from deeplab_repro.models.registry import VOC_CLASSES


def result_names(folders: Mapping[Path, str], out: Path) -> dict[Path, str]:
    """The names of photos' results in the folder `out`, to which endings are added.

    It is the photo's name without its ending: of a.jpg "a", for a.png, a.overlay.jpg and so on.
    Where another photo has the same, or it is that of a cutout of another, the ending stays:
    "a.jpg", for a.jpg.png. If that does not help, the folders come before it that the photos do not
    have in common; and a number behind it, where upper and lower case are one. The names depend on
    the photos only, and not on their order.

    folders: by photo, the subfolder of `out` that its results go to, or "".
    """
    fold = str.casefold if ignores_case(out) else str
    ladders = _ladders(folders)
    rungs = dict.fromkeys(ladders, 0)
    while True:
        names = {path: ladder[rungs[path]] for path, ladder in ladders.items()}
        taken = Counter(map(fold, names.values()))
        climbing = [
            path
            for path, name in names.items()
            if _clashes(name, taken, fold) and rungs[path] + 1 < len(ladders[path])
        ]
        if not climbing:
            return _numbered(names, fold)
        for path in climbing:
            rungs[path] += 1


def named_in_full(names: Mapping[Path, str]) -> list[str]:
    """The names that are longer than their photos' without endings, as these clash with others."""
    return [name for path, name in names.items() if os.path.basename(name) != path.stem]


def slug(class_name: str) -> str:
    """A class's name as a part of a file's: "tv/monitor" is "tv-monitor"."""
    return re.sub(r"[^a-z0-9]+", "-", class_name.lower()).strip("-")


_CUTOUT = re.compile(rf"\.(class-\d+|{'|'.join(map(slug, VOC_CLASSES))})\Z", re.IGNORECASE)


def _ladders(folders: Mapping[Path, str]) -> dict[Path, list[str]]:
    """By photo, the names that its results may have, from the shortest to one that is its own."""
    full = {path: Path(os.path.abspath(path)).parts for path in folders}
    levels = zip(*(parts[:-1] for parts in full.values()), strict=False)
    common = max(1, sum(1 for _ in takewhile(lambda level: len({*level}) == 1, levels)))
    return {
        path: [
            os.path.join(folder, path.stem),
            os.path.join(folder, path.name),
            os.path.join(*full[path][common:]),
        ]
        for path, folder in folders.items()
    }


def _clashes(name: str, taken: Counter[str], fold: Callable[[str], str]) -> bool:
    """Whether another's labels, or a cutout of another, would have the same name."""
    whole = _CUTOUT.sub("", name)
    return taken[fold(name)] > 1 or (whole != name and taken[fold(whole)] > 0)


def _numbered(names: dict[Path, str], fold: Callable[[str], str]) -> dict[Path, str]:
    """The names, with a number behind those that are still the same."""
    taken = set(map(fold, names.values()))
    first: set[str] = set()
    for path in sorted(names):
        name = names[path]
        if fold(name) in first:
            numbered = (f"{name}-{number}" for number in count(2))
            names[path] = next(each for each in numbered if fold(each) not in taken)
            taken.add(fold(names[path]))
        first.add(fold(name))
    return names
