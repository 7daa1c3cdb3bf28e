"""Whether a net can segment photos, and the CRF that goes with it."""

from deeplab_repro.arrays import dims
from deeplab_repro.crf.params import CrfParams
from deeplab_repro.errors import ArgumentError, NetError
from deeplab_repro.files.images import VOID
from deeplab_repro.models.registry import MODELS
from deeplab_repro.net.net import Net
from deeplab_repro.net.other_layers import DenseCrfParameter


def check_net(net: Net) -> None:
    """Raise NetError unless the net takes a colour image to scores of labels that fit uint8."""
    net.check_map()
    if net.input_shape[1:2] != (3,):
        raise NetError(
            f"net '{net.name}' takes {dims(net.input_shape)}, expected 3 channels: a colour image "
            "(is_color: false and force_gray in a data layer ask for grey ones)"
        )
    found = net.output_shape((1, *net.input_shape[1:]))
    if len(found) != 4 or found[0] != 1 or not 1 <= found[1] <= VOID:
        raise NetError(
            f"net '{net.name}' ends in '{net.output}' of shape {dims(found)}, expected scores of "
            f"1 to {VOID} labels, 1xCxHxW"
        )


def published_crf(model: str, block: DenseCrfParameter | None = None) -> CrfParams:
    """The CRF of a net's name in the registry, or else the one that its own file asks for.

    Raises ArgumentError where there is neither.
    """
    published = MODELS[model].crf if model in MODELS else None
    if published is None and block:
        kernels = (block.bi_w, block.bi_xy_std, block.bi_rgb_std, block.pos_w, block.pos_xy_std)
        if all(len(values) == 1 for values in kernels):  # with more, it is another CRF than ours
            try:
                published = CrfParams(*(value for (value,) in kernels))
            except ArgumentError as error:
                raise ArgumentError(f"net '{model}' asks for a CRF: {error}, by --crf") from error
    if published is None:
        raise ArgumentError(
            f"no CRF parameters are published for net '{model}': give them as "
            "W1,SIGMA_ALPHA,SIGMA_BETA (--crf), or do without a CRF (--no-crf)"
        )
    return published
