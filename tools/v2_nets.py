"""DeepLab v2's nets and solvers (arXiv 1606.00915) as tables of facts, for write_prototxts.py.

They are in the dialect of the authors' second Caffe. ResNet-101 runs at three scales of the image
with the same weights: its layers have the scale's suffix, and their params have names without it.
"""

from __future__ import annotations

from dataclasses import dataclass

from net_facts import IGNORE_LABEL, MEAN_BGR, STAGES
from prototxt_text import Fields, comment, layer, lines_of, quoted

TEST_CROP, TRAIN_CROP = 513, 321
HOLES = (6, 12, 18, 24)  # of the classifier's four branches
BRANCH_OUTPUTS = 1024  # of VGG-16's fc6 and fc7
MAX_ITER, ITER_SIZE = 20000, 10

# ResNet-101: stage -> (its blocks, channels inside of them, stride of the first, hole). A block
# gives four times as many channels. Stages 4 and 5 have holes, because the stride stays at 8.
BLOCKS = {
    2: (("a", "b", "c"), 64, 1, 1),
    3: (("a", *(f"b{i}" for i in range(1, 4))), 128, 2, 1),
    4: (("a", *(f"b{i}" for i in range(1, 23))), 256, 1, 2),
    5: (("a", "b", "c"), 512, 1, 4),
}
# Suffix -> INTERP's factors from the image to the scale, and from its scores back to stride 8.
SCALES: dict[str, tuple[Fields, Fields]] = {
    "": ([], []),
    "_res05": ([("shrink_factor", 2)], [("zoom_factor", 2)]),
    "_res075": (
        [("zoom_factor", 3), ("shrink_factor", 4)],
        [("zoom_factor", 4), ("shrink_factor", 3)],
    ),
}


@dataclass(frozen=True)
class V2Net:
    """What differs between the two nets besides their layers."""

    name: str
    about: str
    base_lr: float


VGG = V2Net(
    "DeepLabv2-VGG16", "VGG-16 with ASPP-L: four fc6 of holes 6, 12, 18 and 24.", base_lr=0.001
)
RESNET = V2Net(
    "DeepLabv2-ResNet101", "ResNet-101 with ASPP-L at three scales of the image.", base_lr=0.00025
)

# --- single layers ---------------------------------------------------------------------------


def add(
    name: str, kind: str, bottom: str | list[str], fields: Fields | None = None, top: str = ""
) -> list[str]:
    bottoms = bottom if isinstance(bottom, list) else [bottom]
    return layer(name, kind, bottoms, [top or name], fields or [], v1=False)


def in_place(name: str, kind: str, blob: str, fields: Fields | None = None) -> list[str]:
    return add(name, kind, blob, fields, top=blob)


def params(names: list[str], rates: tuple[float, ...] = ()) -> Fields:
    """One `param` a blob, with its name if it has one; rates: lr_mult of each in a train net."""
    found: Fields = []
    for index, name in enumerate(names):
        fields: Fields = [("name", quoted(name))] if name else []
        if rates:
            fields.append(("lr_mult", rates[index]))
            # A weight decays, a bias does not; what does not learn has no use for it.
            fields += [("decay_mult", 1 if index == 0 else 0)] if any(rates) else []
        found += [("param", fields)] if fields else []
    return found


def conv(
    name: str, bottom: str, shape: Fields, shared: list[str], rates: tuple[float, ...],
    std: float | None = None,
) -> list[str]:  # fmt: skip
    """shared: the name of each blob's param, "" for none. std: of the train net's new layers."""
    fields = list(shape)
    if rates and std is not None:
        fields.append(("weight_filler", [("type", quoted("gaussian")), ("std", std)]))
        fields.append(("bias_filler", [("type", quoted("constant")), ("value", 0)]))
    return add(name, "Convolution", bottom, [*params(shared, rates), ("convolution_param", fields)])


