"""deeplab-repro evaluate: score a split's results."""

import argparse
import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from deeplab_repro.cli.console import print_table, progress, say, table_console
from deeplab_repro.cli.options import (
    add_devkit,
    add_force,
    add_workers,
    devkit_of,
    whole_number,
    workers_of,
)
from deeplab_repro.errors import one_line

if TYPE_CHECKING:
    from deeplab_repro.paper.methods import MethodScores
    from deeplab_repro.voc.devkit import Devkit
    from deeplab_repro.voc.evaluate import Evaluation

_CURVES = ("trimap.csv", "trimap.png", "trimap.pdf")
_SHOWN = 20  # of the worst images; the files have all


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command's arguments."""
    parser = commands.add_parser(
        "evaluate",
        help="score a split's results as the authors did: IOU, accuracies, trimap curves",
        description="Score label pictures against the true labels: IOU by class from one confusion "
        "matrix over all images, pixel and class accuracy, and the same near borders.",
    )
    add_devkit(parser)
    parser.add_argument(
        "--results",
        metavar="DIR",
        type=Path,
        required=True,
        help="a folder of label PNGs, ID.png, or the --out of predict",
    )
    parser.add_argument(
        "--trimap",
        metavar="WIDTHS",
        type=_widths,
        default=(),
        help="also score the pixels near borders, up to these widths: 3, 1,2,5, 1:40 for all of "
        "figure 5, or 1:4:40 for every fourth",
    )
    parser.add_argument("--per-image", action="store_true", help="rank the images, the worst first")
    parser.add_argument(
        "--method",
        metavar="NAME",
        help="the method in the paper's tables whose score to show (default: the one that predict "
        "recorded)",
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        type=Path,
        help="write confusion.csv, per_image.csv and evaluation.json there, and with --trimap "
        "figure 5 as trimap.csv, .png and .pdf",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_force(parser)
    add_workers(parser)
    parser.set_defaults(run=run)


def _widths(text: str) -> tuple[int, ...]:
    """N, FIRST:LAST or FIRST:STEP:LAST, or several with commas between them."""
    from deeplab_repro.voc.metrics import MOST_WIDTH

    read = whole_number(1, MOST_WIDTH)
    widths: list[int] = []
    for part in text.split(","):
        try:
            ends = [read(end) for end in part.split(":")]
        except argparse.ArgumentTypeError:
            ends = []
        if not 1 <= len(ends) <= 3 or ends[0] > ends[-1]:
            raise argparse.ArgumentTypeError(
                f"'{text}' is not widths from 1 to {MOST_WIDTH}, as 3, 1,2,5, 1:40 or 1:4:40 "
                "(first:step:last)"
            )
        step = ends[1] if len(ends) == 3 else 1
        widths += range(ends[0], ends[-1] + 1, step)
    return tuple(dict.fromkeys(widths))


def run(arguments: argparse.Namespace) -> int:
    """Score, write, and print the tables."""
    from deeplab_repro.files.targets import check_targets, make_folder
    from deeplab_repro.paper.methods import check_method
    from deeplab_repro.voc.evaluate import OUTPUTS, evaluate, write_evaluation

    devkit = devkit_of(arguments)
    if arguments.method is not None:
        check_method(arguments.method)
    names = (*OUTPUTS, *(_CURVES if arguments.trimap else ()))
    targets = {arguments.out: [arguments.out / name for name in names]} if arguments.out else {}
    results = [arguments.results / f"{name}.png" for name in devkit.ids(arguments.split)]
    read = [*results, *filter(None, (arguments.classes,))]
    check = partial(check_targets, targets, read, arguments.force)
    check()
    evaluation = evaluate(
        devkit,
        arguments.split,
        arguments.results,
        arguments.trimap,
        workers_of(arguments),
        progress,
    )
    paper = _paper(arguments, devkit, evaluation)
    theirs = {"method": paper.method, "mean_iou": paper.mean_iou} if paper else None
    if arguments.json:
        shown = evaluation.as_json(per_image=arguments.per_image)
        print(json.dumps({**shown, "paper": theirs}))
    else:
        _print(evaluation, arguments.split, paper)
        if arguments.trimap:
            _print_trimap(evaluation)
        if arguments.per_image:
            _print_ranking(evaluation)
    if evaluation.trained_on:
        say(
            f"the weights were trained on {evaluation.trained_on}, which has images of "
            f"'{arguments.split}': these scores are inflated"
        )
    if arguments.out:
        check()
        make_folder(arguments.out)
        report = {**evaluation.as_json(per_image=True), "paper": theirs}
        write_evaluation(arguments.out, evaluation, report)
        if arguments.trimap:
            _draw(arguments.out, evaluation, paper)
        say(f"the scores are in {arguments.out}")
    return 0


def _paper(
    arguments: argparse.Namespace, devkit: "Devkit", evaluation: "Evaluation"
) -> "MethodScores | None":
    """The paper's scores of the method that made the results; None if it has none."""
    from deeplab_repro.models.registry import VOC_CLASSES
    from deeplab_repro.paper.methods import method_of, published_scores

    method, record = arguments.method, evaluation.record
    if method is None and record is not None:
        method = method_of(record.model, record.crf is not None)
    found = published_scores(method, arguments.split) if devkit.classes == VOC_CLASSES else None
    if found is None and arguments.method is not None:
        say(f"the paper has no score of {method} on '{arguments.split}' with these classes")
    return found


def _draw(out: Path, evaluation: "Evaluation", paper: "MethodScores | None") -> None:
    from deeplab_repro.paper.figure5 import draw_curves, write_curves
    from deeplab_repro.show.plot import PlotError

    by_predict = evaluation.record.title if evaluation.record else "these results"
    name = paper.method if paper else by_predict
    scores = dict(zip(evaluation.widths, evaluation.trimap_scores, strict=True))
    write_curves(out / "trimap.csv", {name: scores})
    try:
        draw_curves(out / "trimap", {name: scores})
    except PlotError as error:
        say(f"trimap.png and trimap.pdf are not drawn: {error}")


def _print(evaluation: "Evaluation", split: str, paper: "MethodScores | None") -> None:
    """The scores of whole images: a row for each class, and the means."""
    from deeplab_repro.voc.metrics import percent_text

    scores = evaluation.scores
    heading = ["class", "IOU", "accuracy"]
    columns = [
        evaluation.classes,
        map(percent_text, scores.iou),
        map(percent_text, scores.class_accuracy),
    ]
    beside = ""
    if paper:
        beside = (
            f"  paper: {percent_text(paper.mean_iou)} ({paper.method} on PASCAL VOC 2012 {split})"
        )
        if any(paper.iou):
            heading.insert(2, "paper's IOU")
            columns.insert(2, ["" if iou is None else percent_text(iou) for iou in paper.iou])
    total = evaluation.images + len(evaluation.missing)
    console = table_console()
    console.print(f"{evaluation.images} of {total} images of '{one_line(split)}', in percent")
    print_table(heading, zip(*columns, strict=True))
    console.print(f"mean IOU        {percent_text(scores.mean_iou)}{beside}")
    console.print(f"pixel accuracy  {percent_text(scores.pixel_accuracy)}")
    console.print(f"class accuracy  {percent_text(scores.mean_class_accuracy)}")
    if scores.n_present < scores.n_labels:
        console.print(
            f"{scores.n_present} of the {scores.n_labels} classes are in these masks or results: "
            f"the mean IOU over them is {percent_text(scores.mean_iou_of_present)}."
        )
    if evaluation.absent:
        console.print(
            f"{scores.n_labels - len(evaluation.absent)} of the {scores.n_labels} classes are in "
            "these masks: the class accuracy over them is "
            f"{percent_text(scores.mean_class_accuracy_of_present)}."
        )
        absent = one_line(", ".join(evaluation.absent))
        console.print(f"None of these images has {absent}: each counts as 0 in the means.")


def _print_trimap(evaluation: "Evaluation") -> None:
    from deeplab_repro.voc.metrics import percent_text

    scores = evaluation.trimap_scores
    heading = ["trimap width", "mean IOU", "pixel accuracy", "class accuracy"]
    rows = [
        [
            str(width),
            *map(percent_text, (each.mean_iou, each.pixel_accuracy, each.mean_class_accuracy)),
        ]
        for width, each in zip(evaluation.widths, scores, strict=True)
    ]
    lacks_classes = any(each.n_present < each.n_labels for each in scores)
    if lacks_classes:
        heading += ["classes there", "their mean IOU"]
        for row, each in zip(rows, scores, strict=True):
            row += [str(each.n_present), percent_text(each.mean_iou_of_present)]
    print_table(heading, rows)
    if lacks_classes:
        table_console().print("- is not defined: a class has no pixels so near to a border.")


def _print_ranking(evaluation: "Evaluation") -> None:
    from deeplab_repro.voc.metrics import percent_text

    ranking = evaluation.ranking
    rows = [(one_line(name), percent_text(iou)) for name, iou in ranking[:_SHOWN]]
    print_table(["image, the worst first", "mean IOU of its classes"], rows)
    if len(ranking) > _SHOWN:
        rest = f"{len(ranking) - _SHOWN} better ones are in --json, and in --out's per_image.csv."
        table_console().print(rest)
