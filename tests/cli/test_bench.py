"""deeplab-repro bench: what its parts print, and every kind of bad input."""

import json
import re
import sys

import pytest

from deeplab_repro.bench import crf
from deeplab_repro.files.marks import made_here
from deeplab_repro.files.pictures import write_image

TINY = ("bench", "crf", "--size", "16x12", "--labels", "3", "--repeat", "1", "--iterations", "1")

pytestmark = pytest.mark.usefixtures("measured_here")


def test_tables(command):
    status, out, err = command(*TINY)
    assert (status, err) == (0, "")
    assert "cores of" in out
    assert "16x12 pixels, 3 labels, 1 iterations, CRF 4,121,5,3,3, medians of 1 runs" in out
    assert "all threads" in out
    assert "one thread" in out
    for size in ("8x6", "16x12", "32x24", "64x48"):
        assert f"\n {size} " in out
    assert "\n log time / log pixels " in out
    assert "floor: the time of the iterations' loads, stores and operations" in out
    assert "slope of log time over log labels: " in out


def test_json(command, tmp_path, photo):
    write_image(tmp_path / "a.png", photo(12, 20))
    status, out, _ = command(*TINY, "--crf", "3,95,3", "--image", tmp_path / "a.png", "--json")
    assert status == 0
    report = json.loads(out)
    assert report["work"]["size"] == [12, 16]
    assert report["work"]["picture"] == str(tmp_path / "a.png")
    assert report["work"]["params"] == [3, 95, 3, 3, 3]
    assert len(report["runs"]["all_threads"]["ms"]) == 1
    assert [row["labels"] for row in report["labels"]["rows"]] == list(crf.LABEL_COUNTS)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "PART"),
        (["nets"], "invalid choice: 'nets'"),
        (["crf", "--size", "500"], "'500' is not WxH, for example 500x375"),
        (["crf", "--size", "0x5"], "'0x5' is not WxH"),
        (["crf", "--labels", "256"], "'256' is not a whole number from 1 to 255"),
        (["crf", "--labels", "0"], "'0' is not a whole number from 1 to 255"),
        (["crf", "--repeat", "0"], "'0' is not a whole number from 1"),
        (["crf", "--size", "99999x99999"], "99999x99999 pixels with 21 labels: needs"),
        (["crf", "--crf", "4"], "'4' is not W1,SIGMA_ALPHA,SIGMA_BETA"),
        (["crf", "--image", "nowhere.png"], "nowhere.png: cannot be read"),
        (["crf", "--size", "16x12", "--crf", "4,1e-40,5"], "sigma_alpha is 1e-40"),
        (["crf", "--size", "16x12,"], "'' is not WxH"),
        (["crf", "--chart", "a.pdf"], "'a.pdf' is not a file name in .png or .svg"),
        (["crf", "--chart", ".svg"], "'.svg' is not a file name in .png or .svg"),
        (["net", "--chart", "chart"], "'chart' is not a file name in .png or .svg"),
        (["net", "--size", "500"], "'500' is not WxH, for example 500x375"),
        (["net", "--repeat", "0"], "'0' is not a whole number from 1"),
        (["net", "--threads", "0"], "'0' is not a whole number from 1 to 1024"),
        (["net", "--model", "LargeFOV"], "DeepLab-LargeFOV"),
        (["net", "--model", "DeepLab", "--prototxt", "F"], "not allowed with argument --model"),
        (["net", "--prototxt", "nowhere.prototxt"], "nowhere.prototxt: cannot be read"),
        (["net", "--weights", "random:x"], "weights are 'random:x', expected random: and a"),
        (["net", "--weights", "nowhere.caffemodel"], "nowhere.caffemodel"),
        (["net", "--size", "900000x900000"], "needs"),
    ],
)
def test_bad_input(refused, arguments, expected):
    assert expected in refused("bench", *arguments)


def net_report():
    """What `bench_net` reports, of a machine on which all is round."""
    run = {"build_ms": 500.0, "first_run_ms": 2500.0, "difference": 0.0, "same_scores": True}
    against = {
        "opencv": {"ratio_of_medians": 9.0, "median_of_ratios": 1.25},
        "plain_opencv": {"ratio_of_medians": 1.0, "median_of_ratios": 1.0},
    }
    row = {
        **{"width": 41, "height": 33, "pixels": 1353, "operations": 300_000_000_000},
        **{"median_ms": {"opencv": 1600.0}, "floor_ms": 2000.0, "share": {"opencv": 1.25}},
    }
    return {
        "machine": "2 cores of a machine",
        "net": "tiny",
        "weights": "random:1",
        "blob": "fc8",
        "size": (33, 41),
        "threads": 2,
        "repeat": 5,
        "runs": {
            "opencv": run | {"median_ms": 1600.0, "peak_bytes": 654_000_000},
            "plain_opencv": run | {"median_ms": 2000.0, "peak_bytes": None, "difference": 0.00012},
        },
        "absent": {"torch": "torch is not installed: pip install torch"},
        "against": {"plain_opencv": against},
        "products_a_second": 150e9,
        "growth": {"rows": [row], "slopes_of_time": {}},
    }


