"""deeplab-repro crf: maps of every format, folders of them, and every kind of bad input."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from deeplab_repro.crf.cuda import device as crf_device
from deeplab_repro.crf.dense_crf import dense_crf
from deeplab_repro.crf.params import CrfParams
from deeplab_repro.files.images import read_image, read_labels
from deeplab_repro.files.made_of import MadeOf, sha256_of, sha256_of_text
from deeplab_repro.files.pictures import write_image
from deeplab_repro.files.probs import write_bin, write_coarse, write_scores_mat
from deeplab_repro.net.scores import CoarseScores, softmax

SCORES = np.random.default_rng(0).standard_normal((4, 20, 30)).astype(np.float32)
PROBS = softmax(SCORES)
BITS = np.rint(255 * PROBS).astype(np.uint8)
ONE = ("--crf", "4,20,5", "--iterations", "1")


@pytest.fixture
def folder(tmp_path, photo, monkeypatch):
    """The current folder, with a.png (20x30 pixels) and a map of it in every format."""
    monkeypatch.chdir(tmp_path)
    write_image("a.png", photo(20, 30))
    np.save("a.npy", PROBS)
    np.savez("a.npz", probs=PROBS)
    write_bin("a.bin", PROBS)
    write_scores_mat("a.mat", SCORES)
    return tmp_path


@pytest.fixture
def folders(folder, photo):
    """Beside them photos/ and maps/ with a, b and c, each named in another way."""
    Path("photos").mkdir()
    Path("maps").mkdir()
    for seed, name in enumerate("abc"):
        write_image(f"photos/{name}.png", photo(20, 30, seed))
    os.rename("a.bin", "maps/a.bin")
    os.rename("a.npy", "maps/b.probs.npy")
    os.rename("a.mat", "maps/c_blob_0.mat")
    return folder


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.bin", "a.mat"])
@pytest.mark.usefixtures("folder")
def test_every_format_gives_what_the_library_gives(command, photo, name):
    arguments = ("--probs", name, "--out", "new/labels.png", "--marginals", "new/q.npy")
    status, out, err = command("crf", "a.png", *arguments, "--crf", "4,20,5", "--positional", "2,1")
    assert status == 0
    expected = dense_crf(photo(20, 30), PROBS, CrfParams(4, 20, 5, 2, 1))
    np.testing.assert_array_equal(read_labels("new/labels.png"), expected.labels)
    marginals = np.load("new/q.npy")
    assert marginals.dtype == np.float32
    np.testing.assert_array_equal(marginals, expected.marginals)
    most = np.bincount(expected.labels.ravel()).argmax()
    share = (expected.labels == most).mean()
    assert re.fullmatch(
        rf"a\.png  30x20  CRF +\d+ ms  class-{most} {share:.0%}(, class-\d \d+%)*\n", out
    )
    assert err.splitlines() == [
        f"deeplab-repro: CRF 4,20,5 and 2,1 ran on {expected.device}",
        "deeplab-repro: results are in new/labels.png",
    ]


def test_unless_told_otherwise_it_is_that_of_largefov(command, folder, photo):
    status, _, err = command("crf", "a.png", "--probs", "a.npy", "--out", "labels.png")
    assert status == 0
    assert "CRF 4,121,5 and 3,3 ran on" in err
    expected = dense_crf(photo(20, 30), PROBS, CrfParams(4, 121, 5))
    np.testing.assert_array_equal(read_labels("labels.png"), expected.labels)
    assert not list(folder.rglob("*marginals*"))


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (PROBS[None], PROBS),
        (PROBS[:1], np.stack([1 - PROBS[0], PROBS[0]])),
        (PROBS[0], np.stack([1 - PROBS[0], PROBS[0]])),
        (SCORES[:1], softmax(np.stack([0 * SCORES[0], SCORES[0]]))),
        (BITS, BITS / BITS.sum(axis=0)),
        (PROBS.argmax(0), 0.7 * np.moveaxis(np.eye(4)[PROBS.argmax(0)], -1, 0) + 0.075),
    ],
)
@pytest.mark.usefixtures("folder")
def test_maps_of_other_shapes_are_taken_or_told_how_to_be(command, given, wanted):
    """Followed until the command succeeds."""
    names = {"numpy": np, "np": np, "C": 4}
    for _ in range(4):
        np.save("given.npy", given)
        status, _, err = command("crf", "a.png", "--probs", "given.npy", "--out", "b.png", *ONE)
        if status == 0:
            break
        names |= {"probs": given, "p": given, "x": given, "labels": given}
        mend = re.split("use |save ", err)[-1]
        given = eval(mend, names)
    assert status == 0
    expected = dense_crf(read_image("a.png"), wanted.astype(np.float32), CrfParams(4, 20, 5), 1)
    np.testing.assert_array_equal(read_labels("b.png"), expected.labels)


@pytest.mark.usefixtures("folder")
def test_scores_of_others_are_taken_and_told(command, caplog):
    """At full size, as PyTorch has them, and with labels last: the softmax's labels."""
    expected = dense_crf(read_image("a.png"), PROBS, CrfParams(4, 20, 5), 1).labels
    for given, axes in ((SCORES[None], "CxHxW"), (np.moveaxis(SCORES, 0, -1), "HxWxC")):
        np.save("given.npy", given)
        status, *_ = command("crf", "a.png", "--probs", "given.npy", "--out", "b.png", *ONE)
        assert status == 0
        told = f"given.npy, and others like it there, are taken as scores, {axes}, at the photo's"
        assert f"{told} size" in caplog.messages
        np.testing.assert_array_equal(read_labels("b.png"), expected)


