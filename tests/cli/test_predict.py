"""deeplab-repro predict: what it says and writes."""

import pytest

from deeplab_repro.caffe import read_net, write_caffemodel
from deeplab_repro.files.pictures import write_image


@pytest.fixture
def folder(tiny, photo, monkeypatch):
    """The current folder: a data set of two photos and four classes, and a net with weights."""
    monkeypatch.chdir(tiny.parent)
    root = tiny.parent / "voc"
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    (root / "JPEGImages").mkdir()
    (root / "ImageSets/Segmentation/val.txt").write_text("a\nb\n")
    (root / "classes.txt").write_text("sky\nroad\ncar\ntree\n")
    for name in "ab":
        write_image(root / f"JPEGImages/{name}.jpg", photo(20, 30))
    net = read_net(tiny)
    net.fill_random(0)
    write_caffemodel(net, "tiny.caffemodel")
    return tiny.parent


NET = ("--prototxt", "tiny.prototxt", "--weights", "tiny.caffemodel")
VAL = ("predict", "--voc", "voc", "--split", "val", "--workers", "0")


def test_what_it_says(command, folder):
    status, out, err = command(*VAL, *NET, "--crf", "3,20,10", "--out", "out", "--tar", "a.tgz")
    assert (status, err) == (0, "")
    assert out == (
        "2 of 2 images of val are in out/results/VOC2012/Segmentation/comp6_val_cls: net 'tiny', "
        "tiny.caffemodel, CRF 3,20,10\n"
    )
    assert (folder / "a.tgz").is_file()


def test_run_again(command, folder):
    again = (*VAL, *NET, "--no-crf", "--out", "out")
    assert command(*again)[2] == ""
    told = "deeplab-repro: nothing was left to do: an earlier run has segmented all images\n"
    assert command(*again)[2] == told
    (folder / "out/results/VOC2012/Segmentation/comp6_val_cls/b.png").unlink()
    told = "deeplab-repro: 1 of 2 images were segmented by an earlier run\n"
    assert command(*again)[2] == told


def test_a_safetensors_brings_its_net(command, folder):
    convert = ("convert", *NET, "--to", "safetensors", "--out", "tiny")
    assert command(*convert)[0] == 0
    for told in ("", "nothing was left to do"):
        status, out, err = command(
            *VAL, "--weights", "tiny.safetensors", "--no-crf", "--out", "out"
        )
        assert status == 0
        assert told in err if told else not err
        assert "2 of 2 images of val" in out
        assert "net 'tiny', tiny.safetensors, no CRF" in out
    assert (folder / "out/results/VOC2012/Segmentation/comp6_val_cls/b.png").is_file()


def test_scores_are_kept_and_taken(command, folder):
    options = ("--scores", "s", "--no-crf")
    status, *_ = command(*VAL, *NET, *options, "--out", "out", "--scores-type", "float32")
    assert status == 0
    status, out, _ = command(*VAL, *options, "--out", "again")
    assert status == 0
    assert "net 'tiny', tiny.caffemodel, no CRF" in out
    results = [folder / f"{out}/results/VOC2012/Segmentation" for out in ("out", "again")]
    contents = [(each / "comp6_val_cls/a.png").read_bytes() for each in results]
    assert contents[0] == contents[1]


def test_an_image_that_fails(command, folder):
    (folder / "voc/JPEGImages/b.jpg").write_bytes(b"no picture")
    status, out, err = command(*VAL, *NET, "--no-crf", "--out", "out", "--tar", "a.tgz")
    assert status == 2
    assert out.startswith("1 of 2 images of val")
    assert err.startswith(f"deeplab-repro: error: {folder / 'voc/JPEGImages/b.jpg'}: ")
    assert not (folder / "a.tgz").exists()


def test_refused(refused, folder):
    assert "needs weights" in refused(*VAL, "--out", "out")
    assert "no CRF parameters are published for net 'tiny'" in refused(*VAL, *NET, "--out", "out")
    assert "the splits here are val" in refused(
        "predict", "--voc", "voc", "--split", "test", *NET, "--out", "out"
    )
    assert "has no ImageSets/Segmentation" in refused(
        "predict", "--voc", ".", "--split", "val", *NET, "--out", "out"
    )
    told = refused(*VAL, *NET, "--no-crf", "--out", "out", "--tar", "a.zip")
    assert "a.zip: expected the name of a .tgz or .tar.gz file" in told
    (folder / "taken").write_text("")
    assert "taken" in refused(*VAL, *NET, "--no-crf", "--out", "taken")
    assert not (folder / "out").exists()