@pytest.fixture
def measured(monkeypatch):
    """What is given to `bench_net`, which reports this."""
    given = {}

    def give(report):
        def bench_net(model, weights, **options):
            given.update(options, model=model, weights=weights)
            return report

        monkeypatch.setattr("deeplab_repro.bench.net.bench_net", bench_net)
        return given

    return give


def lines_of(out):
    return [" ".join(line.split()) for line in out.splitlines()]


CHARTED = {"crf": TINY[1:], "net": ("net",)}


@pytest.mark.parametrize("part", CHARTED)
def test_what_is_in_the_way_of_a_chart(refused, tmp_path, monkeypatch, part):
    def begun(*_, **__):
        pytest.fail("it has begun")

    monkeypatch.setattr(crf, "bench_crf", begun)
    monkeypatch.setattr("deeplab_repro.bench.net.bench_net", begun)
    of_others = tmp_path / "a.svg"
    of_others.write_text("mine")
    asked = ("bench", *CHARTED[part], "--chart")
    told = refused(*asked, of_others)
    assert "a.svg: is there already" in told
    assert "--force" in told
    assert "is a file, expected a folder" in refused(*asked, of_others / "b.png")
    (tmp_path / "c.png").mkdir()
    assert "c.png: cannot be written: it is a folder" in refused(*asked, tmp_path / "c.png")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    told = refused(*asked, tmp_path / "b.svg")
    assert 'matplotlib is not installed: pip install "deeplab-repro[plot]"' in told
    assert of_others.read_text() == "mine"


def test_a_picture_that_is_measured_is_not_drawn_over(refused, tmp_path, photo):
    write_image(tmp_path / "a.png", photo(12, 20))
    for more in ((), ("--force",)):
        told = refused(*TINY, "--image", tmp_path / "a.png", "--chart", tmp_path / "a.png", *more)
        assert "a.png: the results would overwrite it" in told


def test_charts(command, measured, tmp_path):
    pytest.importorskip("matplotlib", reason='matplotlib is not installed: pip install ".[plot]"')
    measured(net_report())
    for part, name in (("crf", "new/a.SVG"), ("net", "new/a.png")):
        path = tmp_path / name
        status, out, err = command("bench", *CHARTED[part], "--chart", path)
        assert (status, err) == (0, f"deeplab-repro: chart: {path}\n")
        assert "floor: the time of the" in out
        assert made_here(path)
    labels = re.findall(r"<!-- (.*) -->", (tmp_path / "new/a.SVG").read_text())
    assert "dense CRF, 3 labels, 1 iterations" in labels
    assert {"deeplab-repro, all threads", "deeplab-repro, one thread"} <= set(labels)
    assert {"image size (megapixels)", "time of one image (ms)"} <= set(labels)
    assert "floor: its iterations at the machine's speed" in labels


def test_tables_of_nets(command, measured):
    given = measured(net_report())
    status, out, err = command("bench", "net", "--size", "500x375,8x6", "--threads", "2")
    assert (status, err) == (0, "")
    assert given["model"] == "DeepLab-LargeFOV"
    assert given["weights"] == "random:1"
    assert (given["threads"], given["repeat"]) == (2, 5)
    assert given["sizes"] == [(375, 500), (6, 8)]
    lines = lines_of(out)
    assert "tiny to 'fc8', 41x33 pixels, 2 threads, medians of 5 runs in turns" in lines
    assert "deeplab-repro, opencv 1600.0 1.25 500 2500 654" in lines
    assert "plain cv2 2000.0 1.00 500 2500" in lines
    assert "without PyTorch: torch is not installed: pip install torch" in lines
    assert "all give the same scores: they differ by up to 1e-04 standard deviations" in lines
    assert "41x33 300.0 2000.0 1600.0 (125%)" in lines
    assert "at the 150 GFLOP/s of NumPy's" in out
    assert "log time" not in out


def test_scores_that_differ_and_growth(command, measured):
    report = net_report()
    report["runs"]["plain_opencv"] |= {"difference": None, "same_scores": False}
    report["growth"]["slopes_of_time"] = {"opencv": 1.014}
    measured(report)
    _, out, _ = command("bench", "net")
    assert "NOT the same scores as deeplab-repro, opencv: plain cv2" in lines_of(out)
    assert "log time / log pixels 1.01" in lines_of(out)


def test_json_of_nets(command, measured, tiny):
    given = measured(net_report())
    status, out, _ = command("bench", "net", "--prototxt", tiny, "--set", "EXP=x", "--json")
    assert status == 0
    assert (given["model"], given["variables"]) == (tiny, {"EXP": "x"})
    assert json.loads(out) == json.loads(json.dumps(net_report()))
