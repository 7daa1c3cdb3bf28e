"""Options that several commands share."""

import argparse
import sys


def one_line(text: str) -> str:
    """The text without line breaks and terminal codes, which file and layer names may hold."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def say(text: str) -> None:
    """Tell the user something on stderr, where results never are."""
    print(f"deeplab-repro: {one_line(text)}", file=sys.stderr, flush=True)


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
