"""Options that several commands share, and what is made of them."""

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from deeplab_repro.engines import ENGINES
from deeplab_repro.errors import DeepLabError
from deeplab_repro.machine.device import DEVICES, PRECISIONS

if TYPE_CHECKING:
    from deeplab_repro.crf.params import CrfParams
    from deeplab_repro.segmenter import Recipe
    from deeplab_repro.voc.devkit import Devkit
    from deeplab_repro.work.workers import Workers


def add_variables(parser: argparse.ArgumentParser) -> None:
    """--set KEY=VALUE, collected in a dict."""
    parser.add_argument(
        "--set",
        dest="variables",
        metavar="KEY=VALUE",
        type=_assignment,
        action="append",
        default=[],
        help="replace ${KEY} in the prototxt (default: EXP=voc12, NUM_LABELS=21)",
    )


def _assignment(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key.isidentifier():
        raise argparse.ArgumentTypeError(f"'{text}' is not KEY=VALUE")
    return key, value


def variables_of(arguments: argparse.Namespace) -> dict[str, str]:
    """The values of --set; warns of those that the net's prototxt does not have."""
    from deeplab_repro.convert.converted import may_hold_net

    given, model = dict(arguments.variables), model_of(arguments)
    if given and model and not may_hold_net(model):
        from deeplab_repro.caffe import warn_of_unused
        from deeplab_repro.models.loading import prototxt_of

        warn_of_unused(given, prototxt_of(model))
    return given


def add_photos(parser: argparse.ArgumentParser) -> None:
    """IMAGE... and --recursive, for `finding.find_photos`."""
    parser.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help='a picture, a folder of pictures, or a pattern ("*.jpg")',
    )
    parser.add_argument(
        "--recursive",
        action="store_true",
        help="go through subfolders too; the results are in the same subfolders",
    )


def add_force(parser: argparse.ArgumentParser, also: str = "") -> None:
    """--force, for `check_targets`. also: what else it does."""
    parser.add_argument(
        "--force",
        action="store_true",
        help=f"{also}replace files that deeplab-repro did not make, but never one that it reads",
    )


def add_iterations(parser: argparse.ArgumentParser) -> None:
    """--iterations N."""
    parser.add_argument(
        "--iterations",
        metavar="N",
        type=whole_number(0),
        default=10,
        help="of the CRF (default: %(default)s)",
    )


def whole_number(least: int, most: int = 999_999_999) -> Callable[[str], int]:
    """What reads a whole number in a range; most: nine digits at most."""

    def read(text: str) -> int:
        is_number = text.isdecimal() and text.isascii() and len(text) < 10
        if not (is_number and least <= int(text) <= most):
            raise argparse.ArgumentTypeError(
                f"'{text}' is not a whole number from {least} to {most}"
            )
        return int(text)

    return read


def add_device(parser: argparse.ArgumentParser, what: str, auto: str) -> None:
    """--device auto|cpu|cuda."""
    parser.add_argument(
        "--device",
        choices=DEVICES,
        default="auto",
        help=f"where the {what} runs (default: auto, {auto})",
    )


def add_engine(parser: argparse.ArgumentParser) -> None:
    """--engine auto|opencv|onnxruntime|openvino and --precision float32|float16|bfloat16."""
    parser.add_argument(
        "--engine",
        choices=ENGINES,
        default="auto",
        help="what runs the net (default: auto, on the CPU the fastest of those installed)",
    )
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="float32",
        help="of the net's arithmetic; float16 is for CUDA, bfloat16 for OpenVINO on CPUs that "
        "have it (default: %(default)s)",
    )


def add_tile(parser: argparse.ArgumentParser) -> None:
    """--tile auto|never|PIXELS."""
    parser.add_argument(
        "--tile",
        metavar="auto|never|PIXELS",
        type=_tile,
        default="auto",
        help="run the net on large photos in tiles of so many pixels a side at most; the labels "
        "are the same (default: auto, where the memory is too small for the whole photo)",
    )


def add_max_side(parser: argparse.ArgumentParser) -> None:
    """--max-side N."""
    parser.add_argument(
        "--max-side",
        metavar="N",
        type=whole_number(1),
        help="scale larger photos down, so that the longer side is N pixels, for net and CRF; the "
        "labels are at full size all the same (default: no limit)",
    )


def _tile(text: str) -> "int | str":
    if text in ("auto", "never"):
        return text
    try:
        return whole_number(1)(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"'{text}' is not auto, never, or a number of pixels from 1"
        ) from None


