"""The text format: what it accepts, what it says about the rest, and our own text read back."""

import logging
import math
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deeplab_repro.caffe import parse_solver, prototxt_text, read_net, write_prototxt
from deeplab_repro.caffe.prototxt import parse_prototxt, warn_of_unused
from deeplab_repro.errors import FileError, NetError
from deeplab_repro.models.registry import MODELS
from tests.caffe.caffe_files import (
    GOLDEN,
    INPUT,
    ROOT,
    check_mutations,
    current,
    golden,
    nets,
    refused,
    survives,
    v1,
)
from tests.conftest import PAPER

RELU = v1("RELU")


def test_variables_that_are_in_no_file(tmp_path, caplog):
    net, solver = tmp_path / "net", tmp_path / "solver"
    net.write_text("name: '${EXP}' # ${NUM_LABELS}")
    solver.write_text("net: '${NET_ID}'")
    warn_of_unused(["EXP", "NET_ID", "NUM_LABELS"], net, solver)
    warn_of_unused([], tmp_path / "not read")
    assert not caplog.messages
    warn_of_unused(["NUM_LABEL"], net, solver)
    assert caplog.messages == [
        f"--set NUM_LABEL changes nothing: there is no ${{NUM_LABEL}} in {net} or {solver}, only "
        "${EXP}, ${NET_ID}, ${NUM_LABELS}; did you mean NUM_LABELS?"
    ]


def parsed(tmp_path, text: str | bytes, **variables: str):
    path = tmp_path / "net.prototxt"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return parse_prototxt(path, variables)


# --- what is accepted


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("input_dim: 1 input_dim: 2", [1, 2]),
        ("input_dim: [1, 2]", [1, 2]),
        ("input_dim: []", []),
        ("input_dim: 1; input_dim: 2,", [1, 2]),
        ('input_dim\t:\t1 # a comment { " $\n\tinput_dim: 2', [1, 2]),
        ("input_dim: 1\r\ninput_dim: 2\r\n", [1, 2]),
        ("# caf\u00e9 \u4e2d\u6587\ninput_dim: 7", [7]),
        ("\ufeffinput_dim: 7", [7]),
        ("input_dim: 0x1F input_dim: 017 input_dim: -0x10 input_dim: - 3", [31, 15, -16, -3]),
        ("input_dim: 2147483647 input_dim: -2147483648", [2**31 - 1, -(2**31)]),
        ("input_dim: ${SIDE}", [65]),
    ],
)
def test_whole_numbers_and_the_blanks_around_them(tmp_path, text, expected):
    assert list(parsed(tmp_path, text + "\n" + RELU, SIDE="65").input_dim) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *[("1e-3", 1e-3), (".5", 0.5), ("1.f", 1), ("2F", 2), ("-1.5E+2f", -150), ("3", 3)],
        *[("inf", math.inf), ("-inf", -math.inf), ("- infinity", -math.inf), ("1e-999", 0)],
    ],
)
def test_real_numbers(tmp_path, text, expected):
    net = parsed(tmp_path, v1("RELU", f"relu_param {{ negative_slope: {text} }}"))
    assert net.layers[0].relu_param.negative_slope == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('"a"', "a"),
        ("'a\"b'", 'a"b'),
        ('"a" "b"\n\'c\'', "abc"),
        (r'"\x41\101\n\t\\\'\"\?"', "AA\n\t\\'\"?"),
        (r'"\303\251"', "\u00e9"),
        ('"\u00e9 # no comment"', "\u00e9 # no comment"),
        ('"fc8_${EXP}"', "fc8_voc12"),
        ('"${NET_ID}/${EXP}.txt"', "${NET_ID}/voc12.txt"),
    ],
)
def test_text(tmp_path, text, expected):
    assert parsed(tmp_path, f"name: {text} {RELU}").name == expected


@pytest.mark.parametrize("text", ["true", "t", "True", "1"])
def test_true(tmp_path, text):
    assert parsed(tmp_path, f"force_backward: {text} {RELU}").force_backward


