"""A web server for the tests of downloads."""

import os

import pytest

from deeplab_repro.models import download as module
from deeplab_repro.models.download import download
from tests.models.web_server import MOST, WebServer


@pytest.fixture(scope="package")
def serving():
    with WebServer() as server:
        yield server


@pytest.fixture
def server(serving):
    serving.clear()
    return serving


@pytest.fixture
def get(tmp_path, monkeypatch):
    """Download to the file `there`; its contents."""
    monkeypatch.setattr(module, "_WAITS", (0,) * len(module._WAITS))

    def run(url, check=lambda path: path.read_bytes(), **options):
        result = download(url, tmp_path / "there", MOST, check, **options)
        assert os.listdir(tmp_path) == ["there"]
        return result

    return run
