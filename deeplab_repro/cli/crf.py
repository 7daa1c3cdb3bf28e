"""deeplab-repro crf: label probabilities in, label pictures out."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from deeplab_repro.cli.console import progress, say, shares
from deeplab_repro.cli.options import add_device, add_iterations, add_pictures, crf_params, numbers
from deeplab_repro.errors import one_line

if TYPE_CHECKING:
    from deeplab_repro.jobs.refine import Refined


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command's arguments."""
    parser = commands.add_parser(
        "crf",
        help="refine label probabilities with the dense CRF alone",
        description="Refine label probabilities with the dense CRF. For several pictures, --probs, "
        "--out and --marginals are folders.",
    )
    add_pictures(parser)
    parser.add_argument(
        "--probs",
        metavar="F",
        type=Path,
        required=True,
        help="the label probabilities: .npy or .npz (CxHxW), the original's .bin, or scores in "
        "the original's .mat; or a folder of such, <stem>.npy and so on",
    )
    parser.add_argument(
        "--out",
        metavar="LABELS.png",
        type=Path,
        required=True,
        help="for the labels, an indexed PNG with the VOC palette; or a folder",
    )
    parser.add_argument(
        "--marginals",
        metavar="F.npy",
        type=Path,
        help="for the probabilities after the CRF; or a folder",
    )
    parser.add_argument(
        "--crf",
        metavar="W1,SIGMA_ALPHA,SIGMA_BETA",
        type=crf_params,
        default="4,121,5",
        help="the bilateral kernel (default: %(default)s, DeepLab-LargeFOV's)",
    )
    parser.add_argument(
        "--positional",
        metavar="W2,SIGMA_GAMMA",
        type=_positional,
        default="3,3",
        help="the positional kernel (default: %(default)s, as throughout the paper)",
    )
    add_iterations(parser)
    add_device(parser, "CRF", "which is the cpu for now")
    parser.set_defaults(run=run)


def _positional(text: str) -> list[float]:
    return numbers(text, "W2,SIGMA_GAMMA")


def run(arguments: argparse.Namespace) -> int:
    """Refine every picture's map; exit status 2 if one of them could not be."""
    from deeplab_repro.jobs.refine import Refined, plan, refine_files
    from deeplab_repro.jobs.segment import find_pictures

    w2, sigma_gamma = arguments.positional
    params = replace(arguments.crf, w2=w2, sigma_gamma=sigma_gamma)
    pictures = find_pictures(arguments.images)
    jobs, without = plan(pictures, arguments.probs, arguments.out, arguments.marginals)
    done, failures = 0, bool(without)
    device = ""
    with progress("refining", len(jobs)) as advance:
        for result in refine_files(jobs, params, arguments.iterations, arguments.device):
            if isinstance(result, Refined):
                print(one_line(row(result)), flush=True)
                done += 1
                device = result.result.device
            else:
                failures = True
                say(f"error: {result.error}")
            advance()
    if without:
        which = f"{without[0]} has" if len(without) == 1 else f"{len(without)} pictures have"
        say(f"error: {which} no map in {arguments.probs}")
    if done:
        bilateral = f"{params.w1:g},{params.sigma_alpha:g},{params.sigma_beta:g}"
        say(f"CRF {bilateral} and {params.w2:g},{params.sigma_gamma:g} ran on {device}")
        say(f"results are in {arguments.out}")
    return 2 if failures else 0


def row(refined: "Refined") -> str:
    """One line about a picture: its size, the time taken, and the labels with their shares."""
    labels, marginals = refined.result.labels, refined.result.marginals
    height, width = labels.shape
    found = shares(labels, len(marginals))
    return f"{refined.path.name}  {width}x{height}  CRF {refined.seconds * 1e3:5.0f} ms  {found}"
