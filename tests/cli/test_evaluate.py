"""deeplab-repro evaluate: what it says and writes."""

import json
import shutil
import sys
from dataclasses import asdict

import numpy as np
import pytest

from deeplab_repro.crf.params import CrfParams
from deeplab_repro.files.images import VOID
from deeplab_repro.files.pictures import write_labels
from deeplab_repro.models.registry import VOC_CLASSES
from deeplab_repro.voc.devkit import results_folder
from deeplab_repro.voc.records import Record, record_path

RECORD = Record(
    model="DeepLab-LargeFOV",
    labels=21,
    net_sha256="0",
    weights="train_iter_6000.caffemodel",
    weights_sha256="0",
    trained_on="train_aug",
    arithmetic="float32",
    version="0.1.0",
    split="val",
    crf=CrfParams(4, 121, 5),
    iterations=10,
    scores=None,
)
NAMES = [f"id{number:02}" for number in range(25)]


# All classes, in blocks, with void lines between the rows.
TRUE = np.arange(21).reshape(3, 7).repeat(8, axis=0).repeat(5, axis=1).astype(np.uint8)
TRUE[7::8] = VOID


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """`voc` with 25 masks, `out` with results for all of val and test."""
    folder = tmp_path_factory.mktemp("made")
    lists, masks = folder / "voc/ImageSets/Segmentation", folder / "voc/SegmentationClass"
    val, test = (results_folder(folder / "out", split) for split in ("val", "test"))
    for each in (lists, masks, val, test):
        each.mkdir(parents=True)
    for split in ("val", "test"):
        (lists / f"{split}.txt").write_text("\n".join(NAMES))
    for number, name in enumerate(NAMES):
        given = np.where(TRUE == VOID, 0, TRUE)
        given[:, :number] = 15  # ever worse
        write_labels(masks / f"{name}.png", TRUE)
        for each in (val, test):
            write_labels(each / f"{name}.png", given)
    return folder


