"""Write `prototxt/`: the nets and solvers of the papers and of ToyVOC, in the authors' dialects.

    python tools/write_prototxts.py

All that differs between the nets of the first paper and of ToyVOC stands in net_facts.py; each
function here writes one block of a file. DeepLab v2's are in v2_nets.py. Layer names must stay as
they are: weights are matched by them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from net_facts import (
    BRANCH_CHANNELS,
    BRANCHES,
    IGNORE_LABEL,
    MEAN_BGR,
    NETS,
    STAGES,
    TOY_NETS,
    NetFacts,
    SolverFacts,
)
from prototxt_text import Fields, comment, layer, lines_of, quoted
from v2_nets import v2_files

PROTOTXT = Path(__file__).resolve().parent.parent / "prototxt"

# --- single layers ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Learning:
    """How a convolution learns; `std` is its gaussian filler's, None without a filler."""

    lr: float
    std: float | None = None
    bias_lr: float | None = None  # twice lr unless given


# A test net's convolutions have no Learning. `shape` is pad, stride and hole where they matter.
def conv(
    name: str, bottom: str, outputs: int | str, kernel: int, learning: Learning | None,
    shape: dict[str, int] | None = None, strict_dim: bool = True,
) -> list[str]:  # fmt: skip
    fields: Fields = [] if strict_dim else [("strict_dim", "false")]
    if learning:
        bias_lr = 2 * learning.lr if learning.bias_lr is None else learning.bias_lr
        fields += [("blobs_lr", learning.lr), ("blobs_lr", bias_lr)]
        fields += [("weight_decay", 1), ("weight_decay", 0)]
    params: Fields = [("num_output", outputs), ("kernel_size", kernel)]
    params += (shape or {}).items()
    if learning and learning.std is not None:
        params.append(("weight_filler", [("type", quoted("gaussian")), ("std", learning.std)]))
        params.append(("bias_filler", [("type", quoted("constant")), ("value", 0)]))
    fields.append(("convolution_param", params))
    return layer(name, "CONVOLUTION", [bottom], [name], fields)


def relu(name: str, blob: str) -> list[str]:
    return layer(name, "RELU", [blob], [blob], [])


def drop(name: str, blob: str, ratio: float) -> list[str]:
    return layer(name, "DROPOUT", [blob], [blob], [("dropout_param", [("dropout_ratio", ratio)])])


def pool(name: str, bottom: str, kernel: int, stride: int, pad: int, how: str = "MAX") -> list[str]:
    fields: Fields = [("pool", how), ("kernel_size", kernel), ("stride", stride)]
    if pad:
        fields.append(("pad", pad))
    return layer(name, "POOLING", [bottom], [name], [("pooling_param", fields)])


def interp(name: str, bottom: str, fields: Fields) -> list[str]:
    return layer(name, "INTERP", [bottom], [name], [("interp_param", fields)])


# --- blocks ----------------------------------------------------------------------------------


def data(net: NetFacts, train: bool) -> list[str]:
    source: Fields = [
        ("source", quoted(f"${{EXP}}/list/${{{'TRAIN_SET' if train else 'TEST_SET'}}}.txt")),
        ("root_folder", quoted("${DATA_ROOT}")),
        ("batch_size", net.batch if train else 1),
        ("label_type", "PIXEL" if train else "NONE"),
    ]
    transform: Fields = [("crop_size", net.train_crop if train else net.test_crop)]
    transform += [("mean_value", mean) for mean in MEAN_BGR]
    if train:
        source.append(("shuffle", "true"))
        transform.append(("mirror", "true"))
    params: Fields = [("image_data_param", source), ("transform_param", transform)]
    lines = comment("images" + (" and their label maps" if train else ""))
    lines += layer("data", "IMAGE_SEG_DATA", [], ["data", "label", "data_dim"], params)
    unused = ["data_dim"] if train else ["label", "data_dim"]
    return lines + layer("silence", "SILENCE", unused, [], [])


