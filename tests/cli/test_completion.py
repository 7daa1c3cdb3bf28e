"""Completion in bash, as the documentation sets it up: what a Tab would offer."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from deeplab_repro.models.registry import MODELS

pytest.importorskip("argcomplete", reason="the extra 'completion' is not installed")

PAGE = Path(__file__).resolve().parents[2] / "docs" / "commands.md"

# A Tab at the end of each LINE: what bash would ask, and what is offered, a line for each.
TABS = """
%s
complete -p deeplab-repro | grep -q _python_argcomplete || exit 3
COMP_TYPE=9 COMP_WORDBREAKS=$' \\t\\n"><=;|&(:'
while IFS= read -r LINE; do
    COMP_LINE=$LINE COMP_POINT=${#LINE} COMPREPLY=()
    read -ra COMP_WORDS <<< "$LINE"
    [[ $LINE == *' ' ]] && COMP_WORDS+=('')
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    _python_argcomplete deeplab-repro "${COMP_WORDS[-1]}" "${COMP_WORDS[-2]}"
    echo "${COMPREPLY[@]}"
done
"""


@pytest.fixture
def tabs(tmp_path, monkeypatch):
    """Press Tab after each line, in a folder with two files: the sets of what is offered."""
    set_up = re.search(
        r'^eval "\$\(register-python-argcomplete .*$', PAGE.read_text(), re.MULTILINE
    )
    scripts = {
        "deeplab-repro": "from deeplab_repro.cli import command as main",
        "register-python-argcomplete": "from argcomplete.scripts."
        "register_python_argcomplete import main",
    }
    for name, code in scripts.items():
        script = tmp_path / "bin" / name
        script.parent.mkdir(exist_ok=True)
        script.write_text(f"#!{sys.executable}\n{code}\nmain()\n")
        script.chmod(0o755)
    work = tmp_path / "work"
    (work / "photos").mkdir(parents=True)
    (work / "train.caffemodel").touch()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")

    def press(lines):
        done = subprocess.run(
            ["bash", "-c", TABS % set_up[0]],
            cwd=work,
            input="".join(f"{line}\n" for line in lines),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return [set(line.split()) for line in done.stdout.splitlines()]

    return press


def test_tab(tabs):
    expected = {
        "deeplab-repro bench ": {"crf", "net", "--help"},
        "deeplab-repro segment --we": {"--weights"},
        "deeplab-repro segment --engine o": {"opencv", "onnxruntime", "openvino"},
        "deeplab-repro segment --model ": set(MODELS),
        "deeplab-repro segment --weights t": {"train.caffemodel"},
        "deeplab-repro segment --save overlay,pr": {"overlay,probs"},
        "deeplab-repro inspect ToyVOC-L": {"ToyVOC-LargeFOV"},
        "deeplab-repro segment ph": {"photos/"},
    }
    assert dict(zip(expected, tabs(expected), strict=True)) == expected