def add_net(parser: argparse.ArgumentParser, default: str | None) -> None:
    """The net, its weights and its CRF: --model, --prototxt, --weights, --set, --crf, --no-crf."""
    which = parser.add_mutually_exclusive_group()
    parser.set_defaults(default_model=default)
    shown = default or "that of the scores, or else DeepLab-LargeFOV"
    which.add_argument(
        "--model",
        metavar="NAME",
        help=f"a model of the paper (default: {shown})",
    )
    which.add_argument("--prototxt", metavar="F", help="another net, of the authors' or upstream's")
    parser.add_argument(
        "--weights",
        metavar="F",
        help="the caffemodel (default: what was fetched for the model) or a .safetensors, which "
        "may hold its net too; the name of a model that was fetched, or random:SEED to try without "
        "(the labels then mean nothing)",
    )
    add_variables(parser)
    crf = parser.add_mutually_exclusive_group()
    crf.add_argument(
        "--crf",
        metavar="W1,SIGMA_ALPHA,SIGMA_BETA",
        type=_crf,
        default="model",
        help="CRF parameters (default: those published with the model)",
    )
    crf.add_argument("--no-crf", dest="crf", action="store_const", const=None, help="net only")


def _crf(text: str) -> "CrfParams | str":
    # The default: those published with the model.
    return text if text == "model" else crf_params(text)


def model_of(arguments: argparse.Namespace) -> "str | Path | None":
    """The net that was asked for: of --prototxt or --model, or that of the weights' own file."""
    from deeplab_repro.convert.converted import may_hold_net

    if arguments.prototxt or arguments.model:
        return Path(arguments.prototxt) if arguments.prototxt else arguments.model
    if arguments.weights and may_hold_net(arguments.weights):
        return Path(arguments.weights)
    return getattr(arguments, "default_model", None)


def recipe_of(arguments: argparse.Namespace) -> "Recipe":
    """The net, its weights and its CRF that were asked for."""
    from deeplab_repro.segmenter import Recipe

    return Recipe(
        model=model_of(arguments),
        weights=arguments.weights,
        device=arguments.device,
        crf=arguments.crf,
        iterations=arguments.iterations,
        variables=variables_of(arguments),
        precision=arguments.precision,
        engine=arguments.engine,
        tile=arguments.tile,
        max_side=getattr(arguments, "max_side", None),  # predict has none
    )


def files_read(arguments: argparse.Namespace) -> list[Path]:
    """What --model, --prototxt, --weights and --classes name: files that no result overwrites."""
    from deeplab_repro.models.loading import files_of

    classes = getattr(arguments, "classes", None)
    return [
        *files_of(model_of(arguments), arguments.weights),
        *([Path(classes)] if classes else []),
    ]


def add_devkit(parser: argparse.ArgumentParser) -> None:
    """--voc DIR, --split NAME and --classes F, for `devkit_of`."""
    parser.add_argument(
        "--voc", metavar="DIR", required=True, help="a data set in VOCdevkit's layout, as VOC2012"
    )
    parser.add_argument(
        "--split", metavar="NAME", required=True, help="a list in ImageSets/Segmentation, as val"
    )
    parser.add_argument(
        "--classes",
        metavar="F",
        help="names by label, one a line (default: the folder's classes.txt, or else VOC's 21)",
    )


def devkit_of(arguments: argparse.Namespace) -> "Devkit":
    """The data set that was asked for."""
    from deeplab_repro.voc.devkit import open_devkit

    return open_devkit(arguments.voc, arguments.classes)


def add_workers(parser: argparse.ArgumentParser) -> None:
    """--workers N and --scheduler ADDRESS, for `workers_of`."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--workers",
        metavar="N",
        type=whole_number(0, 1024),
        help="processes to share the images among, 0 for none but this (default: one a core); "
        "beside a GPU, threads that read and write",
    )
    where.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="of a Dask cluster to do the work, as tcp://host:8786; it must see the same paths",
    )


def workers_of(arguments: argparse.Namespace) -> "Workers":
    """Who was asked to do the work."""
    from deeplab_repro.work.stages import n_cores
    from deeplab_repro.work.workers import Workers

    processes = n_cores() if arguments.workers is None else arguments.workers
    return Workers(processes, arguments.scheduler)


def read_numbers(parts: Iterable[str]) -> list[float]:
    """Numbers as anybody writes them: of what Python reads, not 1_0 and not other digits than 0-9.

    Raises ValueError.
    """
    texts = list(parts)
    if not all(text.isascii() and "_" not in text for text in texts):
        raise ValueError
    return list(map(float, texts))


def numbers(text: str, names: str) -> list[float]:
    """Numbers with commas between them, one for each of the names."""
    try:
        found = read_numbers(text.split(","))
    except ValueError:
        found = []
    wanted = names.count(",") + 1
    if len(found) != wanted:
        counted = {2: "two", 3: "three"}[wanted]
        raise argparse.ArgumentTypeError(f"'{text}' is not {names} ({counted} numbers)")
    return found


def crf_params(text: str) -> "CrfParams":
    """W1,SIGMA_ALPHA,SIGMA_BETA as parameters; the positional kernel's are the paper's."""
    from deeplab_repro.crf.params import CrfParams

    try:
        return CrfParams(*numbers(text, "W1,SIGMA_ALPHA,SIGMA_BETA"))
    except DeepLabError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def positional(text: str) -> list[float]:
    """W2,SIGMA_GAMMA, the positional kernel's two numbers."""
    return numbers(text, "W2,SIGMA_GAMMA")
