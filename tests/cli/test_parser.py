"""How arguments are read: what help says at its end, and what errors say of what was meant."""

import itertools
import re
import shlex

import pytest

from deeplab_repro.cli import all_arguments
from deeplab_repro.cli.examples import EXAMPLES
from deeplab_repro.cli.parser import Parser, parse
from deeplab_repro.errors import did_you_mean
from deeplab_repro.files.pictures import write_image


def parsers(parser: Parser):
    """A parser, and those of all its commands."""
    yield parser
    for part in parser.parts.values():
        yield from parsers(part)


PARSERS = {parser.command: parser for parser in parsers(all_arguments())}


def test_there_are_examples_for_every_command_and_no_other():
    assert sorted(EXAMPLES) == sorted(PARSERS)
    assert {len(examples) for examples in EXAMPLES.values()} <= {2, 3}


@pytest.mark.parametrize("name", PARSERS)
def test_help_ends_in_examples_that_parse(name, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    text = PARSERS[name].format_help()
    assert max(map(len, text.splitlines())) <= 80
    end = text.partition("\nexamples:\n")[2]
    lines = re.sub(r" \\\n +", " ", end).splitlines()
    assert len(lines) == len(EXAMPLES[name])
    for line in lines:
        program, *arguments = shlex.split(line)
        assert program == "deeplab-repro"
        found = parse(PARSERS[""], arguments)
        assert line.strip().startswith(f"deeplab-repro {name}".strip())
        assert found.command == (name.split() or arguments)[0]


@pytest.mark.parametrize(
    "example",
    [
        "deeplab-repro segment photo.jpg --model ToyVOC-LargeFOV --out labels --save "
        "overlay,cutout",
        "deeplab-repro models DeepLab-LargeFOV",
        "deeplab-repro convert --model ToyVOC-LargeFOV --to onnx --out toy.onnx --input rgb-uint8",
    ],
)
def test_examples_that_need_nothing_run(command, example, tmp_path, monkeypatch, photo):
    assert example in itertools.chain(*EXAMPLES.values())
    monkeypatch.chdir(tmp_path)
    write_image(tmp_path / "photo.jpg", photo(40, 60))
    status, out, _ = command(*shlex.split(example)[1:])
    assert status == 0
    assert out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("segmnt a", "invalid choice: 'segmnt'; did you mean segment? (see deeplab-repro --help)"),
        ("EVALUATE", "did you mean evaluate?"),
        ("bench ne", "PART: invalid choice: 'ne', expected one of crf, net (see deeplab-repro b"),
        (
            "segment --weigths x a",
            "segment: error: there is no option --weigths; did you mean --weights? (see "
            "deeplab-repro segment --help)",
        ),
        ("segment --weigths=x a", "there is no option --weigths; did you mean --weights?"),
        ("segment --weigths", "there is no option --weigths; did you mean --weights?"),
        ("segment a -weights x", "there is no option -weights; did you mean --weights?"),
        ("predict --vocc x", "there is no option --vocc; did you mean --voc?"),
        ("segment a --xyz", "there is no option --xyz (see deeplab-repro segment --help)"),
        (
            "segment --s x a",
            "--s may be --set or --save or --skip-existing: write more of it",
        ),
        ("segment a --trimap 3", "--trimap is an option of evaluate, not of segment (see"),
        ("evaluate --scores x", "--scores is an option of predict, crossval, not of evaluate"),
        ("--voc x predict", "--voc is an option of predict, evaluate, crossval, paper: write it"),
        ("bench --threads 3 net", "--threads is an option of bench net: write it after the com"),
        ("--verison", "there is no option --verison; did you mean --version? (see deeplab-repro -"),
        (
            "segment a --device gpu",  # cpu, which is near, is not meant
            "--device: invalid choice: 'gpu', expected one of auto, cpu, cuda (see "
            "deeplab-repro segment --help)",
        ),
        ("convert --to onxx --out a", "--to: invalid choice: 'onxx'; did you mean onnx? (see"),
        (
            "convert --to xyz --out a",
            "invalid choice: 'xyz', expected one of caffe, onnx, ",
        ),
        ("segment a --save overly", "did you mean overlay? (see deeplab-repro segment --help)"),
        ("doctor extra", "doctor: error: unrecognized arguments: extra (see deeplab-repro doctor"),
        ("segment", "segment: error: the following arguments are required: IMAGE (see"),
    ],
)
def test_what_was_meant(refused, arguments, said):
    assert said in refused(*arguments.split(" "))


def test_what_is_no_wrong_option(command):
    """Abbreviations, numbers, and what comes after --help or -- or holds a blank are fine."""
    assert command("segment", "--help", "--xyz")[0] == 0
    read = parse(PARSERS[""], ["crossval", "--voc", "a", "--spl", "b", "--sco=c", "--out", "-1"])
    assert (read.split, str(read.scores), str(read.out)) == ("b", "c", "-1")
    read = parse(PARSERS[""], ["segment", "--no-crf", "--a photo", "--", "--odd.jpg"])
    assert read.images == ["--a photo", "--odd.jpg"]


def test_did_you_mean():
    known = ["DeepLab-LargeFOV", "DeepLab-MSc-LargeFOV", "DeepLabv2-ResNet101"]
    assert did_you_mean("deeplab-largefow", known[::2]) == "; did you mean DeepLab-LargeFOV?"
    assert did_you_mean("deeplab-largefov", known) == "; did you mean DeepLab-LargeFOV?"
    assert did_you_mean("resnet", known) == "; did you mean DeepLabv2-ResNet101?"
    assert did_you_mean("xyz", known) == did_you_mean("", known) == did_you_mean("x", []) == ""
    assert did_you_mean("x" * 10_000_000, known) == ""
