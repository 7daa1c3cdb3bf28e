"""deeplab-repro models: which models there are, and where their weights are."""

import argparse
import json
from typing import TYPE_CHECKING

from deeplab_repro.cli.console import print_table, table_console
from deeplab_repro.errors import one_line

if TYPE_CHECKING:
    from deeplab_repro.models.facts import Facts

Lines = list[tuple[str, str]]
"""Of a label and what it says."""

# By the state of weights in `models.facts`, the best first.
_TOLD = {
    "shipped": "shipped",
    "fetched": "fetched",
    "damaged": "damaged",
    "not here": "to be fetched",
}


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command's arguments."""
    parser = commands.add_parser(
        "models",
        help="the models: size, scores, and where their weights are",
        description="List the models with their number of parameters, their field of view and "
        "stride in pixels, their published mean IOU on val (alone, and with the CRF), and whether "
        "their weights are here. Or tell all about one.",
    )
    parser.add_argument("name", metavar="NAME", nargs="?", help="the one to tell about")
    parser.add_argument("--json", action="store_true", help="print JSON, with all that is known")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the table, or one model's facts."""
    from deeplab_repro.models.facts import all_facts, facts_of
    from deeplab_repro.models.registry import get_model

    if arguments.name is None:
        models = all_facts()
        if arguments.json:
            print(json.dumps(models, indent=1))
        else:
            _print_all(models)
        return 0
    facts = facts_of(get_model(arguments.name))
    if arguments.json:
        print(json.dumps(facts, indent=1))
    else:
        _print_one(facts)
    return 0


def _print_all(models: "list[Facts]") -> None:
    heading = ["model", "weights", "size", "view", "stride", "val", "+ CRF"]
    rows = [
        [
            facts["name"],
            _weights_told(facts),
            _millions(facts),
            str(facts["field_of_view"] or ""),
            f"{facts['stride']:g}",
            _score(facts["val_mean_iou"]),
            _score(facts["val_mean_iou_crf"]),
        ]
        for facts in models
    ]
    print_table(heading, rows, left=2)
    fetched = [
        f"{facts['name']}: {weights['path']}"
        for facts in models
        for weights in facts["weights"]
        if weights["state"] == "fetched"
    ]
    console = table_console()
    for text in (
        *fetched,
        "size: parameters; view: field of view, pixels; val: published mean IOU, percent",
        "deeplab-repro models NAME tells more of one, and how to get its weights",
    ):
        console.print(one_line(text), soft_wrap=True)


def _weights_told(facts: "Facts") -> str:
    """Where a model's weights are, in a word or two; the best of what there is."""
    states = [weights["state"] for weights in facts["weights"]]
    return next((told for state, told in _TOLD.items() if state in states), "not released")


def _print_one(facts: "Facts") -> None:
    lines = [("model", facts["name"]), *_net_lines(facts), *_score_lines(facts)]
    lines += [(f"{what} file", path) for what, path in facts["prototxt"].items()]
    lines += [("weights", _place_of(weights)) for weights in facts["weights"]]
    if not facts["weights"]:
        lines.append(("weights", "none were released"))
    lines += [("get them by", command) for command in _fetching(facts)]
    lines.append(("run it by", _running(facts)))
    console = table_console()
    for label, value in lines:
        console.print(one_line(f"{label:<14} {value}"), soft_wrap=True)


def _net_lines(facts: "Facts") -> Lines:
    crf = facts["crf"]
    knows = "photos" if facts["knows"] == "photos" else "drawn scenes only"
    view = facts["field_of_view"]  # None where branches at several scales meet
    return [
        ("knows", f"{knows}, {facts['labels']} labels"),
        ("parameters", f"{facts['parameters']:,} ({_millions(facts)})"),
        *([("field of view", f"{view} pixels")] if view else []),
        ("stride", f"{facts['stride']:g} pixels"),
        ("CRF", ", ".join(f"{key} {value:g}" for key, value in crf.items()) if crf else "none"),
    ]


def _score_lines(facts: "Facts") -> Lines:
    lines = [
        ("val mean IOU", _score(facts["val_mean_iou"]), "alone"),
        ("val mean IOU", _score(facts["val_mean_iou_crf"]), "with the CRF"),
        ("test mean IOU", _score(facts["test_mean_iou_crf"]), "with the CRF"),
    ]
    told = [(label, f"{score} {how}, as published") for label, score, how in lines if score]
    row = facts["table2"]
    if row:
        kernel = "x".join(map(str, row["kernel"]))
        told.append(
            (
                "in table 2",
                f"kernel {kernel}, input stride {row['input_stride']}, field of view "
                f"{row['receptive_field']}, {row['parameters_millions']}M parameters",
            )
        )
    return told


def _place_of(weights: "Facts") -> str:
    return {
        "shipped": f"{weights['path']}, which comes with the package",
        "fetched": f"{weights['path']}, of {weights['training_set']}",
        "damaged": weights["problem"],
        "not here": f"{weights['file']}, of {weights['training_set']}: not here",
    }[weights["state"]]


def _fetching(facts: "Facts") -> list[str]:
    """The commands that get what of a model's weights is not here."""
    ways = ("", " --train2")  # in the order of the weights
    return [
        f"deeplab-repro fetch {facts['name']}{way}"
        for way, weights in zip(ways, facts["weights"], strict=False)
        if weights["state"] in ("not here", "damaged")
    ]


def _running(facts: "Facts") -> str:
    weights = "" if facts["weights"] else " --weights F.caffemodel"
    crf = "" if facts["crf"] else " --no-crf"
    return f"deeplab-repro segment photo.jpg --model {facts['name']}{weights}{crf}"


def _millions(facts: "Facts") -> str:
    return f"{facts['parameters'] / 1e6:.1f}M"


def _score(percent: float | None) -> str:
    return "" if percent is None else f"{percent:.2f}"