@pytest.mark.parametrize(
    "text",
    [
        "layers { type: RELU include { phase: TEST } include: { phase: 0 } }",
        "layers < type: RELU include: < phase: TEST > include { phase: TRAIN } >",
        "layers: { type: 18 include: [{ phase: TEST }, < phase: TRAIN >] };",
        "layers [{ type: RELU include [{ phase: TEST }, { phase: TRAIN }] }]",
    ],
)
def test_braces_of_both_kinds_and_lists_of_messages(tmp_path, text):
    (layer,) = parsed(tmp_path, text).layers
    assert layer.type == 18
    assert [rule.phase for rule in layer.include] == [1, 0]


def test_unknown_fields_are_left_out_and_named_once(tmp_path, caplog):
    accuracy = "seg_accuracy_param { ignore_label: 255\n reset: false }"
    unknown = f"future {{ reset: 1 deeper < a: [1, {{}}] > }} layers_v9: FAST {v1('RELU')}"
    with caplog.at_level(logging.WARNING):
        net = parsed(tmp_path, v1("SEG_ACCURACY", accuracy) * 2 + unknown)
    assert list(net.layers[0].seg_accuracy_param.ignore_label) == [255]
    (message,) = caplog.messages
    assert message.startswith(f"{tmp_path / 'net.prototxt'}: unknown fields left out: ")
    assert message.endswith(": 'reset' (line 2), 'future' (line 5), 'layers_v9' (line 5)")


def test_a_warning_about_a_thousand_unknown_fields_stays_short(tmp_path, caplog):
    parsed(tmp_path, RELU + "".join(f"x{i}: {i}\n" for i in range(1000)))
    assert caplog.messages[0].endswith("'x9' (line 11), and 990 more")


# --- what is refused, where and how


