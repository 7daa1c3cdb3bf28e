"""Completion of commands, options, models' names and files in a shell, by argcomplete."""

import os
from pathlib import Path

from deeplab_repro.cli.parser import Parser, commands_of

_ASKED = "_ARGCOMPLETE"  # set by the shell that asks


def complete(program: Parser) -> None:
    """Answer a shell that asks what may come next, and end; nothing in an ordinary run."""
    if _ASKED not in os.environ:
        return
    import argcomplete

    from deeplab_repro.cli.segment import OUTPUTS
    from deeplab_repro.models.registry import MODELS

    files = argcomplete.FilesCompleter()

    def names(**_: object) -> list[str]:
        return list(MODELS)

    def names_and_files(prefix: str, **_: object) -> list[str]:
        return [*MODELS, *files(prefix)]

    def outputs(prefix: str, **_: object) -> list[str]:
        begun = prefix[: prefix.rfind(",") + 1]  # a list with commas
        return [begun + each for each in OUTPUTS]

    # By the names under which the arguments are kept.
    completers = {
        "save": outputs,
        "model": names,
        "models": names,
        "name": names,
        "file": names_and_files,
        "weights": names_and_files,
    }
    for command in commands_of(program):
        for action in command.arguments:
            if action.dest in completers and action.type is not Path:
                action.completer = completers[action.dest]  # type: ignore[attr-defined]
    argcomplete.autocomplete(program, always_complete_options="long")
