"""Fuzz the readers of files that come from outside, guided by the code that each input reaches.

    pip install atheris
    python tools/fuzz/readers.py prototxt|caffemodel|solverstate|safetensors [--runs 100000]
                                 [--corpus DIR] [--seconds N] [--distil DIR]

Runs libFuzzer (atheris) from the repository's own prototxts and from small binary files. What is
done with each input, and what counts as a finding, is in targets.py. A finding is printed, one
input of each sort is kept in DIR/findings, and the run goes on. Inputs that reach new code are kept
in DIR/KIND (default: fuzzed/), and a later run begins with them.

--distil runs nothing new: it copies to DIR a few inputs that together reach every line of code that
the corpus reaches. tests/caffe/fuzzed/ was made so.
"""

import argparse
import hashlib
import importlib
import random
import shutil
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
_LONGEST = {"prototxt": 2500, "caffemodel": 4096, "solverstate": 4096, "safetensors": 8192}
_KEPT = 3000  # bytes; longer inputs are not distilled


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=_LONGEST)
    parser.add_argument("--runs", metavar="N", type=int, default=100_000)
    parser.add_argument("--seconds", metavar="N", type=int, default=0, help="stop after (0: never)")
    parser.add_argument("--corpus", metavar="DIR", type=Path, default=Path("fuzzed"))
    parser.add_argument("--distil", metavar="DIR", type=Path)
    arguments = parser.parse_args()
    corpus = arguments.corpus / arguments.kind
    corpus.mkdir(parents=True, exist_ok=True)
    if arguments.distil:
        distil(arguments.kind, corpus, arguments.distil)
    else:
        fuzz(arguments.kind, corpus, arguments.runs, arguments.seconds)


def fuzz(kind: str, corpus: Path, runs: int, seconds: int) -> None:
    """Run libFuzzer, which ends the process."""
    try:
        atheris: Any = importlib.import_module("atheris")
    except ImportError:
        sys.exit("error: atheris is not installed: pip install atheris")
    with atheris.instrument_imports(include=["deeplab_repro"]):
        targets = importlib.import_module("targets")
        mutators = importlib.import_module("mutators")
    seeds = make_seeds(kind)
    for seed in seeds:
        _keep(corpus, seed)
    change = mutators.MUTATORS[kind]
    found: set[str] = set()
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))

    def one_input(data: bytes) -> None:
        try:
            targets.check(kind, data, folder)
        except targets.Finding as finding:
            if finding.key not in found:
                found.add(finding.key)
                path = _keep(corpus.parent / "findings", data)
                print(f"FINDING {len(found)}: {finding}\n    {path}", flush=True)

    def mutator(data: bytes, max_size: int, seed: int) -> bytes:
        rng = random.Random(seed)
        if rng.random() < 0.3:
            return atheris.Mutate(data, max_size)
        return change(data, rng, seeds)[:max_size]

    options = [f"-runs={runs}", f"-max_total_time={seconds}", f"-max_len={_LONGEST[kind]}"]
    options += ["-print_final_stats=1", "-timeout=60", "-rss_limit_mb=4096", str(corpus)]
    atheris.Setup([sys.argv[0], *options], one_input, custom_mutator=mutator)
    atheris.Fuzz()


def make_seeds(kind: str) -> list[bytes]:
    """Inputs to begin with."""
    from targets import SMALL_NET

    from deeplab_repro.caffe import read_net, write_caffemodel, write_solverstate
    from deeplab_repro.convert.safetensors import write_safetensors
    from deeplab_repro.net.solver import SolverState

    kept = [path.read_bytes() for path in sorted(ROOT.glob(f"tests/caffe/fuzzed/*.{kind}"))]
    if kind == "prototxt":
        paths = sorted(ROOT.glob("prototxt/*/*.prototxt"))
        short = [path.read_bytes() for path in paths if path.stat().st_size <= _LONGEST[kind]]
        return [SMALL_NET.encode(), *short, *kept]
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "file"
        path.write_text(SMALL_NET)
        net = read_net(path)
        net.fill_random(1)
        seeds = []
        if kind == "safetensors":
            for half in (False, True):
                write_safetensors(net, path, half=half)
                seeds.append(path.read_bytes())
            return [*seeds, *kept]
        if kind == "solverstate":
            blobs = [blob.data for layer in net.layers for blob in layer.blobs]
            history = [data for data in blobs if data is not None]
            write_solverstate(SolverState(7, "small_iter_7.caffemodel", history, 1), path)
            return [path.read_bytes(), *kept]
        for current in (False, True):
            write_caffemodel(net, path, current)
            seeds.append(path.read_bytes())
    toy = (ROOT / "deeplab_repro/toy/ToyVOC-LargeFOV.caffemodel").read_bytes()
    return [*seeds, toy[: _LONGEST[kind]], *kept]


def _keep(folder: Path, data: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / hashlib.sha1(data).hexdigest()
    path.write_bytes(data)
    return path


def distil(kind: str, corpus: Path, out: Path) -> None:
    """Copy a few inputs that reach as many lines of the package as the whole corpus."""
    import targets

    out.mkdir(parents=True, exist_ok=True)
    lines = {}
    with tempfile.TemporaryDirectory() as folder:
        for path in sorted(corpus.iterdir()):
            data = path.read_bytes()
            if 0 < len(data) <= _KEPT:
                run = partial(targets.check, kind, data, Path(folder), False)
                lines[path] = reached(run)
    everything = set().union(*lines.values())
    left, kept = set(everything), 0
    while left:
        # The most new lines for the fewest bytes.
        best = max(lines, key=lambda path: (len(lines[path] & left), -path.stat().st_size))
        left -= lines[best]
        kept += 1
        shutil.copy(best, out / f"{best.name[:12]}.{kind}")
    print(f"{kept} of {len(lines)} inputs reach {len(everything)} lines")


def reached(call: Callable[[], object]) -> set[tuple[str, int]]:
    """The lines of the package that a call runs through."""
    lines: set[tuple[str, int]] = set()
    package = str(ROOT / "deeplab_repro")

    def trace(frame: FrameType, event: str, _: object) -> Any:
        if not frame.f_code.co_filename.startswith(package):
            return None
        if event == "line":
            lines.add((frame.f_code.co_filename, frame.f_lineno))
        return trace

    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(None)
    return lines


if __name__ == "__main__":
    main()
