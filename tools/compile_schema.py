"""Compile deeplab_repro/*/*.proto to the committed *_pb2.py.

The generated code must come from the oldest protoc that setup.cfg's lower bound of protobuf allows,
so that every newer runtime accepts it: protoc 3.21, as grpcio-tools 1.50 brings it.

    python3.11 -m venv protoc
    protoc/bin/pip install "setuptools<70" grpcio-tools==1.50.0
    protoc/bin/python tools/compile_schema.py
"""

import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "deeplab_repro"
PROTOC = [sys.executable, "-m", "grpc_tools.protoc"]


def main() -> None:
    found = subprocess.run([*PROTOC, "--version"], capture_output=True, text=True)
    version = (found.stdout.split() or ["not installed"])[-1]
    if not version.startswith("3.21."):
        sys.exit(f"error: protoc is {version}, expected 3.21: install grpcio-tools==1.50.0")
    for path in sorted(PACKAGE.glob("*/*.proto")):
        folder = path.parent
        subprocess.run([*PROTOC, f"-I{folder}", f"--python_out={folder}", path.name], check=True)
        print(f"compiled {path.name} with protoc {version}")


if __name__ == "__main__":
    main()
