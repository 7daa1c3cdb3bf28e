"""Headers of NumPy's .npy format, read from files that may be broken."""

import struct
import warnings
import zipfile
import zlib
from tokenize import TokenError
from typing import IO, BinaryIO, NamedTuple

import numpy as np

from deeplab_repro.arrays import F32, Shape
from deeplab_repro.errors import FormatError, one_line

# Of any array of NumPy's.
_MOST_AXES, _LONGEST_AXIS = 64, 2**63 - 1

# Of what `write_npy` writes, in bytes after the first 10: NumPy never fills up so far.
_HEAD = 438

# What NumPy is known to raise on broken headers.
_NPY_ERRORS = (MemoryError, RecursionError, SyntaxError, TokenError, TypeError, ValueError)

ZIP_ERRORS = (
    EOFError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
"""What zipfile is known to raise on broken archives."""


class Header(NamedTuple):
    """The header of an array in NumPy's format."""

    shape: Shape
    columns_first: bool  # Fortran's order
    dtype: np.dtype

    @property
    def is_float(self) -> bool:
        """Whether its values are 16-, 32- or 64-bit floats, of any byte order."""
        return self.dtype.kind == "f" and self.dtype.itemsize in (2, 4, 8)


def write_npy(file: BinaryIO, array: F32) -> None:
    """Write an array as `numpy.save` does, but with a longer head, which marks it as ours.

    The head is filled up with blanks, as the format allows: `marks.made_here` knows its length.
    """
    array = np.ascontiguousarray(array)
    head = str(dict(sorted(np.lib.format.header_data_from_array_1_0(array).items())))
    file.write(np.lib.format.magic(1, 0) + struct.pack("<H", _HEAD))
    file.write(head.ljust(_HEAD - 1).encode("latin-1") + b"\n")
    file.write(array.data)


def read_header(file: IO[bytes], name: str) -> Header:
    """Read the header of an array; the file is then at its values.

    Raises FormatError, which begins with `name`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about headers of Python 2 and broken ones
            version = np.lib.format.read_magic(file)
            read = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }.get(version)
            if read is None:
                raise ValueError(f"its version is {version[0]}.{version[1]}")
            header = Header(*read(file))
    except _NPY_ERRORS as error:
        raise FormatError(
            f"{name}: is not an array of NumPy's, or broken: {one_line(error)}: save it again, "
            "with numpy.save"
        ) from error
    shape = header.shape
    if len(shape) > _MOST_AXES or any(not 0 <= length <= _LONGEST_AXIS for length in shape):
        raise FormatError(f"{name}: has a header that no array can have: save it again")
    return header
