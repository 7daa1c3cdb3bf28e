"""A net and what runs it."""

ENGINES = ("auto", "opencv", "onnxruntime", "openvino")
