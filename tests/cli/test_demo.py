import json

import pytest

from deeplab_repro.models.registry import MODELS

TOY = [name for name, model in MODELS.items() if model.shipped_weights]


def test_the_demo_shows_both_nets_with_and_without_crf(command, tmp_path):
    status, out, err = command("demo", "--scenes", 2, "--out", tmp_path / "shown")
    assert status == 0
    for name in TOY:
        assert name in out
        assert f"{name} + CRF" in out
    assert "2 scenes of ToyVOC val, seed 0" in out
    assert str(tmp_path / "shown" / "index.html") in err.replace("\n", "")
    page = (tmp_path / "shown" / "index.html").read_text(encoding="utf-8")
    assert page.count("<img") >= 2 * 6
    assert "http" not in page.replace("http://www.w3.org", "")  # it works offline
    assert (tmp_path / "shown" / "contact_sheet.png").read_bytes().startswith(b"\x89PNG")


def test_json(command, tmp_path):
    status, out, _ = command("demo", "--scenes", 1, "--seed", 5, "--json", "--out", tmp_path)
    assert status == 0
    report = json.loads(out)
    assert (report["seed"], report["scenes"]) == (5, 1)
    assert [(row["model"], row["crf"]) for row in report["rows"]] == [
        (name, crf) for name in TOY for crf in (False, True)
    ]


@pytest.mark.parametrize("name", TOY)
def test_shipped_weights_are_small(name):
    assert MODELS[name].shipped_weights.stat().st_size < 1_500_000


def test_refused(refused, tmp_path):
    assert "'0' is not a whole number from 1" in refused("demo", "--scenes", 0)
    (tmp_path / "file").write_text("")
    assert "is a file, expected a folder" in refused("demo", "--out", tmp_path / "file")
