"""The file of a loss curve, and its plot."""

import pytest

from deeplab_repro.errors import FormatError
from deeplab_repro.train.curve import LossRow, read_curve
from tests.conftest import assert_one_line

HEADER = ",".join(LossRow._fields)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"a,b\n1,2\n",
        f"{HEADER}\n1,2,3\n".encode(),
        f"{HEADER}\nx,1,1,1,1,1,1,1,1\n".encode(),
        b"\x89PNG\r\n\x1a\n\0",
        f"{HEADER}\n1,1,1,1,1,1,1,1,1,1\n".encode(),
    ],
)
def test_a_file_that_is_no_curve(tmp_path, content):
    path = tmp_path / "it_loss.csv"
    path.write_bytes(content)
    with pytest.raises(FormatError) as caught:
        read_curve(path)
    assert_one_line(caught, path, "is not a loss curve", "move it")
