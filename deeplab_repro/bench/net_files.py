"""The net that `bench net` measures, written to the files that its contenders begin with."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from deeplab_repro.arrays import F32, Shape
from deeplab_repro.caffe import load_weights
from deeplab_repro.convert.caffe import write_caffe
from deeplab_repro.convert.net_json import net_from_json, net_to_json
from deeplab_repro.convert.onnx import to_onnx
from deeplab_repro.net.net import Net

Forward = Callable[[F32], F32]
"""Runs a net from its input (NxCxHxW) to the blob that is asked for."""


@dataclass(frozen=True)
class NetFiles:
    """A net in files, the blob up to which it is run, an image's NxCxHxW, and so many threads."""

    folder: Path
    blob: str
    shape: Shape
    threads: int

    @property
    def caffe(self) -> tuple[Path, Path]:
        """The prototxt and the caffemodel, in the current dialect of Caffe."""
        return self.folder / "net.prototxt", self.folder / "net.caffemodel"

    @property
    def onnx(self) -> Path:
        """The ONNX file, whose one output is the blob."""
        return self.folder / "net.onnx"

    def net(self) -> Net:
        """The net with its weights."""
        net = net_from_json((self.folder / "net.json").read_text())
        load_weights(net, self.caffe[1])
        return net


def write_net_files(net: Net, folder: Path, shape: Shape, threads: int) -> NetFiles:
    """Write the net's files, for images of one shape, up to the net's coarse scores.

    Raises NetError for a net that cannot be written, FileError and OSError.
    """
    job = NetFiles(folder, net.coarse_output[0], shape, threads)
    (folder / "net.json").write_text(net_to_json(net))
    sized = replace(net, input_shape=shape)
    write_caffe(sized, *job.caffe)
    job.onnx.write_bytes(to_onnx(sized, shape, [job.blob]))
    return job