def spread(outputs: int | str, hole: int) -> Fields:
    """A 3x3 convolution that keeps the size."""
    fields: Fields = [("num_output", outputs), ("kernel_size", 3), ("pad", hole)]
    return [*fields, ("dilation", hole)] if hole > 1 else fields


def pool(name: str, bottom: str, stride: int) -> list[str]:
    fields: Fields = [("pool", "MAX"), ("kernel_size", 3), ("stride", stride), ("pad", 1)]
    return add(name, "Pooling", bottom, [("pooling_param", fields)])


def interp(name: str, bottom: str, factors: Fields) -> list[str]:
    return add(name, "Interp", bottom, [("interp_param", factors)])


def eltwise(name: str, bottoms: list[str], operation: str) -> list[str]:
    return add(name, "Eltwise", bottoms, [("eltwise_param", [("operation", operation)])])


# --- VGG-16 ----------------------------------------------------------------------------------


def vgg(train: bool) -> list[str]:
    """From the image to the sum of the four branches' class scores."""
    lines, bottom = [], "data"
    rates = (1, 2) if train else ()
    for stage, (convs, channels) in STAGES.items():
        lines += comment(f"conv{stage}" + (": hole 2" if stage == 5 else ""))
        for index in range(1, convs + 1):
            name = f"conv{stage}_{index}"
            shape = spread(channels, 2 if stage == 5 else 1)
            lines += conv(name, bottom, shape, ["", ""], rates)
            lines += in_place(f"relu{stage}_{index}", "ReLU", name)
            bottom = name
        lines += pool(f"pool{stage}", bottom, 2 if stage <= 3 else 1)
        bottom = f"pool{stage}"
    scores = []
    for branch, hole in enumerate(HOLES, start=1):
        lines += comment(f"branch {branch}: hole {hole}")
        below = bottom
        pointwise: Fields = [("num_output", BRANCH_OUTPUTS), ("kernel_size", 1)]
        for number, shape in ((6, spread(BRANCH_OUTPUTS, hole)), (7, pointwise)):
            name = f"fc{number}_{branch}"
            lines += conv(name, below, shape, ["", ""], rates)
            lines += in_place(f"relu{number}_{branch}", "ReLU", name)
            ratio: Fields = [("dropout_param", [("dropout_ratio", 0.5)])]
            lines += in_place(f"drop{number}_{branch}", "Dropout", name, ratio)
            below = name
        scores.append(f"fc8_${{EXP}}_{branch}")
        shape = [("num_output", "${NUM_LABELS}"), ("kernel_size", 1)]
        lines += conv(scores[-1], below, shape, ["", ""], (10, 20) if train else (), std=0.01)
    return [*lines, *comment("the sum of the branches"), *eltwise("fc8_${EXP}", scores, "SUM")]


# --- ResNet-101 ------------------------------------------------------------------------------


def normalised(of: str, scale: str, blob: str, train: bool) -> list[str]:
    """BatchNorm with the statistics of the weights' file and the Scale behind it; both frozen."""
    frozen = (0, 0, 0) if train else ()
    names = [f"bn{of}_{index}" for index in range(3)]
    how: Fields = [("batch_norm_param", [("use_global_stats", "true")])]
    lines = in_place(f"bn{of}{scale}", "BatchNorm", blob, params(names, frozen) + how)
    names = [f"scale{of}_{index}" for index in range(2)]
    how = [("scale_param", [("bias_term", "true")])]
    return lines + in_place(f"scale{of}{scale}", "Scale", blob, params(names, frozen[:2]) + how)


def unit(
    name: str, of: str, scale: str, bottom: str, shape: Fields, train: bool, relu: bool = True
) -> list[str]:
    """A convolution without bias, normalised. of: what the normalising layers are called after."""
    fields: Fields = [*shape, ("bias_term", "false")]
    top = name + scale
    lines = conv(top, bottom, fields, [f"{name}_0"], (1,) if train else ())
    lines += normalised(of, scale, top, train)
    return lines + (in_place(f"{name}_relu{scale}", "ReLU", top) if relu else [])


