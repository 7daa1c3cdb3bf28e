"""The paper's figure 7: photos with labels before and after the CRF, and the true labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deeplab_repro.arrays import UInt8, in_brief
from deeplab_repro.files.images import read_image, read_labels
from deeplab_repro.paper.reproduce import Run, results_of
from deeplab_repro.paper.tables import VAL, Measured, Outcomes
from deeplab_repro.voc.devkit import Devkit

N_SHOWN = 8
"""How many images are shown at most."""


@dataclass(frozen=True, eq=False)
class Panel:
    """One image: its id, the photo (HxWx3 uint8 RGB), and three label pictures (HxW uint8)."""

    name: str
    photo: UInt8
    net: UInt8
    with_crf: UInt8
    truth: UInt8

    __repr__ = in_brief


@dataclass(frozen=True)
class Figure7:
    """Panels of one model, and the paper's names for it without and with the CRF."""

    net: str
    with_crf: str
    panels: list[Panel]


def make_figure7(
    devkit: Devkit, runs: Sequence[Run], outcomes: Outcomes, out: Path
) -> Figure7 | None:
    """Show the best model of those measured on val without and with the CRF; None without one.

    The images are spread evenly over those with results. Raises what reading pictures raises.
    """
    scores = {
        run: outcome.scores.mean_iou
        for run in runs
        if run.split == VAL and isinstance(outcome := outcomes[run.method, run.split], Measured)
    }
    pairs = [
        (scores[crf], net, crf)
        for net in scores
        for crf in scores
        if net.model == crf.model and not net.with_crf and crf.with_crf
    ]
    if not pairs:
        return None
    _, net, crf = max(pairs, key=lambda pair: pair[0])
    folders = (results_of(devkit, net, out), results_of(devkit, crf, out))
    names = [
        name
        for name in devkit.ids(VAL)
        if all((folder / f"{name}.png").is_file() for folder in folders)
    ]
    count = min(N_SHOWN, len(names))
    shown = [names[index * len(names) // count] for index in range(count)]
    return Figure7(net.method, crf.method, [_panel(devkit, name, *folders) for name in shown])


def _panel(devkit: Devkit, name: str, net: Path, with_crf: Path) -> Panel:
    return Panel(
        name,
        read_image(devkit.photo(name)),
        read_labels(net / f"{name}.png"),
        read_labels(with_crf / f"{name}.png"),
        devkit.read_mask(name),
    )
