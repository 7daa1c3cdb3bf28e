"""Solvers: what they say, and what is refused."""

from pathlib import Path

import pytest

from deeplab_repro.caffe import read_solver
from deeplab_repro.models.registry import MODELS
from deeplab_repro.net.solver import SolverParameter
from tests.caffe.caffe_files import GOLDEN, check_mutations, golden, refused
from tests.conftest import PAPER

BARE = "train_net: 't.prototxt' base_lr: 0.5 lr_policy: 'fixed' max_iter: 9 "


def solver(tmp_path: Path, text: str) -> SolverParameter:
    path = tmp_path / "solver.prototxt"
    path.write_text(text)
    return read_solver(path)


def test_every_setting(tmp_path, caplog):
    text = """
    net: "train.prototxt"  # Caffe's other name for it
    test_iter: 10 test_interval: 1000 test_initialization: false
    base_lr: 0.5 lr_policy: "multistep" gamma: 0.25 power: 0.75 stepsize: 7
    stepvalue: 10 stepvalue: 20
    max_iter: 30 momentum: 0.875 weight_decay: 0.125 regularization_type: "L2"
    average_loss: 3 display: 4 snapshot: 5 snapshot_prefix: "out/${EXP}" snapshot_diff: false
    snapshot_after_train: false random_seed: 6 solver_type: SGD type: "SGD" solver_mode: CPU
    device_id: 1 iter_size: 1 clip_gradients: -1 debug_info: false
    """
    assert solver(tmp_path, text) == SolverParameter(
        train_net="train.prototxt",
        base_lr=0.5,
        lr_policy="multistep",
        gamma=0.25,
        power=0.75,
        stepsize=7,
        stepvalue=(10, 20),
        max_iter=30,
        momentum=0.875,
        weight_decay=0.125,
        average_loss=3,
        display=4,
        snapshot=5,
        snapshot_prefix="out/voc12",
        random_seed=6,
    )
    assert not caplog.messages


def test_what_is_not_said_is_caffe_s_default(tmp_path):
    assert solver(tmp_path, BARE) == SolverParameter("t.prototxt", 0.5, max_iter=9)
    assert solver(tmp_path, BARE + "random_seed: -1").random_seed is None
    assert solver(tmp_path, BARE + "random_seed: 0").random_seed == 0


def test_an_unknown_setting_is_named(tmp_path, caplog):
    assert solver(tmp_path, BARE + "warmup: 10") == SolverParameter("t.prototxt", 0.5, max_iter=9)
    assert "'warmup' (line 1)" in caplog.messages[0]


