"""Writes a net in other formats: current Caffe, ONNX, and arrays with the net as JSON (.npz)."""

from deeplab_repro.convert.caffe import write_caffe
from deeplab_repro.convert.npz import read_npz, write_npz
from deeplab_repro.convert.onnx import write_onnx

__all__ = ["read_npz", "write_caffe", "write_npz", "write_onnx"]