@pytest.mark.parametrize(
    ("text", "where", "problem"),
    [
        # the grammar
        ("layers {\n  name: 'a'\n", "3:1", "found the end of the file, expected a field or '}'"),
        ("layers {\n  name: 'a' >", "2:13", "found '>', expected a field or '}'"),
        ("layers { } }", "1:12", "found '}', expected a field"),
        ("} layers { }", "1:1", "found '}', expected a field"),
        ("foo { layers { }", "1:17", "found the end of the file"),
        ("layers { name 'a' }", "1:15", "found .*a.*, expected ':' after 'name'"),
        ("layers { name: }", "1:16", "found '}', expected a value for 'name'"),
        ("layers { name:", "1:15", "found the end of the file, expected a value"),
        ("layers { top: ['a', }", "1:21", "found '}', expected a value"),
        ("layers { top ['a'] }", "1:14", "found '.', expected ':' after 'top'"),
        ("layers { top: [[", "1:16", "found '\\['"),
        ("layers { }\n\t@", "2:2", "'@' is not prototxt"),
        ("layers { } /* C */", "1:12", "'/' is not prototxt"),
        ("layers { }\x1b[31m", "1:11", r"'\\x1b' is not prototxt"),
        ("layers { }\u00a0", "1:11", r"'\\xa0' is not prototxt"),
        ("layers { name: 'a\n' }", "1:16", "no closing quote on its line"),
        ("layers { name: 'a\\' }", "1:16", "no closing quote on its line"),
        ("layers { [ext] { } }", "1:10", "found '\\['"),
        ("layers " + "{ a " * 10_000, "1:[0-9]+", "more than 32 messages inside each other"),
        ("a { " * 10_000, "1:[0-9]+", "more than 32 messages inside each other"),
        # values
        ("layers { type: RELUU }", "1:16", "'type' is 'RELUU', expected one of RELU, "),
        ("layers { type: 'RELU' }", "1:16", "expected a value without quotes"),
        ("layers { type: 1\u00b2 }", "1:17", "is not prototxt"),
        ("layers { type: 99 }", "1:16", "'type' is '99', expected one of"),
        ("layers { include { phase: TESTING } }", "1:27", "expected one of TRAIN, TEST$"),
        ("layers { name: RELU }", "1:16", "'name' is 'RELU', expected text in quotes"),
        ("layers { name: '\\xff' }", "1:16", "expected text in UTF-8 with valid escapes"),
        ("layers { name: 'C:\\dir' }", "1:16", "expected text in UTF-8 with valid escapes"),
        ("layers { strict_dim: 2 }", "1:22", "'strict_dim' is '2', expected true or false"),
        ("layers { strict_dim: 'true' }", "1:22", "expected a value without quotes"),
        ("layers { name: 'a' name: 'b' }", "1:20", "'name' is given twice, expected once"),
        ("layers { relu_param: 1 }", "1:22", "'relu_param' takes a message in braces"),
        ("layers { name { } }", "1:15", "'name' takes a value, not a message"),
        ("layers { relu_param { } relu_param { } }", "1:25", "given twice"),
        *[
            (f"layers {{ }} input_dim: {value}", "1:23", f"'input_dim' is '{shown}")
            for value, shown in [
                *[("1.0", "1.0"), ("1e3", "1e3"), ("TRUE", "TRUE"), ("08", "08"), ("0x", "0x")],
                *[
                    ("1x: 2", "1x'"),
                    ("2147483648", ""),
                    ("-2147483649", ""),
                    ("1_0", "1_0"),
                    ("9" * 10**5, "9999"),
                ],
            ]
        ],
        *[
            (f"layers {{ relu_param {{ negative_slope: {value} }} }}", "1:39", expected)
            for value, expected in [
                ("1e999", "'1e999', expected a number up to 3.403e\\+38"),
                ("-1e39", "'-1e39', expected a number up to 3.403e\\+38"),
                *[(value, "expected a number$") for value in ("1.2.3", "0x1p3", "1_0", "fast")],
            ]
        ],
        # variables
        (
            "layers { }\ninput_dim: ${SIDE}",
            "2:12",
            r"variable '\$\{SIDE\}' has no value; .*SIDE=VAL",
        ),
        # the format before V1
        ("layers { layer { name: 'a' type: 'conv' num_output: 9 } }", "1:10", "V0 format of 2013"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_a_mistake_is_named_with_its_place(tmp_path, text, where, problem):
    message = refused(lambda: parsed(tmp_path, text), f":{where}: .*{problem}")
    assert message.startswith(str(tmp_path / "net.prototxt"))


def test_out_of_range_for_unsigned(tmp_path):
    text = v1("CONVOLUTION", "convolution_param { num_output: -1 }")
    refused(lambda: parsed(tmp_path, text), "whole number from 0 to 4294967295")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"\x0a\x07DeepLab\x12\x00\x00", "binary file.*caffemodel in the wrong place"),
        (b"name: '\xff\xfe'", "binary file"),
        ("layers { }".encode("utf-16"), "binary file"),
        (b"# nothing\n", "no layers in it, expected the prototxt of a net"),
        (b"base_lr: 0.1 net: 'a.prototxt'", "this is a solver, expected a net"),
        (b"layers { } layer { }", "both 'layers' .* and 'layer' .* expected one"),
        (b"a" * 5_000_000, "5 MB of text, expected a prototxt of at most 2 MB"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_files_that_are_no_net(tmp_path, text, problem):
    message = refused(lambda: parsed(tmp_path, text), problem)
    assert message.startswith(f"{tmp_path / 'net.prototxt'}: ")


@pytest.mark.parametrize("read", [read_net, parse_solver])
def test_files_that_are_not_there(tmp_path, read):
    (tmp_path / "empty").touch()
    refused(lambda: read(tmp_path / "no\nfile"), r"no\\nfile.*no such file", FileError)
    refused(lambda: read(tmp_path), "is a folder: expected a file", FileError)
    refused(lambda: read(tmp_path / "empty"), "is empty", FileError)


def test_a_strange_file_name_stays_on_one_line(tmp_path, caplog):
    path = tmp_path / "a\nb"
    path.write_text("}")
    refused(lambda: read_net(path), r"a\\nb:1:1: ")
    path.write_text(INPUT + v1("MVN"))
    refused(lambda: read_net(path), r"a\\nb: layer 'y' has type 'MVN'", NetError)
    path.write_text(INPUT + v1("RELU", "new: 1"))
    read_net(path)
    assert caplog.messages[0].isprintable()


# --- solvers


@pytest.mark.parametrize("name", PAPER)
def test_our_solvers(name):
    model = MODELS[name]
    solver, solver2 = (
        parse_solver(model.solver_prototxt),
        parse_solver(model.folder / "solver2.prototxt"),
    )
    assert (solver.base_lr, solver.stepsize, solver.max_iter) == (pytest.approx(1e-3), 2000, 6000)
    assert (solver.momentum, solver.weight_decay) == (pytest.approx(0.9), pytest.approx(5e-4))
    assert (solver.lr_policy, solver.train_net) == ("step", "train.prototxt")
    assert solver2.max_iter >= 8000
    assert solver.snapshot_prefix.startswith("voc12/")


def test_files_that_are_no_solver(tmp_path):
    path = tmp_path / "solver.prototxt"
    path.write_text(INPUT + RELU)
    refused(lambda: parse_solver(path), "this is a net, expected a solver")
    path.write_text("kind: 'x' # nothing that the schema has")
    refused(lambda: parse_solver(path), "no settings in it, expected a solver")


def test_a_file_of_eighteen_thousand_lines_is_read_at_once(tmp_path):
    path = tmp_path / "long.prototxt"
    once = MODELS["DeepLabv2-ResNet101"].test_prototxt.read_text()
    path.write_text(once + once[once.index("layer {") :])
    lines = path.read_text().count("\n")
    start = time.process_time()
    net = parse_prototxt(path)
    assert time.process_time() - start < 2 * lines / 18_000  # 0.2 s are usual for 18,000
    assert len(net.layer) > 2 * 1300


# --- our own text


@settings(max_examples=25, deadline=None, derandomize=True)
@given(net=nets())
def test_any_net_comes_back_from_its_text(tmp_path_factory, net):
    path = tmp_path_factory.mktemp("net") / "net.prototxt"
    for is_current in (False, True):
        write_prototxt(net, path, is_current)
        again = read_net(path)
        assert (again.dialect == "Caffe") == is_current
        net.dialect = again.dialect
        assert again == net


def test_a_net_of_one_dialect_can_be_written_in_the_other(tmp_path):
    path = tmp_path / "net.prototxt"
    concat = 'bottom: "data" concat_param { axis: -3 }'
    path.write_text(INPUT + current("Concat", concat))
    net = read_net(path)
    assert net.output_shape() == (1, 6, 9, 9)
    write_prototxt(net, path)
    assert read_net(path).layers == net.layers


def test_nothing_is_written_where_writing_fails(tmp_path):
    net = read_net(ROOT / "prototxt/DeepLab/test.prototxt")
    refused(lambda: write_prototxt(net, tmp_path / "no/net"), "there is no folder", FileError)
    assert not list(tmp_path.iterdir())


# --- accidents


@settings(
    max_examples=80,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    st.binary(min_size=1, max_size=60)
    | st.text(st.sampled_from("{}<>[]:;,'\"\\#-.0x1ef \nainputlyers_dm$"), min_size=1).map(
        str.encode
    )
)
def test_random_text(tmp_path, text):
    survives(lambda: parsed(tmp_path, text))
    survives(lambda: parsed(tmp_path, b"layers {" + text))


def read_and_write(path: Path) -> list[str]:
    return [prototxt_text(read_net(path), way) for way in (False, True)]


def test_mutations_of_a_prototxt(tmp_path):
    text = (ROOT / "prototxt/DeepLab/train.prototxt").read_bytes()
    start = text.index(b'name: "pool5"')
    small = INPUT.encode() + text[text.rindex(b"layers {", 0, start) :].replace(b"conv5_3", b"data")
    check_mutations(tmp_path / "net.prototxt", small, read_and_write)


@golden
def test_mutations_of_a_golden_prototxt(tmp_path):
    text = (GOLDEN / "nets/DeepLab-LargeFOV/deploy.prototxt").read_bytes()
    check_mutations(tmp_path / "net.prototxt", text, read_and_write)
