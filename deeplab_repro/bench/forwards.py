"""What `bench net` compares: this package's engines, and the plain use of OpenCV and onnxruntime.

The plain ones run converted files without this package, and raise the libraries' own exceptions.
"""

from deeplab_repro.arrays import F32
from deeplab_repro.bench.net_files import Forward, NetFiles
from deeplab_repro.caffe import read_net
from deeplab_repro.engines.choose import make_engine
from deeplab_repro.engines.onnxruntime import load_onnxruntime
from deeplab_repro.engines.opencv_cuda import BY_CAFFE
from deeplab_repro.machine.opencv import cv2


def our_opencv(job: NetFiles) -> Forward:
    """This package with OpenCV."""
    return _ours(job, "opencv")


def our_onnxruntime(job: NetFiles) -> Forward:
    """This package with onnxruntime."""
    return _ours(job, "onnxruntime")


def our_openvino(job: NetFiles) -> Forward:
    """This package with OpenVINO, in float32."""
    return _ours(job, "openvino")


def _ours(job: NetFiles, name: str) -> Forward:
    engine = make_engine(job.net(), "cpu", engine=name)
    engine.build()
    return lambda data: engine.blobs(data, [job.blob])[job.blob]


def plain_opencv(job: NetFiles) -> Forward:
    """OpenCV 4 with the Caffe files, OpenCV 5 with the ONNX file.

    It has as many threads as OPENCV_FOR_THREADS_NUM says.
    """
    layer = None
    if BY_CAFFE:
        prototxt, caffemodel = job.caffe
        net = cv2.dnn.readNetFromCaffe(str(prototxt), str(caffemodel))
        # OpenCV's names of layers are not the file's.
        names = zip(read_net(prototxt).layers, net.getLayerNames(), strict=True)
        layer = {top: name for layer, name in names for top in layer.tops}[job.blob]
    else:
        net = cv2.dnn.readNetFromONNX(str(job.onnx))

    def run(data: F32) -> F32:
        net.setInput(data)
        return net.forward(layer) if layer else net.forward()

    return run


def plain_onnxruntime(job: NetFiles) -> Forward:
    """onnxruntime with the ONNX file and its own options, but for the number of threads."""
    onnxruntime = load_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = job.threads
    session = onnxruntime.InferenceSession(
        str(job.onnx), options, providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    return lambda data: session.run(None, {name: data})[0]
