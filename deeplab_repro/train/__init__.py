"""Training as Caffe did it: a net's layers forward and backward, the data, SGD, snapshots."""

import logging
import os
import sys

# The threads are the trainer's own, each with a GEMM of its own. OpenBLAS's threads beside them
# would wait for work in a loop, and take the cores. It looks at this when NumPy is loaded.
if "OPENBLAS_NUM_THREADS" not in os.environ:
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    if "numpy" in sys.modules:
        logging.getLogger(__name__).warning(
            "NumPy was loaded before deeplab_repro.train, so training may be several times slower: "
            "import this first, or set OPENBLAS_NUM_THREADS=1 in the environment"
        )