@pytest.mark.usefixtures("folders")
def test_folders(command):
    arguments = ("--probs", "maps", "--out", "out", "--marginals", "more/q")
    status, out, err = command("crf", "photos", *arguments, *ONE)
    assert status == 0
    assert [line.split()[0] for line in out.splitlines()] == ["a.png", "b.png", "c.png"]
    assert err.splitlines()[1] == "deeplab-repro: results are in out"
    assert sorted(os.listdir("out")) == ["a.png", "b.png", "c.png"]
    assert sorted(os.listdir("more/q")) == [f"{name}.marginals.npy" for name in "abc"]
    for name in "abc":
        labels = read_labels(f"out/{name}.png")
        np.testing.assert_array_equal(labels, np.load(f"more/q/{name}.marginals.npy").argmax(0))


@pytest.mark.usefixtures("folder")
def test_what_segment_saved(command, tiny):
    net = ("--prototxt", tiny, "--weights", "random:0", *ONE)
    for saved in ("probs", "bin", "mat"):
        status, _, _ = command("segment", "a.png", *net, "--save", saved, "--out", f"in/{saved}")
        assert status == 0
        status, _, _ = command("crf", "a.png", "--probs", f"in/{saved}", "--out", "out", *ONE)
        assert status == 0
        again = read_labels("out/a.png")
        np.testing.assert_array_equal(again, read_labels(f"in/{saved}/a.png"))
    # As the original's MATLAB script makes its .bin of the .mat: softmax, then crop.
    data = scipy.io.loadmat("in/mat/a_blob_0.mat")["data"].transpose(1, 0, 2)
    probs = np.exp(data) / np.exp(data).sum(axis=2, keepdims=True)
    values = np.fromfile("in/bin/a.bin", "<f4", offset=12).reshape((20, 30, 4), order="F")
    np.testing.assert_allclose(probs[:20, :30], values, atol=1e-6)


