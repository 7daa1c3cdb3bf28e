"""deeplab-repro crf: label probabilities in, label pictures out."""

import argparse
from dataclasses import replace
from pathlib import Path

from deeplab_repro.cli.console import print_photos, say, say_clashes
from deeplab_repro.cli.options import (
    add_device,
    add_force,
    add_iterations,
    add_photos,
    crf_params,
    positional,
)


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command's arguments."""
    parser = commands.add_parser(
        "crf",
        help="refine label probabilities with the dense CRF alone",
        description="Refine label probabilities with the dense CRF. For several pictures, --probs, "
        "--out and --marginals are folders.",
    )
    add_photos(parser)
    parser.add_argument(
        "--probs",
        metavar="F",
        type=Path,
        required=True,
        help="the label probabilities or a net's scores: .npy or .npz (CxHxW or HxWxC, at the "
        "photo's size or on a coarse grid), the original's .bin, or scores in the original's .mat; "
        "or a folder of such, photo.npy for photo.jpg and so on",
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
        type=positional,
        default="3,3",
        help="the positional kernel (default: %(default)s, as throughout the paper)",
    )
    add_iterations(parser)
    add_device(parser, "CRF", "which is the cpu for now")
    add_force(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Refine the probabilities of every photo; exit status 2 if some could not be."""
    from deeplab_repro.jobs.finding import find_photos
    from deeplab_repro.jobs.names import result_names
    from deeplab_repro.jobs.refine import plan, refine_files

    w2, sigma_gamma = arguments.positional
    params = replace(arguments.crf, w2=w2, sigma_gamma=sigma_gamma)
    found = find_photos(arguments.images, arguments.recursive)
    names = result_names(found.folders, arguments.out)
    jobs, without = plan(
        names, arguments.probs, arguments.out, arguments.marginals, arguments.force
    )
    say_clashes(names)
    for photo in without:
        del found.folders[photo]
    photos = refine_files(jobs, params, arguments.iterations, arguments.device, arguments.force)
    told = print_photos("refining", found, photos)
    last = told.last
    if without:
        told.failed += len(without)
        which = f"{without[0]} has" if len(without) == 1 else f"{len(without)} photos have"
        say(f"error: {which} no probabilities in {arguments.probs}")
    if last and last.segmentation and last.segmentation.refined:
        bilateral = f"{params.w1:g},{params.sigma_alpha:g},{params.sigma_beta:g}"
        device = last.segmentation.refined.device
        say(f"CRF {bilateral} and {params.w2:g},{params.sigma_gamma:g} ran on {device}")
        say(f"results are in {arguments.out}")
    told.say()
    return 2 if told.failed else 0
