"""Options that several commands share."""

import argparse


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