def policy(name: str, fields: str) -> str:
    return BARE.replace("fixed", name) + fields


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("step", "gamma: 0.5 stepsize: 1"),
        ("exp", "gamma: 0.5"),
        ("inv", "gamma: 0.5 power: 0.5"),
        ("multistep", "gamma: 0.5 stepvalue: [1, 2, 9]"),
        ("poly", "power: 0.5"),
        ("sigmoid", "gamma: -0.5 stepsize: 100"),
    ],
)
def test_every_policy_goes_by_its_numbers(tmp_path, name, fields):
    assert solver(tmp_path, policy(name, fields)).lr_policy == name
    for field in fields.replace("[1, 2, 9]", "1").split(": ")[:-1]:
        missing = field.split()[-1]
        rest = fields.replace(missing, "# ").replace("# : 0.5", "")
        refused(
            lambda rest=rest: solver(tmp_path, policy(name, rest)),
            f"solver.prototxt: {missing} is (missing|0)",
        )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (BARE.replace("train_net: 't.prototxt'", ""), "no net given, expected one of net and"),
        (BARE + "net: 'n'", "net and train_net given, expected one of"),
        (BARE.replace("base_lr: 0.5", ""), "base_lr is missing"),
        (BARE.replace("lr_policy: 'fixed'", ""), "lr_policy is missing"),
        (BARE.replace("max_iter: 9", ""), "max_iter is missing"),
        (
            policy("stairs", ""),
            "lr_policy is 'stairs', expected one of fixed, step, exp, inv, multistep, poly, sigm",
        ),
        (policy(r"a\nb", ""), r"lr_policy is 'a\\nb', expected one of"),
        (policy("step", "gamma: 1 stepsize: 0"), "stepsize is 0, expected at least 1"),
        (policy("step", "gamma: -1 stepsize: 1"), "gamma is -1, expected a number from 0"),
        (policy("exp", "gamma: nan"), "gamma is nan, expected a finite number"),
        (policy("poly", "power: inf"), "power is inf, expected a finite number"),
        (policy("multistep", "gamma: 1 stepvalue: [2, 1]"), "stepvalue is 2, 1, expected iter"),
        (policy("multistep", "gamma: 1 stepvalue: [1, 1]"), "stepvalue is 1, 1, expected iter"),
        (policy("multistep", "gamma: 1 stepvalue: [-1, 1]"), "stepvalue is -1, 1, expected iter"),
        (policy("multistep", "gamma: 1"), "stepvalue is missing, expected iterations that incr"),
        (BARE.replace("9", "-9"), "max_iter is -9, expected at least 0"),
        (BARE.replace("0.5", "-0.5"), "base_lr is -0.5, expected a number from 0"),
        (BARE.replace("0.5", "inf"), "base_lr is inf, expected a number from 0"),
        (BARE + "weight_decay: -1", "weight_decay is -1, expected a number from 0"),
        (BARE + "weight_decay: nan", "weight_decay is nan"),
        (BARE + "momentum: 1", "momentum is 1, expected a number from 0 to less than 1"),
        (BARE + "momentum: -0.1", "momentum is -0.1"),
        (BARE + "momentum: nan", "momentum is nan"),
        (BARE + "average_loss: 0", "average_loss is 0, expected at least 1"),
        (BARE + "display: -1", "display is -1, expected at least 0"),
        (BARE + "snapshot: -1", "snapshot is -1, expected at least 0"),
        (BARE + "regularization_type: 'L1'", "regularization_type is 'L1', .*expected 'L2'"),
        (BARE + "solver_type: NESTEROV", "solver_type is 'NESTEROV', which is not supported"),
        (BARE + "type: 'Adam'", "type is 'Adam', which is not supported; expected SGD"),
        (BARE + "iter_size: 0", "iter_size is 0, expected at least 1"),
        (BARE + "clip_gradients: 35", "clip_gradients is 35, which is not supported"),
        (BARE + "momentum: 0.5 momentum: 0.5", "'momentum' is given twice"),
        (BARE + "layers { }", "this is a net, expected a solver"),
    ],
)
def test_what_does_not_train_as_in_caffe_is_refused(tmp_path, text, problem):
    message = refused(lambda: solver(tmp_path, text), problem)
    assert message.startswith(str(tmp_path / "solver.prototxt"))


@pytest.mark.parametrize("name", PAPER)
def test_our_solvers(name):
    model = MODELS[name]
    first, second = (
        read_solver(model.solver_prototxt),
        read_solver(model.folder / "solver2.prototxt"),
    )
    for found in (first, second):
        assert (found.train_net, found.lr_policy) == ("train.prototxt", "step")
        assert (found.gamma, found.momentum) == (pytest.approx(0.1), pytest.approx(0.9))
        assert found.weight_decay == pytest.approx(5e-4)
        assert found.snapshot == 2000
    assert (first.stepsize, first.max_iter) == (2000, 6000)
    assert first.average_loss == (10 if "MSc" in name and "LargeFOV" in name else 1)


@golden
@pytest.mark.parametrize("name", ["DeepLab-LargeFOV", "DeepLab-MSc-LargeFOV"])
def test_golden_solvers(name):
    found = read_solver(GOLDEN / "train" / name / "solver.prototxt")
    assert (found.stepsize, found.max_iter, found.snapshot) == (5, 12, 1)
    assert (found.snapshot_prefix, found.random_seed) == ("snap/s", 1)


def test_mutations_of_a_solver(tmp_path):
    original = MODELS["DeepLab-LargeFOV"].solver_prototxt.read_bytes()
    check_mutations(tmp_path / "solver.prototxt", original, read_solver)