def block(stage: int, letter: str, scale: str, bottom: str, train: bool) -> tuple[list[str], str]:
    """A residual block; returns its top too."""
    _, channels, stride, hole = BLOCKS[stage]
    name = f"res{stage}{letter}"
    first = letter == "a"

    def narrow(outputs: int) -> Fields:
        step: Fields = [("stride", stride)] if first and stride > 1 else []
        return [("num_output", outputs), ("kernel_size", 1), *step]

    lines, beside = [], bottom
    if first:
        beside = f"{name}_branch1{scale}"
        lines = unit(
            f"{name}_branch1", f"{stage}a_branch1", scale, bottom, narrow(4 * channels), train,
            relu=False,
        )  # fmt: skip
    wide: Fields = [("num_output", 4 * channels), ("kernel_size", 1)]
    shapes = {"2a": narrow(channels), "2b": spread(channels, hole), "2c": wide}
    for part, shape in shapes.items():
        of = f"{stage}{letter}_branch{part}"
        lines += unit(f"res{of}", of, scale, bottom, shape, train, relu=part != "2c")
        bottom = f"res{of}{scale}"
    top = name + scale
    lines += add(top, "Eltwise", [beside, bottom])
    return lines + in_place(f"{name}_relu{scale}", "ReLU", top), top


def resnet_at(scale: str, train: bool) -> list[str]:
    """From the image at one scale to the sum of the four branches' class scores."""
    to_scale, _ = SCALES[scale]
    bottom = f"data{scale}"
    lines = comment(f"scale{scale.replace('_res0', ' 0.') or ' 1'}")
    lines += interp(bottom, "data", to_scale) if to_scale else []
    stem: Fields = [("num_output", 64), ("kernel_size", 7), ("pad", 3), ("stride", 2)]
    lines += unit("conv1", "_conv1", scale, bottom, stem, train)
    lines += pool(f"pool1{scale}", f"conv1{scale}", 2)
    bottom = f"pool1{scale}"
    for stage, (letters, *_) in BLOCKS.items():
        for letter in letters:
            more, bottom = block(stage, letter, scale, bottom, train)
            lines += more
    scores = []
    for index, hole in enumerate(HOLES):
        scores.append(f"fc1_${{EXP}}{scale}_c{index}")
        shared = [f"fc1_${{EXP}}_c{index}_{blob}" for blob in "wb"]
        rates = (10, 20) if train else ()
        lines += conv(scores[-1], bottom, spread("${NUM_LABELS}", hole), shared, rates, std=0.01)
    return lines + eltwise(f"fc1_${{EXP}}{scale}", scores, "SUM")


def resnet(train: bool) -> list[str]:
    """The three scales one after the other, and the largest of their class scores."""
    lines = [line for scale in SCALES for line in resnet_at(scale, train)]
    lines += comment("the largest of the three scales' scores, at stride 8")
    fused = ["fc1_${EXP}"]
    for scale, (_, back) in SCALES.items():
        if back:
            fused.insert(1, f"fc1_${{EXP}}{scale}_interp")
            lines += interp(fused[1], f"fc1_${{EXP}}{scale}", back)
    return lines + eltwise("fc_fusion", fused, "MAX")


# --- files -----------------------------------------------------------------------------------


def data(train: bool) -> list[str]:
    source: Fields = [
        ("source", quoted(f"${{EXP}}/list/${{{'TRAIN_SET' if train else 'TEST_SET'}}}.txt")),
        ("root_folder", quoted("${DATA_ROOT}")),
        ("batch_size", 1),
        ("label_type", "PIXEL" if train else "NONE"),
    ]
    transform: Fields = [("crop_size", TRAIN_CROP if train else TEST_CROP)]
    transform += [("mean_value", mean) for mean in MEAN_BGR]
    if train:
        source.append(("shuffle", "true"))
        transform.append(("mirror", "true"))
    lines = comment("images" + (" and their label maps" if train else ""))
    given: Fields = [("image_data_param", source), ("transform_param", transform)]
    lines += layer("data", "ImageSegData", [], ["data", "label", "data_dim"], given, v1=False)
    unused = ["data_dim"] if train else ["label", "data_dim"]
    return lines + layer("silence", "Silence", unused, [], [], v1=False)


