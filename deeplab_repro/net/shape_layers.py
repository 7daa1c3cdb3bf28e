"""Layer types that cut, join, repeat or reorder values, and ArgMax.

They are what the nets after DeepLab v1 add to those of layers.py, which says how to read them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from deeplab_repro.arrays import Shape, dims
from deeplab_repro.errors import NetError
from deeplab_repro.net.layers import LayerType, axis_of


@dataclass(frozen=True)
class Crop(LayerType):
    """The part of the first bottom that has the second's size, on `axis` and all that follow.

    It begins at `offset`: one for all these axes, or one for each; none means 0.
    """

    axis: int = 2
    offset: tuple[int, ...] = ()

    bottoms_wanted = (2,)

    def begins(self, bottom: Shape) -> tuple[int, ...]:
        """Where the part begins on every axis of the first bottom."""
        axis = axis_of(self.axis, bottom)
        count = len(bottom) - axis
        offset = self.offset or (0,)
        if len(offset) not in (1, count):
            raise NetError(f"{len(offset)} offset for {count} axes, expected one, or one for each")
        return (0,) * axis + (offset * count if len(offset) == 1 else offset)

    def part(self, bottoms: Sequence[Shape]) -> tuple[slice, ...]:
        """The part of the first bottom, as an index of its array."""
        top = self.top_shape(bottoms)
        begins = self.begins(bottoms[0])
        return tuple(slice(begin, begin + n) for begin, n in zip(begins, top, strict=True))

    def top_shape(self, bottoms: Sequence[Shape]) -> Shape:
        whole, like = bottoms
        axis, begins = axis_of(self.axis, whole), self.begins(whole)
        if len(like) != len(whole):
            raise NetError(f"its bottoms are {dims(whole)} and {dims(like)}, expected as many axes")
        top = (*whole[:axis], *like[axis:])
        if any(begin + n > n_in for begin, n, n_in in zip(begins, top, whole, strict=True)):
            raise NetError(f"{dims(top)} at offset {dims(begins)} leaves its bottom, {dims(whole)}")
        return top


@dataclass(frozen=True)
class Slice(LayerType):
    """Cuts its bottom along one axis: before each slice_point, or into equal parts without one."""

    axis: int = 1
    slice_point: tuple[int, ...] = ()

    several_tops = True

    def top_shapes(self, bottoms: Sequence[Shape], count: int) -> list[Shape]:
        axis = axis_of(self.axis, bottoms[0])
        size = bottoms[0][axis]
        if self.slice_point:
            if len(self.slice_point) != count - 1:
                found = f"{len(self.slice_point)} slice_point for {count} tops"
                raise NetError(f"{found}, expected one fewer than tops")
            ends = [0, *self.slice_point, size]
        else:
            if size % count:
                raise NetError(f"{count} tops do not divide axis {axis} of {dims(bottoms[0])}")
            ends = [size // count * part for part in range(count + 1)]
        sizes = [end - begin for begin, end in pairwise(ends)]
        if min(sizes) < 1:
            raise NetError(
                f"slice_point {', '.join(map(str, self.slice_point))}, expected numbers that grow "
                f"from 1 to {size - 1}: axis {axis} of {dims(bottoms[0])}"
            )
        return [(*bottoms[0][:axis], n, *bottoms[0][axis + 1 :]) for n in sizes]


@dataclass(frozen=True)
class Flatten(LayerType):
    """Makes one axis of those from `axis` to `end_axis`."""

    axis: int = 1
    end_axis: int = -1

    def fits_any_size(self, n_bottoms: int) -> bool:  # noqa: ARG002
        return False

    def top_shape(self, bottoms: Sequence[Shape]) -> Shape:
        shape = bottoms[0]
        first, last = axis_of(self.axis, shape), axis_of(self.end_axis, shape)
        if last < first:
            raise NetError(f"end_axis {last} before axis {first}, expected it not before")
        return (*shape[:first], math.prod(shape[first : last + 1]), *shape[last + 1 :])


@dataclass(frozen=True)
class Reshape(LayerType):
    """The same values in another shape: `dim` in place of num_axes axes from `axis` on.

    A dim of 0 is the bottom's; one may be -1: what is left. num_axes -1 means all that follow.
    """

    dim: tuple[int, ...] = ()
    axis: int = 0
    num_axes: int = -1

    def fits_any_size(self, n_bottoms: int) -> bool:  # noqa: ARG002
        return False

    def top_shape(self, bottoms: Sequence[Shape]) -> Shape:
        shape = bottoms[0]
        # A negative axis counts from behind the last.
        first = self.axis if self.axis >= 0 else len(shape) + self.axis + 1
        last = len(shape) if self.num_axes == -1 else first + self.num_axes
        if not 0 <= first <= last <= len(shape) or self.num_axes < -1:
            raise NetError(
                f"axis {self.axis} and num_axes {self.num_axes} are no axes of {dims(shape)}"
            )
        if min(self.dim, default=0) < -1 or self.dim.count(-1) > 1:
            raise NetError(f"dim {', '.join(map(str, self.dim))}, expected one -1 at most")
        copied = [first + index for index, n in enumerate(self.dim) if n == 0]
        if copied and copied[-1] >= len(shape):
            raise NetError(f"dim 0 for axis {copied[-1]}, which {dims(shape)} lacks")
        dim = [shape[first + index] if n == 0 else n for index, n in enumerate(self.dim)]
        count, others = math.prod(shape[first:last]), math.prod(n for n in dim if n != -1)
        if -1 in dim and others and count % others == 0:
            dim[dim.index(-1)] = count // others
        if -1 in dim or math.prod(dim) != count:
            raise NetError(
                f"dim {', '.join(map(str, self.dim))} for {dims(shape[first:last])}, expected as "
                "many values"
            )
        return (*shape[:first], *dim, *shape[last:])


@dataclass(frozen=True)
class Tile(LayerType):
    """Repeats its bottom so many times along one axis."""

    tiles: int
    axis: int = 1

    def top_shape(self, bottoms: Sequence[Shape]) -> Shape:
        axis = axis_of(self.axis, bottoms[0])
        return (*bottoms[0][:axis], bottoms[0][axis] * self.tiles, *bottoms[0][axis + 1 :])


@dataclass(frozen=True)
class ArgMax(LayerType):
    """The places of the top_k largest values, along one axis, or else of a whole item.

    out_max_val gives the values: along an axis in place of the places, of an item beside them.
    """

    out_max_val: bool = False
    top_k: int = 1
    axis: int | None = None

    def fits_any_size(self, n_bottoms: int) -> bool:  # noqa: ARG002
        return self.axis is not None

    def top_shape(self, bottoms: Sequence[Shape]) -> Shape:
        shape = bottoms[0]
        if self.axis is None:
            size = math.prod(shape[1:])
            top: Shape = (shape[0], 1 + self.out_max_val, self.top_k, *[1] * (len(shape) - 3))
        else:
            axis = axis_of(self.axis, shape)
            size, top = shape[axis], (*shape[:axis], self.top_k, *shape[axis + 1 :])
        if self.top_k > size:
            raise NetError(f"top_k is {self.top_k}, expected at most {size}: so many values")
        return top
