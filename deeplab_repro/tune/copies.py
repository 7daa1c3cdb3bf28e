"""How to get a setting's labels without the page: as commands, in Python, and with pydensecrf."""

import os
import shlex
from dataclasses import fields
from pathlib import Path

from deeplab_repro.tune.session import Source
from deeplab_repro.tune.setting import Setting


def copies(source: Source, setting: Setting) -> dict[str, str]:
    """By kind the text that gives just the labels of a setting."""
    return {
        "command": command_line(source, setting),
        "python": python_call(source, setting),
        "pydensecrf": pydensecrf_call(source, setting),
    }


def command_line(source: Source, setting: Setting) -> str:
    """A line for a shell that writes the labels to labels.png; of a net's, two.

    (`segment` itself has no option for the positional kernel.)
    """
    photo, probs, lines = _named(source.photo), source.probs, []
    if probs is None:
        probs = Path("out", f"{source.photo.stem}.probs.npy")
        lines.append(["segment", photo, *_net(source), "--no-crf", "--save", "probs"])
    params = setting.params
    bilateral = [params.w1, params.sigma_alpha, params.sigma_beta]
    lines.append(
        [
            *("crf", photo, "--probs", _named(probs), "--out", "labels.png"),
            *("--crf", ",".join(map(_number, bilateral))),
            *("--positional", f"{_number(params.w2)},{_number(params.sigma_gamma)}"),
            *("--iterations", str(setting.iterations)),
        ]
    )
    return "\n".join(shlex.join(["deeplab-repro", *line]) for line in lines)


def _named(path: Path) -> str:
    """A path as no option begins."""
    return f"./{path}" if str(path).startswith("-") else str(path)


def _net(source: Source) -> list[str]:
    weights = ["--weights", source.weights] if source.weights else []
    return ["--model", str(source.model), *weights]


def python_call(source: Source, setting: Setting) -> str:
    """Python that ends in `labels`, HxW uint8."""
    params = ", ".join(
        f"{each.name}={_number(getattr(setting.params, each.name))}"
        for each in fields(setting.params)
    )
    name, imported, probs = _read_in_python(source)
    return "\n".join(
        [
            f"from deeplab_repro import CrfParams, {name}dense_crf, read_image",
            *imported,
            "",
            *probs,
            f"params = CrfParams({params})",
            f"labels = dense_crf(image, probs, params, iterations={setting.iterations}).labels",
        ]
    )


def pydensecrf_call(source: Source, setting: Setting) -> str:
    """Python with pydensecrf's names that ends in `labels`, HxW; `image` and `probs` as before."""
    params = setting.params
    _, imported, probs = _read_in_python(source)
    deeplab = "DeepLab, " if source.probs is None else ""
    return "\n".join(
        [
            "import numpy as np",
            f"from deeplab_repro import {deeplab}read_image",
            *imported,
            "# Or the same of pydensecrf:",
            "from deeplab_repro.pydensecrf import densecrf as dcrf",
            "from deeplab_repro.pydensecrf.utils import unary_from_softmax",
            "",
            *probs,
            "n_labels, height, width = probs.shape",
            "crf = dcrf.DenseCRF2D(width, height, n_labels)",
            "crf.setUnaryEnergy(unary_from_softmax(probs, clip=1e-20))",
            "after = dcrf.NORMALIZE_AFTER  # as the DeepLab authors ran it",
            f"crf.addPairwiseGaussian(sxy={_number(params.sigma_gamma)}, "
            f"compat={_number(params.w2)}, normalization=after)",
            f"crf.addPairwiseBilateral(sxy={_number(params.sigma_alpha)}, "
            f"srgb={_number(params.sigma_beta)}, rgbim=image,",
            f"                         compat={_number(params.w1)}, normalization=after)",
            f"marginals = crf.inference({setting.iterations})",
            "labels = np.argmax(marginals, axis=0).reshape(height, width)",
        ]
    )


def _read_in_python(source: Source) -> tuple[str, list[str], list[str]]:
    """What more is imported of deeplab_repro, other imports, and what makes image and probs."""
    image = f"image = read_image({os.fspath(source.photo)!r})"
    if source.probs is None:
        weights = f", {source.weights!r}" if source.weights else ""
        probs = f"probs = DeepLab({source.model!r}{weights}, crf=None)(image).probs"
        return "DeepLab, ", [], [image, probs]
    imported = "from deeplab_repro.files.probs import read_probs"
    probs = f"probs = read_probs({os.fspath(source.probs)!r}, image.shape[:2])"
    return "", [imported], [image, probs]


def _number(value: float) -> str:
    """A number as short as it can be read back the same."""
    return repr(value).removesuffix(".0")
