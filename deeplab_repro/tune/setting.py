"""A setting of the CRF, and how a page's query asks for what comes of it."""

import re
from dataclasses import dataclass, fields, replace
from urllib.parse import parse_qsl

from deeplab_repro.crf.params import CrfParams
from deeplab_repro.errors import ArgumentError
from deeplab_repro.voc.metrics import check_width

MOST_ITERATIONS = 100
"""That a page may ask for: they are to end."""

_PARAMS = tuple(field.name for field in fields(CrfParams))
_WHOLE = ("number", "small", "iterations", "step", "label", "width")
_LARGEST_NUMBER = 2**53  # a page's numbers are doubles
# As JavaScript writes numbers; nothing else is one.
_NUMBER = re.compile(r"[0-9]{1,20}(\.[0-9]{1,20})?(e[+-]?[0-9]{1,3})?")
_DIGITS = re.compile(r"[0-9]{1,16}")


@dataclass(frozen=True)
class Setting:
    """The CRF's parameters, and the iterations of its mean field."""

    params: CrfParams
    iterations: int = 10

    def scaled(self, scale: float) -> "Setting":
        """The same for a photo that is scaled by a factor: the deviations in pixels go with it."""
        if scale == 1:
            return self
        alpha, gamma = (scale * self.params.sigma_alpha, scale * self.params.sigma_gamma)
        return replace(self, params=replace(self.params, sigma_alpha=alpha, sigma_gamma=gamma))


@dataclass(frozen=True)
class Asked:
    """What a page asks for.

    number: of the request. small: whether a small copy will do. step: after how many of the
    iterations the labels are shown. label: of the belief map. width: of the trimap, in pixels.
    """

    number: int
    small: bool
    setting: Setting
    step: int
    label: int
    width: int


def read_query(query: str, n_labels: int) -> Asked:
    """What the query of an address asks for.

    Raises ValueError where it is no such query, and ArgumentError (which is one too) where a value
    is out of range.
    """
    pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True, max_num_fields=20)
    found = dict(pairs)
    is_whole = all(_DIGITS.fullmatch(found.get(name, "")) for name in _WHOLE)
    is_number = all(_NUMBER.fullmatch(found.get(name, "")) for name in _PARAMS)
    if not (is_whole and is_number) or len(pairs) != len(_WHOLE) + len(_PARAMS):
        raise ValueError("no query of the page's")
    whole = {name: int(found[name]) for name in _WHOLE}
    if whole["number"] > _LARGEST_NUMBER or whole["small"] > 1 or whole["label"] >= n_labels:
        raise ValueError("no query of the page's")
    if whole["iterations"] > MOST_ITERATIONS:
        raise ArgumentError(
            f"iterations are {whole['iterations']}; expected 0 to {MOST_ITERATIONS}"
        )
    if whole["step"] > whole["iterations"]:
        raise ArgumentError(f"step is {whole['step']}; expected 0 to {whole['iterations']}")
    check_width(whole["width"])
    params = CrfParams(**{name: float(found[name]) for name in _PARAMS})
    return Asked(
        whole["number"],
        bool(whole["small"]),
        Setting(params, whole["iterations"]),
        whole["step"],
        whole["label"],
        whole["width"],
    )