@pytest.fixture
def folder(made, tmp_path, monkeypatch):
    """A copy of `made` as the current folder."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def evaluate(*more, split="val"):
    return (
        *("evaluate", "--voc", "voc", "--split", split, "--results", "out", "--workers", "0"),
        *more,
    )


def record(folder, **changes):
    made = asdict(RECORD) | changes
    record_path(folder / "out", made["split"]).write_text(json.dumps(made))


@pytest.mark.usefixtures("folder")
def test_the_table(command):
    status, out, err = command(*evaluate())
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "25 of 25 images of 'val', in percent"
    rows = {line.split()[0]: line.split()[1:] for line in lines if line.strip()}
    assert set(VOC_CLASSES) <= set(rows)
    assert len(rows["person"]) == 2
    assert rows["person"][1] == "100.00"
    assert float(rows["aeroplane"][0]) == float(rows["aeroplane"][1]) < 100
    assert "paper" not in out
    for what in ("mean IOU", "pixel accuracy", "class accuracy"):
        assert any(line.startswith(what) for line in lines)


@pytest.mark.usefixtures("folder")
def test_json(command):
    status, out, err = command(*evaluate("--json", "--trimap", "1:2:5"))
    assert (status, err) == (0, "")
    found = json.loads(out)
    assert found["images"] == 25
    assert found["missing"] == []
    assert list(found["iou"]) == list(VOC_CLASSES)
    assert found["mean_iou"] == pytest.approx(np.mean(list(found["iou"].values())))
    assert [each["width"] for each in found["trimap"]] == [1, 3, 5]
    assert set(found["trimap"][0]) == {
        *("width", "mean_iou", "pixel_accuracy", "class_accuracy"),
        *("classes_present", "mean_iou_of_present"),
    }
    assert found["classes_present"] == 21
    assert found["mean_iou_of_present"] == found["mean_iou"]
    assert found["trained_on"] is found["paper"] is None
    assert "per_image" not in found


@pytest.mark.parametrize(
    ("crf", "theirs"),
    [(asdict(RECORD.crf), "67.64 (DeepLab-CRF-LargeFOV"), (None, "62.25 (DeepLab-LargeFOV")],
)
def test_the_papers_score_on_val(command, folder, crf, theirs):
    record(folder, crf=crf)
    status, out, err = command(*evaluate())
    assert (status, err) == (0, "")
    assert f"  paper: {theirs} on PASCAL VOC 2012 val)" in out
    _, out, _ = command(*evaluate("--json"))
    assert f"{json.loads(out)['paper']['mean_iou']:.2f}" in theirs


@pytest.mark.usefixtures("folder")
def test_the_papers_scores_on_test(command):
    status, out, _ = command(*evaluate("--method", "DeepLab-CRF", split="test"))
    assert status == 0
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.strip()}
    assert rows["tvmonitor"][1] == "56.20"
    assert "paper: 66.40 (DeepLab-CRF on PASCAL VOC 2012 test)" in out


@pytest.mark.usefixtures("folder")
def test_a_method_that_the_paper_does_not_score(command):
    status, out, err = command(*evaluate("--method", "MSRA-CFM"))
    assert (status, "paper" in out) == (0, False)
    assert err == (
        "deeplab-repro: the paper has no score of MSRA-CFM on 'val' with these classes\n"
    )


def test_other_classes_have_no_score_in_the_paper(command, folder):
    record(folder)
    (folder / "voc/classes.txt").write_text("\n".join(f"kind {n}" for n in range(21)))
    status, out, err = command(*evaluate())
    assert (status, err, "paper" in out) == (0, "", False)
    assert "kind 20" in out


def test_results_of_a_net_of_other_classes(refused, folder):
    """They hold labels of the list only, as it happens, or of a longer one."""
    record(folder, labels=11)
    message = refused(*evaluate())
    assert "voc: has no classes.txt, so VOC's 21 classes are assumed, but the results" in message
    assert "of net 'DeepLab-LargeFOV', which tells 11 apart: write the names" in message
    (folder / "voc/classes.txt").write_text("\n".join(f"kind {n}" for n in range(22)))
    assert "voc: has 22 classes, but the results" in refused(*evaluate())


def test_vocs_names_are_assumed_of_other_masks(command, folder, caplog):
    for name in NAMES:
        write_labels(folder / f"voc/SegmentationClass/{name}.png", np.where(TRUE > 10, VOID, TRUE))
    assert command(*evaluate())[0] == 0
    (message,) = caplog.messages
    assert "voc: has no classes.txt, so VOC's 21 classes are assumed, but 25 label maps" in message


def test_weights_that_have_seen_the_images(command, folder):
    record(folder, trained_on="trainval_aug")
    status, out, err = command(*evaluate("--json"))
    assert status == 0
    assert json.loads(out)["trained_on"] == "trainval_aug"
    assert "trained on trainval_aug, which has images of 'val'" in err
    assert "inflated" in err


def test_missing_results_and_absent_classes(command, folder, caplog):
    for name in NAMES[1:]:
        (results_folder(folder / "out", "val") / f"{name}.png").unlink()
    write_labels(folder / "voc/SegmentationClass/id00.png", np.where(TRUE == 12, VOID, TRUE))
    status, out, _ = command(*evaluate())
    assert status == 0
    assert out.startswith("1 of 25 images of 'val', in percent")
    assert "no result for 24 of the 25 images of 'val' in out/results" in caplog.text
    assert "None of these images has dog: each counts as 0 in the means." in out
    found = json.loads(command(*evaluate("--json"))[1])
    assert found["missing"] == NAMES[1:]
    assert (found["classes_present"], found["mean_iou_of_present"]) == (20, 100)
    words = " ".join(out.split())
    assert "20 of the 21 classes are in these masks or results: the mean IOU over them is" in words
    assert "20 of the 21 classes are in these masks: the class accuracy over them is 100" in words


@pytest.mark.usefixtures("folder")
def test_trimaps(command):
    status, out, _ = command(*evaluate("--trimap", "2,1"))
    assert status == 0
    widths = [line.split()[0] for line in out.partition("trimap width")[2].splitlines()[2:4]]
    assert widths == ["2", "1"]
    assert "not defined" not in out
    assert "there" not in out


def test_trimaps_that_lack_a_class(command, folder):
    mask = TRUE.copy()
    mask[:7, 30:] = VOID  # all of class 6
    for name in NAMES:
        write_labels(folder / f"voc/SegmentationClass/{name}.png", mask)
        write_labels(results_folder(folder / "out", "val") / f"{name}.png", TRUE % VOID)
    status, out, _ = command(*evaluate("--trimap", "1"))
    assert status == 0
    rows = [line.split() for line in out.splitlines()]
    assert ["1", "-", "100.00", "100.00", "20", "100.00"] in rows
    assert "classes there their mean IOU" in " ".join(out.split())


@pytest.mark.usefixtures("folder")
def test_ranking(command):
    status, out, _ = command(*evaluate("--per-image"))
    assert status == 0
    ranking = [line.split()[0] for line in out.splitlines() if line.lstrip().startswith("id")]
    assert ranking == NAMES[:4:-1]
    assert "5 better ones are in --json" in out
    _, out, _ = command(*evaluate("--per-image", "--json"))
    assert [each["image"] for each in json.loads(out)["per_image"]] == NAMES[::-1]


def test_files(command, folder, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        "deeplab_repro.paper.figure5.draw_curves", lambda stem, curves: drawn.append((stem, curves))
    )
    record(folder)
    status, _, err = command(*evaluate("--out", "scores", "--trimap", "1,2", "--json"))
    assert status == 0
    assert err == "deeplab-repro: the scores are in scores\n"
    written = {path.name for path in (folder / "scores").iterdir()}
    assert {"confusion.csv", "per_image.csv", "evaluation.json", "trimap.csv"} <= written
    found = json.loads((folder / "scores/evaluation.json").read_text())
    assert len(found["per_image"]) == 25
    assert found["paper"] == {"method": "DeepLab-CRF-LargeFOV", "mean_iou": 67.64}
    lines = (folder / "scores/trimap.csv").read_text().splitlines()
    assert lines[1].startswith("DeepLab-CRF-LargeFOV,ours,1,")
    ((stem, curves),) = drawn
    assert str(stem) == "scores/trimap"
    assert list(curves["DeepLab-CRF-LargeFOV"]) == [1, 2]


def test_without_matplotlib(command, folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    status, _, err = command(*evaluate("--out", "scores", "--trimap", "1"))
    assert status == 0
    assert 'not drawn: matplotlib is not installed: pip install "deeplab-repro[plot]"' in err
    assert not (folder / "scores/trimap.png").exists()


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("text", "widths"),
    [
        ("3", [3]),
        ("1,2,5", [1, 2, 5]),
        ("1:4", [1, 2, 3, 4]),
        ("1:4:40", [1, 5, 9, 13, 17, 21, 25, 29, 33, 37]),
        ("5,1:2,2", [5, 1, 2]),
    ],
)
def test_widths(command, text, widths):
    _, out, _ = command(*evaluate("--json", "--trimap", text))
    assert [each["width"] for each in json.loads(out)["trimap"]] == widths


@pytest.mark.parametrize(
    "text",
    [
        "0",
        "",
        "1:",
        "5:1",
        "1:2:3:4",
        "1:0:5",
        "-1",
        "1.5",
        "²",
        "1001",
        "9" * 5000,
        "1:0000199999999",
    ],
)
def test_refused_widths(refused, text):
    assert "is not widths from 1 to 1000" in refused(*evaluate(f"--trimap={text}"))


def test_refused(refused, folder):
    assert "did you mean DeepLab-CRF-LargeFOV" in refused(*evaluate("--method", "CRF-LargeFOV"))
    assert "the splits here are test, val" in refused(*evaluate(split="train"))
    (folder / "file").touch()
    assert "is a file, expected a folder" in refused(*evaluate("--out", "file"))
    record_path(folder / "out", "val").write_text("{")
    assert "predict.val.json: is broken, or another program's" in refused(*evaluate())


def test_results_of_another_split(refused, folder):
    results_folder(folder / "out", "val").rename(results_folder(folder / "out", "train"))
    message = refused(*evaluate())
    assert "comp6_test_cls: has the results of split 'test', expected those of 'val'" in message
