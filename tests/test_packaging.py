"""What an installed package consists of."""

from configparser import ConfigParser
from pathlib import Path

from deeplab_repro.version import __version__

ROOT = Path(__file__).resolve().parents[1]


def test_every_room_is_installed():
    """setup.cfg lists them one by one: setuptools does not find prototxt/, which lies outside."""
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    rooms = [
        file.parent.relative_to(ROOT) for file in (ROOT / "deeplab_repro").rglob("__init__.py")
    ]
    expected = {".".join(room.parts) for room in rooms} | {"deeplab_repro.prototxt"}
    assert config["options"]["packages"].split() == sorted(expected)


def test_the_citation_is_of_this_version():
    assert f"version: {__version__}\n" in (ROOT / "CITATION.cff").read_text()
