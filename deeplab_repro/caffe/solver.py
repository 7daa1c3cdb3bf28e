"""Reads a solver's prototxt, the settings of Caffe's SGD, and checks it."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict

from deeplab_repro.caffe.names import shown
from deeplab_repro.caffe.prototxt import parse_solver
from deeplab_repro.errors import FormatError, one_line
from deeplab_repro.net.solver import SolverParameter

# The settings that each policy needs: without them Caffe takes 0, and the rate becomes 0 or stays.
_POLICIES: dict[str, tuple[str, ...]] = {
    "fixed": (),
    "step": ("gamma", "stepsize"),
    "exp": ("gamma",),
    "inv": ("gamma", "power"),
    "multistep": ("gamma",),
    "poly": ("power",),
    "sigmoid": ("gamma", "stepsize"),
}
_TAKEN_OVER = (
    *("base_lr", "lr_policy", "gamma", "power", "stepsize", "max_iter", "momentum"),
    *("weight_decay", "iter_size", "average_loss", "display", "snapshot", "snapshot_prefix"),
)


def read_solver(path: str | Path, variables: Mapping[str, str] | None = None) -> SolverParameter:
    """Read a solver's prototxt; `variables` as in `read_net`.

    `train_net` is as the file names it, in `net` or `train_net`. Raises FileError, and FormatError,
    naming the field, for what does not train here or would train differently in Caffe.
    """
    solver = parse_solver(path, variables)
    for problem in _problems(solver):
        raise FormatError(f"{one_line(path)}: {problem}")
    return SolverParameter(
        train_net=solver.train_net or solver.net,
        stepvalue=tuple(solver.stepvalue),
        random_seed=solver.random_seed if solver.random_seed >= 0 else None,
        **{name: getattr(solver, name) for name in _TAKEN_OVER},
    )


def read_settings(
    path: str | Path, variables: Mapping[str, str] | None = None
) -> tuple[dict[str, Any], list[str]]:
    """Every setting that a solver's prototxt gives, as plain data, and why it does not train here.

    Raises FileError, and FormatError for what is no solver.
    """
    solver = parse_solver(path, variables)
    settings = MessageToDict(solver, preserving_proto_field_name=True)
    order = (field.name for field, _ in solver.ListFields())
    return {name: settings[name] for name in order}, list(_problems(solver))


def _problems(solver: Any) -> Iterator[str]:
    """What is wrong with a solver, the first mistake first."""
    nets = [name for name in ("net", "train_net") if getattr(solver, name)]
    if len(nets) != 1:
        yield f"{' and '.join(nets) or 'no net'} given, expected one of net and train_net"
    yield from _unsupported(solver)
    for name in ("base_lr", "lr_policy", "max_iter"):
        if not solver.HasField(name):
            yield f"{name} is missing, expected it in a solver"
    yield from _outside(solver)
    yield from _policy_problems(solver)


def _unsupported(solver: Any) -> Iterator[str]:
    kind = solver.SolverType.Name(solver.solver_type)
    if solver.HasField("type"):
        kind = solver.type
    if kind != "SGD":
        field = "type" if solver.HasField("type") else "solver_type"
        yield f"{field} is {shown(kind)}, which is not supported; expected SGD"
    if solver.regularization_type != "L2":
        found = shown(solver.regularization_type)
        yield f"regularization_type is {found}, which is not supported; expected 'L2'"
    if not solver.clip_gradients < 0:
        yield f"clip_gradients is {solver.clip_gradients:g}, which is not supported; take it out"


def _outside(solver: Any) -> Iterator[str]:
    """Which numbers are out of range."""
    for name in ("base_lr", "weight_decay"):
        if not 0 <= getattr(solver, name) < math.inf:
            yield f"{name} is {getattr(solver, name):g}, expected a number from 0"
    if not 0 <= solver.momentum < 1:
        yield f"momentum is {solver.momentum:g}, expected a number from 0 to less than 1"
    least = {"max_iter": 0, "display": 0, "snapshot": 0, "average_loss": 1, "iter_size": 1}
    for name, number in least.items():
        if getattr(solver, name) < number:
            yield f"{name} is {getattr(solver, name)}, expected at least {number}"


def _policy_problems(solver: Any) -> Iterator[str]:
    policy = solver.lr_policy
    if policy not in _POLICIES:
        yield f"lr_policy is {shown(policy)}, expected one of {', '.join(_POLICIES)}"
    for name in _POLICIES.get(policy, ()):
        if not solver.HasField(name):
            yield f"{name} is missing, expected it with lr_policy '{policy}'"
        if not math.isfinite(getattr(solver, name)):
            yield f"{name} is {getattr(solver, name)}, expected a finite number"
    if policy in ("step", "exp", "inv", "multistep") and solver.gamma < 0:
        yield f"gamma is {solver.gamma:g}, expected a number from 0"
    if policy == "step" and solver.stepsize < 1:
        yield f"stepsize is {solver.stepsize}, expected at least 1"
    steps = list(solver.stepvalue)
    if policy == "multistep" and (not steps or steps[0] < 1 or steps != sorted(set(steps))):
        found = ", ".join(map(str, steps[:10])) or "missing"
        yield f"stepvalue is {found}, expected iterations that increase"