@pytest.mark.usefixtures("folders")
def test_one_bad_picture_does_not_stop_the_others(command, photo):
    Path("maps/a.bin").write_bytes(b"\0" * 100)
    Path("photos/b.png").write_text("no picture")
    write_image("photos/d.png", photo(21, 30))
    np.save("maps/d.npy", PROBS)
    write_image("photos/e.png", photo(20, 30))
    np.save("maps/e.npy", 2 * PROBS)
    status, out, err = command("crf", "photos", "--probs", "maps", "--out", "out", *ONE)
    assert status == 2
    assert [line.split()[0] for line in out.splitlines()] == ["c.png"]
    a, b, d, e, *rest = err.splitlines()
    assert "error: maps/a.bin: begins with 0 rows" in a
    assert "error: photos/b.png: is not an image" in b
    assert "error: maps/d.npy: holds 4x20x30, expected CxHxW or HxWxC of the image's 21x30" in d
    assert "error: maps/e.npy: goes from" in e
    assert rest[2:] == ["deeplab-repro: 1 done, 4 failed"]
    assert os.listdir("out") == ["c.png"]


@pytest.mark.usefixtures("folders")
def test_names_that_clash_and_subfolders(command, tiny, photo):
    """What `segment` called the probabilities, `crf` finds."""
    Path("photos/deep").mkdir()
    write_image("photos/deep/a.png", photo(20, 30, 8))
    write_image("photos/a.jpg", photo(20, 30, 9))
    photos = ("photos", "--recursive", *ONE)
    net = ("--prototxt", tiny, "--weights", "random:0", "--save", "probs")
    assert command("segment", *photos, *net, "--out", "in")[0] == 0
    status, _, err = command("crf", *photos, "--probs", "in", "--out", "out")
    assert status == 0
    assert "names of photos clash, so some results are named in full (2): a.jpg.png, a.png" in err
    results = ["a.jpg.png", "a.png.png", "b.png", "c.png", "deep/a.png"]
    assert [str(path.relative_to("out")) for path in sorted(Path("out").rglob("*.png"))] == results
    for name in results:
        np.testing.assert_array_equal(read_labels(f"out/{name}"), read_labels(f"in/{name}"))


@pytest.mark.usefixtures("folder")
def test_scores_of_another_photo(command, photo):
    """They say what they were made of, where predict kept them."""
    made_of = MadeOf(sha256_of("a.png"), sha256_of_text("settings"))
    write_coarse("a.npz", CoarseScores(SCORES, 1, 0), made_of)
    arguments = ("crf", "a.png", "--probs", "a.npz", "--out", "labels.png", *ONE)
    assert command(*arguments)[0] == 0
    write_image("a.png", photo(20, 30, seed=5))
    Path("labels.png").unlink()
    status, _, err = command(*arguments)
    assert status == 2
    assert "a.npz: was made of another photo than a.png is now" in err
    assert not Path("labels.png").exists()