def scores_at_full_size(scores: str) -> list[str]:
    """The scores of the crop's size, and the file they are written to."""
    top = "fc1_interp" if scores == "fc_fusion" else "fc8_interp"
    files: Fields = [
        ("prefix", quoted("${FEATURE_DIR}/${TEST_SET}/fc8/")),
        ("source", quoted("${EXP}/list/${TEST_SET}_id.txt")),
    ]
    given: Fields = [("mat_write_param", files), ("include", [("phase", "TEST")])]
    lines = comment("scores at full size") + interp(top, scores, [("zoom_factor", 8)])
    return lines + layer("fc8_mat", "MatWrite", [top], [], given, v1=False)


def losses(net: V2Net) -> list[str]:
    """Each loss at stride 8, where every eighth label is taken as it is, never a mean of two."""
    of = {"loss": "fc8_${EXP}"}
    if net is RESNET:
        of = {"loss": "fc1_${EXP}"}
        of |= {f"loss{scale}": f"fc1_${{EXP}}{scale}_interp" for scale in SCALES if scale}
        of["loss_fusion"] = "fc_fusion"
    lines = comment("losses at stride 8, against every eighth label")
    lines += interp("label_shrink", "label", [("shrink_factor", 8)])
    ignore: Fields = [("ignore_label", IGNORE_LABEL)]
    both: list[str] = []
    for name, scores in of.items():
        both = [scores, "label_shrink"]
        lines += layer(name, "SoftmaxWithLoss", both, [name], [("loss_param", ignore)], v1=False)
    given: Fields = [("seg_accuracy_param", ignore)]
    return lines + add("accuracy", "SegAccuracy", both, given)


def net_text(net: V2Net, train: bool) -> str:
    crop = TRAIN_CROP if train else TEST_CROP
    size = f"{crop}x{crop} in, scores {'at stride 8' if train else 'as large'} out."
    lines = [f"# {net.name}, {'train' if train else 'test'} net", f"# {net.about}"]
    lines += [f"# Batch 1: {size}", "", f"name: {quoted(net.name)}", *data(train)]
    lines += resnet(train) if net is RESNET else vgg(train)
    scores = "fc_fusion" if net is RESNET else "fc8_${EXP}"
    return "\n".join([*lines, *(losses(net) if train else scores_at_full_size(scores)), ""])


def solver_text(net: V2Net, train_set: str, prefix: str) -> str:
    fields: Fields = [
        ("train_net", quoted("train.prototxt")),
        ("base_lr", net.base_lr),
        ("lr_policy", quoted("poly")),
        ("power", 0.9),
        ("iter_size", ITER_SIZE),
        ("max_iter", MAX_ITER),
        ("momentum", 0.9),
        ("weight_decay", 0.0005),
        ("display", 10),
        ("snapshot", 2000),
        ("snapshot_prefix", quoted("${EXP}/model/${NET_ID}/" + prefix)),
        ("solver_mode", "GPU"),
    ]
    head = [f"# {net.name}, solver for TRAIN_SET = {train_set}", f"# {net.about}", ""]
    return "\n".join([*head, *lines_of(fields), ""])


def v2_files() -> dict[str, str]:
    """Every file of DeepLab v2's: its path in `prototxt/`, and its text."""
    texts = {}
    for net in (VGG, RESNET):
        texts[f"{net.name}/test.prototxt"] = net_text(net, train=False)
        texts[f"{net.name}/train.prototxt"] = net_text(net, train=True)
        texts[f"{net.name}/solver.prototxt"] = solver_text(net, "train_aug", "train")
        texts[f"{net.name}/solver2.prototxt"] = solver_text(net, "trainval_aug", "train2")
    return texts
