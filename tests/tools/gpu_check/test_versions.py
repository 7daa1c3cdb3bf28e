"""tools/gpu_check/versions.py: what is too old is told in one line each."""

import os

import pytest

GOOD = {
    "numpy": "2.5.2",
    "numba": "0.68.1",
    "numba-cuda": "0.30.4",
    "nvidia-cudnn-cu13": "9.13.0.50",
    "glibc": "2.35",
}


@pytest.mark.parametrize(
    ("name", "version", "told"),
    [
        ("numba-cuda", "0.9.1", "numba-cuda is 0.9.1, expected 0.30 or later"),
        ("numba", "0.68.0", "numba is 0.68.0, expected 0.68.1 or later"),
        ("nvidia-cudnn-cu13", "9.9.0.52", "nvidia-cudnn-cu13 is 9.9.0.52, expected 9.13 or later"),
        ("glibc", "2.31", "glibc is 2.31, expected 2.35 or later"),
    ],
)
def test_what_is_too_old_is_one_line(tool, name, version, told):
    versions = tool("gpu_check/versions")
    assert not list(versions.too_old(GOOD))
    (line,) = versions.too_old(GOOD | {name: version})
    assert line.startswith(told)
    assert "\n" not in line


def test_an_older_numpy_takes_an_older_numba(tool):
    assert not list(tool("gpu_check/versions").too_old(GOOD | {"numpy": "2.4.6", "numba": "0.61"}))


def test_versions_and_places_are_found(tool, job, monkeypatch):
    monkeypatch.setenv("CUDA_HOME", "/cuda")
    found = [each.facts for each in tool("gpu_check/versions").check_versions(job)]
    assert found[0]["numpy"]
    assert {"CUDA_HOME": "/cuda"} in found
    (place,) = (facts["cv2"] for facts in found if "cv2" in facts)
    assert os.path.isfile(place)