def branch(net: NetFacts, tap: str, train: bool) -> list[str]:
    facts = BRANCHES[tap]
    channels = BRANCH_CHANNELS // net.width
    names = [f"{tap}_conv", f"{tap}_fc", f"{tap}_ms"]
    stds = [0.001, facts.fc_std, facts.ms_std]
    learning = [Learning(1, std) if train else None for std in stds]
    if train and net.from_scratch:
        # With few channels the authors' small values would leave hardly any signal.
        taken = {"data": 3, **{f"pool{s}": STAGES[s][1] // net.width for s in STAGES}}[tap]
        learning = [from_scratch(tap, taken, 3), from_scratch("", channels, 1), Learning(1, 0.01)]
    shape = {"pad": 1, "stride": facts.stride if train else 1}
    lines = comment(f"multi-scale branch of {tap}")
    lines += conv(names[0], tap, channels, 3, learning[0], shape)
    lines += relu(f"relu_{names[0]}", names[0]) + drop(f"drop_{names[0]}", names[0], net.dropout)
    lines += conv(names[1], names[0], channels, 1, learning[1])
    lines += relu(f"relu_{names[1]}", names[1]) + drop(f"drop_{names[1]}", names[1], net.dropout)
    return lines + conv(names[2], names[1], "${NUM_LABELS}", 1, learning[2])


def from_scratch(bottom: str, channels: int, kernel: int) -> Learning:
    """He's initialisation, which keeps the scale of what flows through (He et al. 2015).

    The image's values, of about 64, are brought down to 1 by the first weights, which are then as
    much smaller and their gradients as much larger: so they learn 64 * 64 times as slowly.
    """
    std = (2 / (channels * kernel**2)) ** 0.5
    if bottom == "data":
        return Learning(1 / 4096, float(f"{std / 64:.3g}"), bias_lr=2)
    return Learning(1, float(f"{std:.3g}"))


def trunk(net: NetFacts, train: bool) -> list[str]:
    lines = branch(net, "data", train) if net.msc else []
    bottom, taken = "data", 3
    for stage, (convs, channels) in STAGES.items():
        channels //= net.width
        stride = min(2 ** (stage - 1), 8)
        shape = {"pad": 2, "hole": 2} if stage == 5 else {"pad": 1}
        lines += comment(f"conv{stage}: stride {stride}" + (", hole 2" if stage == 5 else ""))
        for index in range(1, convs + 1):
            name = f"conv{stage}_{index}"
            lines += conv(
                name, bottom, channels, 3, trunk_learning(net, train, bottom, taken), shape
            )
            lines += relu(f"relu{stage}_{index}", name)
            bottom, taken = name, channels
        kernel = 3 if stage == 5 else net.pool_kernel
        # 2x2 pooling at stride 1 without pad takes the train net's 40 to 39, as the labels have it.
        pad = 0 if train and stage == 4 and kernel == 2 else 1
        lines += pool(f"pool{stage}", bottom, kernel, 2 if stage <= 3 else 1, pad)
        bottom = f"pool{stage}"
        if net.msc and bottom in BRANCHES:
            lines += branch(net, bottom, train)
    if net.pool5a:
        lines += pool("pool5a", bottom, 3, 1, 1, "AVE")
    return lines


def trunk_learning(
    net: NetFacts, train: bool, bottom: str, channels: int, kernel: int = 3
) -> Learning | None:
    if not train:
        return None
    if net.from_scratch and net.trunk_lr:
        return from_scratch(bottom, channels, kernel)
    return Learning(net.trunk_lr)


def head(net: NetFacts, train: bool) -> list[str]:
    fc6 = net.fc6
    taken = STAGES[5][1] // net.width
    learning = trunk_learning(net, train, "pool5", taken, fc6.kernel)
    bottom = "pool5a" if net.pool5a else "pool5"
    shape = {"pad": fc6.pad, "hole": fc6.hole}
    lines = comment("fc6 and fc7 as convolutions")
    # In VGG-16's own file fc6 and fc7 are InnerProduct layers: as many weights, other legacy dims.
    lines += conv("fc6", bottom, fc6.outputs, fc6.kernel, learning, shape, strict_dim=False)
    lines += relu("relu6", "fc6") + drop("drop6", "fc6", net.dropout)
    learning = trunk_learning(net, train, "fc6", fc6.outputs, 1)
    lines += conv("fc7", "fc6", fc6.outputs, 1, learning, strict_dim=False)
    lines += relu("relu7", "fc7") + drop("drop7", "fc7", net.dropout)
    lines += comment("classifier")
    std = 0.1 if net.from_scratch else 0.01
    learning = Learning(net.classifier_lr, std) if train else None
    # VGG-16 has no layer of this name, so the train net has nothing to be lenient about.
    return lines + conv(net.classifier, "fc7", "${NUM_LABELS}", 1, learning, strict_dim=train)


def fusion(bottoms: list[str]) -> list[str]:
    params: Fields = [("eltwise_param", [("operation", "SUM")])]
    return layer("fc_fusion", "ELTWISE", bottoms, ["fc_fusion"], params)


def scores(net: NetFacts) -> list[str]:
    """From the classifier to scores of the crop's size, and the file they are written to."""
    lines = comment("scores at full size")
    bottoms = []
    if net.msc:
        for tap, facts in BRANCHES.items():
            bottoms.append(f"{tap}_ms")
            if facts.zoom > 1:
                lines += interp(f"{tap}_interp", bottoms[-1], [("zoom_factor", facts.zoom)])
                bottoms[-1] = f"{tap}_interp"
    lines += interp("fc8_interp", net.classifier, [("zoom_factor", 8)])
    top = "fc8_interp"
    if net.msc:
        lines += fusion([*bottoms, top])
        top = "fc_fusion"
    elif net.pool_kernel == 2:
        # The pads of pool1..pool4 put the first score 7 pixels outside the image.
        crop: Fields = [("pad_beg", -7), ("pad_end", -8)]
        lines += layer("fc8_crop", "PADDING", [top], ["fc8_crop"], [("padding_param", crop)])
        top = "fc8_crop"
    files: Fields = [
        ("prefix", quoted("${FEATURE_DIR}/${TEST_SET}/fc8/")),
        ("source", quoted("${EXP}/list/${TEST_SET}_id.txt")),
    ]
    params: Fields = [("mat_write_param", files), ("include", [("phase", "TEST")])]
    lines += comment("one .mat file an image")
    return lines + layer("fc8_mat", "MAT_WRITE", [top], [], params)


def losses(net: NetFacts) -> list[str]:
    lines = []
    top = net.classifier
    if net.msc:
        lines += comment("sum of all class scores, at stride 8")
        lines += fusion([*(f"{tap}_ms" for tap in BRANCHES), top])
        top = "fc_fusion"
    # With 2x2 pooling the first score lies on pixel 1 of the crop, otherwise on pixel 0.
    pad_beg = -1 if net.pool_kernel == 2 else 0
    shrink: Fields = [("shrink_factor", 8), ("pad_beg", pad_beg), ("pad_end", 0)]
    ignore: Fields = [("ignore_label", IGNORE_LABEL)]
    lines += comment("loss at stride 8, against every eighth label")
    lines += interp("label_shrink", "label", shrink)
    both = [top, "label_shrink"]
    lines += layer("loss", "SOFTMAX_LOSS", both, [], [("softmaxloss_param", ignore)])
    params: Fields = [("seg_accuracy_param", ignore)]
    return lines + layer("accuracy", "SEG_ACCURACY", both, ["accuracy"], params)


# --- files -----------------------------------------------------------------------------------


def header(net: NetFacts, what: str, *more: str) -> list[str]:
    return [f"# {net.name}, {what}", *(f"# {line}" for line in (net.about, *more)), ""]


def test_text(net: NetFacts) -> str:
    lines = header(
        net, "test net", f"Batch 1: {net.test_crop}x{net.test_crop} in, scores as large out."
    )
    lines += [f"name: {quoted(net.name)}", *data(net, False), *trunk(net, False)]
    return "\n".join([*lines, *head(net, False), *scores(net), ""])


def train_text(net: NetFacts) -> str:
    learns = {0: "only the branches learn", 1: "the branches and the classifier learn"}
    what = "every layer learns" if net.trunk_lr else learns[net.classifier_lr]
    size = f"{net.train_crop}x{net.train_crop}"
    lines = header(net, "train net", f"Batch {net.batch}: {size} in, scores at stride 8; {what}.")
    lines += [f"name: {quoted(net.name)}", *data(net, True), *trunk(net, True)]
    return "\n".join([*lines, *head(net, True), *losses(net), ""])


POLICIES: dict[str, Callable[[SolverFacts], Fields]] = {
    "step": lambda solver: [("gamma", 0.1), ("stepsize", solver.stepsize)],
    "poly": lambda solver: [("power", 0.9)],  # noqa: ARG005
}


def solver_text(net: NetFacts, solver: SolverFacts, prefix: str) -> str:
    train_set = {"train": "train_aug", "train2": "trainval_aug"}[prefix]
    if net in TOY_NETS:
        train_set = "train"
    lines = header(net, f"solver for TRAIN_SET = {train_set}")
    fields: Fields = [
        ("train_net", quoted("train.prototxt")),
        ("base_lr", solver.base_lr),
        ("lr_policy", quoted(solver.policy)),
        *POLICIES[solver.policy](solver),
        ("max_iter", solver.max_iter),
        ("momentum", 0.9),
        ("weight_decay", 0.0005),
        ("display", 10),
    ]
    if net.average_loss > 1:
        fields.append(("average_loss", net.average_loss))
    fields += [
        ("snapshot", 2000),
        ("snapshot_prefix", quoted("${EXP}/model/${NET_ID}/" + prefix)),
        ("solver_mode", "GPU"),
    ]
    return "\n".join([*lines, *lines_of(fields), ""])


def files() -> dict[str, str]:
    """Every file of `prototxt/`: its path there, and its text."""
    texts = v2_files()
    for net in (*NETS, *TOY_NETS):
        texts[f"{net.name}/test.prototxt"] = test_text(net)
        texts[f"{net.name}/train.prototxt"] = train_text(net)
        solvers = [("solver", net.solver, "train"), ("solver2", net.solver2, "train2")]
        for file, solver, prefix in solvers:
            if solver is None:
                continue
            texts[f"{net.name}/{file}.prototxt"] = solver_text(net, solver, prefix)
    return texts


def main() -> None:
    for path, text in files().items():
        target = PROTOTXT / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
