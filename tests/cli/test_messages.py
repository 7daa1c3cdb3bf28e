"""What messages tell the user to type is there to be typed."""

import ast
import re
from pathlib import Path

import deeplab_repro
from deeplab_repro.cli import all_arguments
from deeplab_repro.cli.parser import commands_of

PACKAGE = Path(deeplab_repro.__file__).parent

# Options of pip's and of a container's, and a name in a page's style.
OTHERS = {"--force-reinstall", "--upgrade", "--index-url", "--gpus", "--at"}


def texts(path):
    """The string literals of a file, its docstrings too; what is put into them is left out."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_commands_and_options_that_texts_name_exist():
    program = all_arguments()
    commands = set(program.parts)
    options = {option for command in commands_of(program) for option in command.options}
    options |= {*program.options, *OTHERS}
    unknown, seen = [], set()
    # In show/ are style sheets, whose variables are written as options are.
    for path in sorted({*PACKAGE.rglob("*.py")} - {*(PACKAGE / "show").iterdir()}):
        for text in texts(path):
            words = {*re.findall(r"(?<![\w(-])--[a-z][\w-]*[a-z\d](?![\w%-])", text)}
            seen |= words
            unknown += [(path.name, word) for word in words - options]
            named = re.findall(r"\b(?:run|see|and) deeplab-repro ([a-z]+)", text)
            unknown += [(path.name, word) for word in named if word not in commands]
    assert unknown == []
    assert len(seen) > 40
