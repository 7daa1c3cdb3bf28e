"""Released weights from the web: which, from where, to where, and whether they fit."""

import hashlib
import os
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from deeplab_repro import DeepLab
from deeplab_repro.caffe import deeplab_pb2, load_weights, read_net, write_caffemodel
from deeplab_repro.errors import ArgumentError, FileError, FormatError, WeightsError
from deeplab_repro.models import released as module
from deeplab_repro.models.fetched import record_path, remembered
from deeplab_repro.models.registry import MODELS, Weights
from deeplab_repro.models.released import fetch
from deeplab_repro.models.web import DownloadError
from tests.conftest import assert_one_line
from tests.models.web_server import good

NAME = "ToyVOC-LargeFOV"
SHIPPED = MODELS[NAME].shipped_weights
DATA = SHIPPED.read_bytes()
TRAIN, TRAIN2 = "train_iter_6000.caffemodel", "train2_iter_8000.caffemodel"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """ToyVOC's model as a released one, which is quicker, and a folder for the user."""
    train, train2 = Weights(TRAIN, "train"), Weights(TRAIN2, "trainval")
    released = replace(
        MODELS[NAME], shipped_weights=None, train_weights=train, train2_weights=train2
    )
    monkeypatch.setitem(MODELS, NAME, released)
    monkeypatch.setenv("DEEPLAB_REPRO_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_fetched(server, home):
    told = []
    url = server.page("/a.caffemodel?of=1", good(DATA))
    fetched = fetch(NAME, url, tell=told.append)
    path = home / NAME / TRAIN
    assert path.read_bytes() == DATA
    assert fetched.path == str(path)
    assert fetched.size == len(DATA)
    assert fetched.sha256 == hashlib.sha256(DATA).hexdigest()
    assert (fetched.model, fetched.url, fetched.training_set) == (NAME, url, "train")
    assert remembered(NAME, TRAIN) == fetched
    assert sorted(os.listdir(path.parent)) == [TRAIN, f"{TRAIN}.json"]
    assert told == []


def test_then_the_name_is_enough(server, home, photo):
    with pytest.raises(ArgumentError) as error:
        DeepLab(NAME, crf=None)
    mends = ("give a caffemodel", "--model ToyVOC-LargeFOV", "random:1")
    assert_one_line(error, f"needs weights: run deeplab-repro fetch {NAME}, or ", *mends)
    fetch(NAME, server.page("/", good(DATA)))
    image = photo(30, 40)
    expected = DeepLab(NAME, SHIPPED, crf=None)(image).scores
    for model in (
        DeepLab(NAME, crf=None),
        DeepLab(NAME, NAME, crf=None),
        DeepLab(MODELS[NAME].test_prototxt, NAME, crf=None, variables={"EXP": "toyvoc"}),
    ):
        assert model.weights == home / NAME / TRAIN
        np.testing.assert_array_equal(model(image).scores, expected)


def test_the_second_time_nobody_is_asked(server):
    url = server.page("/", good(DATA))
    fetched = fetch(NAME, url)
    told = []
    for _ in range(2):
        assert fetch(NAME, tell=told.append) == fetched
    assert len(server.requests) == 1
    assert told == [f"{fetched.path} was there already, and is kept"] * 2
    for broken in ("", "{"):  # then the file is looked at anew
        record_path(NAME, TRAIN).write_text(broken)
        assert fetch(NAME) == replace(fetched, url=None)


def test_the_file_name_tells_which_of_the_two(server, home):
    train = server.page(f"/x/{TRAIN}", good(DATA))
    train2 = server.page(f"/{TRAIN2.replace('_', '%5F')}?a/b", good(DATA))
    other = server.page("/other", good(DATA))
    for url, options, expected in (
        (train, {"train2": True}, TRAIN),
        (train2, {}, TRAIN2),
        (other, {"train2": True}, TRAIN2),
    ):
        assert fetch(NAME, url, **options).path == str(home / NAME / expected)
    assert remembered(NAME, TRAIN).url == train
    assert remembered(NAME, TRAIN2).training_set == "trainval"


def test_what_the_file_says_counts_for_more_than_its_name(server):
    snapshot = deeplab_pb2.NetParameter()
    snapshot.layers.add(name="data").image_data_param.source = "toyvoc/list/trainval.txt"
    told = []
    url = server.page(f"/{TRAIN}", good(DATA + snapshot.SerializeToString()))
    assert fetch(NAME, url, tell=told.append).training_set == "trainval"
    assert told == [
        "warning: the file says that it was trained on trainval, but its name stands for train"
    ]


def test_another_folder(server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    url = server.page("/", good(DATA))
    fetched = fetch(NAME, url, "models")
    assert fetched.path == str(tmp_path / "models" / NAME / TRAIN)
    assert DeepLab(NAME, crf=None).weights.samefile(fetched.path)
    assert fetch(NAME) == fetched  # there, for all that no folder is given
    (tmp_path / "models" / NAME / TRAIN).unlink()
    assert fetch(NAME, url).path == str(tmp_path / "home" / NAME / TRAIN)


def test_a_file_that_was_there(server, tmp_path):
    path = tmp_path / "models" / NAME / TRAIN
    path.parent.mkdir(parents=True)
    path.write_bytes(DATA)
    fetched = fetch(NAME, server.url("/"), tmp_path / "models")
    assert (fetched.path, fetched.url) == (str(path), None)
    assert remembered(NAME, TRAIN) == fetched
    path.write_bytes(DATA[:-1] + b"\0")
    with pytest.raises(FileError) as error:
        fetch(NAME, folder=tmp_path / "models")
    assert_one_line(error, path, "has changed since it was fetched: remove it")
    record_path(NAME, TRAIN).unlink()
    path.write_bytes(b"<html>")
    with pytest.raises(FileError) as error:
        fetch(NAME, server.url("/"), tmp_path / "models")
    assert_one_line(error, path, "a web page", "in the way: remove it")
    assert path.read_bytes() == b"<html>"
    assert server.requests == []


# --- what is not taken


def not_kept(home):
    return not os.path.exists(home / NAME) or os.listdir(home / NAME) == []


def altered(tmp_path, change):
    net = read_net(MODELS[NAME].test_prototxt, {"EXP": "toyvoc"})
    load_weights(net, SHIPPED)
    change(net)
    write_caffemodel(net, tmp_path / "altered")
    return (tmp_path / "altered").read_bytes()


def infinite(net):
    net.layers[0].blobs[1].data[3] = np.inf


def without_fc8(net):
    net.layers[:] = [layer for layer in net.layers if not layer.name.startswith("fc8")]


def test_another_file(server, home, tmp_path):
    for data, kind, said in (
        (b"<!DOCTYPE html><p>For sale", FormatError, "a web page, expected a caffemodel"),
        (DATA[: len(DATA) // 2], FormatError, ""),
        (altered(tmp_path, infinite), WeightsError, "'conv1_1' has weights that are NaN or inf"),
        (altered(tmp_path, without_fc8), WeightsError, "has no layer 'fc8"),
    ):
        url = server.page("/page", good(data))
        with pytest.raises(kind) as error:
            fetch(NAME, url)
        assert_one_line(error, f"{url}: not the weights of {NAME}: ", said)
        assert not_kept(home)


def test_weights_of_another_model(server, monkeypatch):
    url = server.page("/", good(DATA))
    other = "ToyVOC-MSc-LargeFOV"
    monkeypatch.setitem(MODELS, other, replace(MODELS[NAME], name=other))
    with pytest.raises(WeightsError) as error:
        fetch(other, url)
    assert_one_line(error, url, "has no layer")


def test_no_more_than_three_times_the_weights(server):
    net = read_net(MODELS[NAME].test_prototxt, {"EXP": "toyvoc"})
    most = 12 * net.parameters + 16_000_000
    url = server.page("/", lambda handler: handler.head(200, Content_Length=most + 1))
    with pytest.raises(DownloadError) as error:
        fetch(NAME, url)
    assert_one_line(error, url, f"has {most + 1:,} bytes, expected less than {most:,}")


def test_which_models(server):
    with pytest.raises(ArgumentError) as error:
        fetch("DeepLab-7x7")
    assert_one_line(error, "no weights of DeepLab-7x7 were ever released")
    with pytest.raises(ArgumentError) as error:
        fetch("ToyVOC-MSc-LargeFOV", server.url("/"))
    assert_one_line(error, "ToyVOC-MSc-LargeFOV comes with its weights")
    with pytest.raises(ArgumentError, match=r"did you mean .*DeepLab-LargeFOV"):
        fetch("largefov")
    for url in ("://", "http://[", "ftp://a/b"):
        with pytest.raises(DownloadError, match="not an http or https address"):
            fetch(NAME, url)
    assert server.requests == []


def test_no_folder(tmp_path, monkeypatch, server):
    (tmp_path / "file").touch()
    with pytest.raises(FileError) as error:
        fetch(NAME, server.url("/"), tmp_path / "file")
    assert_one_line(error, tmp_path / "file" / NAME, "cannot be made")
    # Where it could not be remembered it is not begun.
    monkeypatch.setenv("DEEPLAB_REPRO_HOME", str(tmp_path / "file"))
    with pytest.raises(FileError) as error:
        fetch(NAME, server.url("/"), tmp_path)
    assert_one_line(error, tmp_path / "file" / NAME, "cannot be made")
    assert server.requests == []


# --- files that the user has


def zipped(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name.replace("__", "/"), data)
    return path


def test_from_a_file(tmp_path, home):
    source = tmp_path / "copy.caffemodel"
    source.write_bytes(DATA)
    fetched = fetch(NAME, source)
    path = home / NAME / TRAIN
    assert path.read_bytes() == DATA
    assert (fetched.path, fetched.sha256) == (str(path), hashlib.sha256(DATA).hexdigest())
    assert fetched.url is None
    assert remembered(NAME, TRAIN) == fetched
    assert sorted(os.listdir(path.parent)) == [TRAIN, f"{TRAIN}.json"]
    # As a text, and its name says which of the two it is.
    source.rename(tmp_path / TRAIN2)
    assert fetch(NAME, str(tmp_path / TRAIN2)).path == str(home / NAME / TRAIN2)


def test_from_an_archive(tmp_path, home):
    members = {"README": b"", f"net__{TRAIN}": b"no", f"net__{TRAIN2}": DATA}
    archive = zipped(tmp_path / "prototxt_and_model.zip", **members)
    fetched = fetch(NAME, archive, train2=True)
    assert (home / NAME / TRAIN2).read_bytes() == DATA
    assert fetched.training_set == "trainval"
    with pytest.raises(FormatError) as error:
        fetch(NAME, archive)
    assert_one_line(error, f"{archive}: not the weights of {NAME}")
    assert sorted(os.listdir(home / NAME)) == [TRAIN2, f"{TRAIN2}.json"]


def test_files_that_are_something_else(tmp_path, home):
    def file(name, data):
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    whole = zipped(tmp_path / "whole.zip", **{TRAIN: DATA}).read_bytes()
    middle = len(whole) // 2
    most = 12 * read_net(MODELS[NAME].test_prototxt, {"EXP": "toyvoc"}).parameters + 16_000_000
    with open(tmp_path / "large", "wb") as large:
        large.truncate(most)
    for source, kind, said in (
        ("nowhere", FileError, "no such file or directory; expected a file, or an http or https"),
        ("", FileError, "expected a file, or an http"),
        (tmp_path, FileError, "is a folder"),
        (file("cut", DATA[:70_000]), FormatError, f"cut: not the weights of {NAME}: "),
        (tmp_path / "large", FormatError, f"has {most:,} bytes, expected less than {most:,}"),
        (zipped(tmp_path / "a.zip", a__b=b""), FormatError, f"holds no {TRAIN}, but b"),
        (
            zipped(tmp_path / "bomb.zip", **{TRAIN: bytes(most)}),
            FormatError,
            f"has {most:,} bytes, expected less",
        ),
        (
            file("b.zip", whole[:middle] + bytes(100) + whole[middle + 100 :]),
            FormatError,
            "is a broken .zip (",
        ),
    ):
        with pytest.raises(kind) as error:
            fetch(NAME, source)
        assert_one_line(error, said)
        assert not_kept(home)


def test_a_known_digest(tmp_path, home, monkeypatch):
    source = tmp_path / "copy.caffemodel"
    source.write_bytes(DATA)
    for digest in ("0" * 64, hashlib.sha256(DATA).hexdigest()):
        weights = Weights(TRAIN, "train", digest)
        monkeypatch.setitem(MODELS, NAME, replace(MODELS[NAME], train_weights=weights))
        if digest.startswith("0000"):
            with pytest.raises(WeightsError) as error:
                fetch(NAME, source)
            assert_one_line(error, f"its sha256 is {hashlib.sha256(DATA).hexdigest()}, expected 0")
            assert not_kept(home)
    assert fetch(NAME, source).sha256 == digest


# --- the authors' hosts


def test_one_host_after_the_other(server, home, monkeypatch):
    places = ("http://nowhere.invalid/a", server.url("/b"), server.url("/c"), server.url("/d"))
    monkeypatch.setattr(module, "PLACES", places)
    server.page(f"/b/{NAME}/{TRAIN}", good(b"<html>"))
    asked, told = [], []
    with pytest.raises(FileError) as error:
        fetch(NAME, tell=told.append, on_bytes=lambda host, *_: asked.append(host))
    assert_one_line(
        error,
        f"{TRAIN} of {NAME} is at none of the authors' hosts",
        "give a mirror's URL or a file with --from",
    )
    file = f"{NAME}/{TRAIN}: "
    assert [line.partition(file)[2].partition(", expected")[0] for line in told] == [
        "its host is not known, or there is no network",
        f"not the weights of {NAME}: this is a web page",
        "HTTP Error 404: Not Found",
        "HTTP Error 404: Not Found",
    ]
    assert asked[0] == "nowhere.invalid"
    assert not_kept(home)
    url = server.page(f"/c/{NAME}/{TRAIN}", good(DATA))
    assert fetch(NAME).url == url
    url = server.page(f"/d/{NAME}/{TRAIN2}", good(DATA))
    assert fetch(NAME, train2=True).url == url


def test_the_hosts():
    assert [place.split("/")[2] for place in module.PLACES] == [
        "ccvl.stat.ucla.edu",
        "www.cs.jhu.edu",
        "liangchiehchen.com",
    ]