@pytest.mark.usefixtures("folders")
def test_pictures_without_a_map(command):
    os.remove("maps/b.probs.npy")
    status, out, err = command("crf", "photos", "--probs", "maps", "--out", "out", *ONE)
    assert status == 2
    assert len(out.splitlines()) == 2
    assert "error: photos/b.png has no probabilities in maps\n" in err
    assert err.endswith("deeplab-repro: 2 done, 1 failed\n")
    os.remove("maps/a.bin")
    status, _, err = command("crf", "photos", "--probs", "maps", "--out", "out", *ONE)
    assert status == 2
    assert "error: 2 photos have no probabilities in maps\n" in err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["a.png", "--out", "x.png"], "--probs"),
        (["a.png", "--probs", "a.npy"], "--out"),
        (["missing.png", "--probs", "a.npy", "--out", "x.png"], "missing.png: cannot be read"),
        (["a.png", "--probs", "missing.npy", "--out", "x.png"], "missing.npy: cannot be read"),
        (["a.png", "--probs", "a.png", "--out", "x.png"], "a.png: is none of .npy, .npz, .bin"),
        (["a.png", "--probs", "broken.bin", "--out", "x.png"], "broken.bin: is cut short"),
        (["a.png", "--probs", "nan.npy", "--out", "x.png"], "nan.npy: has 1 values that"),
        (["a.png", "--probs", "energies.npy", "--out", "x.png"], "of energies e save -e"),
        (["a.png", "--probs", "many.npy", "--out", "x.png"], "many.npy: probs has 300 labels"),
        (["a.png", "--probs", "batch.npy", "--out", "x.png"], "photo in a file of its own"),
        (["a.png", "--probs", "swapped.npy", "--out", "x.png"], "height and width are swapped"),
        (["a.png", "--probs", "a.npy", "--out", "x"], "x: expected the name of a .png file"),
        (["a.png", "--probs", "a.npy", "--out", "x.png", "--marginals", "q"], "a .npy file"),
        (["a.png", "--probs", "a.npy", "--out", "a.png"], "would overwrite it"),
        (
            ["a.png", "--probs", "a.npy", "--out", "x.png", "--marginals", "a.npy"],
            "a.npy: the results would overwrite it",
        ),
        (["a.png", "--probs", "a.npy", "--out", "a.npy/x.png"], "a.npy: is a file, expected"),
        (
            ["photos", "--probs", "a.npy", "--out", "x.png"],
            "a.npy: holds the probabilities of one photo, not of 3",
        ),
        (["photos", "--probs", "maps", "--out", "x.png"], "maps is a folder: give a folder"),
        (["photos", "--probs", "maps", "--out", "x", "--marginals", "q.npy"], "maps is a folder"),
        (["photos", "--probs", "maps", "--out", "photos"], "would overwrite it"),
        (
            ["photos", "--probs", "photos", "--out", "x"],
            "photos: holds no probabilities for photos/a.png",
        ),
        (["photos", "--probs", "two", "--out", "x"], "two/a.npy and two/a.probs.npy are both prob"),
        (
            ["a.png", "photos/a.png", "--probs", "maps", "--out", "x"],
            "for a.png: expected a.png.npy",
        ),
        (["a.png", "--probs", "a.npy", "--out", "x.png", "--crf", "4,121"], "'4,121' is not W1"),
        (["a.png", "--probs", "a.npy", "--out", "x.png", "--crf", "4,0,5"], "sigma_alpha is 0"),
        (["a.png", "--probs", "a.npy", "--out", "x.png", "--crf", "4,1e-40,5"], "is 1e-40"),
        (["a.png", "--probs", "a.npy", "--out", "x.png", "--positional", "3"], "W2,SIGMA_GAMMA"),
        (["a.png", "--probs", "a.npy", "--out", "x.png", "--positional", "3,0"], "sigma_gamma"),
        (["a.png", "--probs", "a.npy", "--out", "x.png", "--iterations", "x"], "whole number"),
    ],
)
def test_bad_input(refused, folders, arguments, expected):
    np.save("a.npy", PROBS)
    np.save("energies.npy", -np.log(PROBS))
    np.save("many.npy", np.full((300, 20, 30), 1 / 300, np.float32))
    np.save("batch.npy", np.stack([PROBS, PROBS]))
    np.save("swapped.npy", PROBS.transpose(0, 2, 1))
    broken = PROBS.copy()
    broken[1, 2, 3] = np.nan
    np.save("nan.npy", broken)
    Path("broken.bin").write_bytes(b"\1\0\0\0")
    Path("two").mkdir()
    np.save("two/a.npy", PROBS)
    np.save("two/a.probs.npy", PROBS)
    before = sorted(folders.rglob("*"))
    assert expected in refused("crf", *arguments)
    assert sorted(folders.rglob("*")) == before


@pytest.mark.usefixtures("folder")
def test_too_little_memory(refused, monkeypatch):
    monkeypatch.setattr("deeplab_repro.machine.memory.available_memory", lambda: 90_000_000)
    message = refused("crf", "a.png", "--probs", "a.npy", "--out", "x.png")
    assert "a.png with a.npy: the CRF with probs of 4x20x30: needs 0.2 GB of memory" in message


@pytest.mark.usefixtures("folders")
def test_a_device_that_is_not_there_stops_at_once(refused, monkeypatch):
    monkeypatch.setattr(crf_device, "crf_cuda_problem", lambda: "there is no GPU")
    message = refused("crf", "photos", "--probs", "maps", "--out", "out", "--device", "cuda")
    assert message == "deeplab-repro: error: CUDA was asked for, but there is no GPU\n"
    assert not os.path.exists("out")
