"""The public names: each with an example that runs, and no others are offered."""

import doctest
import inspect
import pydoc
import subprocess
import sys
from importlib import import_module

import numpy as np
import pytest

import deeplab_repro
from deeplab_repro.files.pictures import write_image
from deeplab_repro.toy.scenes import make_scene

PYDENSECRF = [
    import_module(f"deeplab_repro.pydensecrf.{name}") for name in ("densecrf", "utils", "eigen")
]
EXAMPLES = {"deeplab_repro": deeplab_repro}
EXAMPLES |= {name: getattr(deeplab_repro, name) for name in deeplab_repro.__all__}
EXAMPLES |= {
    f"{module.__name__}.{name}": thing
    for module in PYDENSECRF
    for name, thing in vars(module).items()
    if callable(thing) and getattr(thing, "__module__", "") == module.__name__ and name[0] != "_"
}
EXAMPLES = {name: thing for name, thing in EXAMPLES.items() if not isinstance(thing, str | dict)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the photo that the examples name."""
    folder = tmp_path_factory.mktemp("examples")
    write_image(folder / "photo.jpg", make_scene(0, 0).image[:60, :80])
    return folder


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_run(name, folder, monkeypatch):
    """Each public name has one, and it gives what it says."""
    monkeypatch.chdir(folder)
    thing = EXAMPLES[name]
    names = {"np": np, **{each: getattr(deeplab_repro, each) for each in deeplab_repro.__all__}}
    if thing is not deeplab_repro:
        names |= vars(sys.modules[thing.__module__])
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    finder = doctest.DocTestFinder(recurse=inspect.isclass(thing))
    tests = finder.find(thing, name, globs=names)
    assert any(test.examples for test in tests if test.name == name), "there is no example"
    told = []
    for test in tests:
        runner.run(test, out=told.append)
    assert not runner.summarize(verbose=False).failed, "".join(told)


def test_only_public_names_are_offered():
    assert dir(deeplab_repro) == sorted(deeplab_repro.__all__)
    text = pydoc.render_doc(deeplab_repro, renderer=pydoc.plaintext)
    for name in deeplab_repro.__all__:
        assert name.strip("_") in text
    assert "import_module" not in text
    assert "_HOMES" not in text
    with pytest.raises(AttributeError, match="has no attribute 'Deeplab'"):
        deeplab_repro.Deeplab  # noqa: B018


def test_import_loads_little():
    """Neither OpenCV, Numba nor even NumPy; the rest comes with the first use of a name."""
    code = "import sys, deeplab_repro; print({'numpy', 'cv2', 'numba', 'PIL'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "set()\n"
