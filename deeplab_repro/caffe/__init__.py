"""Reads and writes Caffe's files, of both dialects: prototxt (text), caffemodel, solverstate."""

from deeplab_repro.caffe.caffemodel import (
    Caffemodel,
    ModelLayer,
    caffemodel_chunks,
    read_caffemodel,
    write_caffemodel,
)
from deeplab_repro.caffe.messages import prototxt_text, write_prototxt
from deeplab_repro.caffe.named_weights import read_weights
from deeplab_repro.caffe.preprocessing import load_mean, write_mean_file
from deeplab_repro.caffe.prototxt import parse_solver
from deeplab_repro.caffe.solver import read_solver
from deeplab_repro.caffe.solverstate import read_solverstate, write_solverstate
from deeplab_repro.caffe.structure import read_net
from deeplab_repro.caffe.training import read_train_net
from deeplab_repro.caffe.weights import load_weights

__all__ = [
    "Caffemodel",
    "ModelLayer",
    "caffemodel_chunks",
    "load_mean",
    "load_weights",
    "parse_solver",
    "prototxt_text",
    "read_caffemodel",
    "read_net",
    "read_solver",
    "read_solverstate",
    "read_train_net",
    "read_weights",
    "write_caffemodel",
    "write_mean_file",
    "write_prototxt",
    "write_solverstate",
]
