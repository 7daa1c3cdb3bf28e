"""Photos that run in tiles: the same labels, in less memory."""

import numpy as np
import pytest

from deeplab_repro import CrfParams, DeepLab
from deeplab_repro.engines import any_size, large_maps
from deeplab_repro.errors import ArgumentError, ResourceError
from deeplab_repro.machine import memory
from deeplab_repro.net.scaled import shrunk
from tests.conftest import TINY, TOYS, assert_one_line

CRF = CrfParams(4, 20, 5)

SIZE = 571, 257  # both are prime

# The branches of the MSc nets come together at their end alone, so they run in one stage, whose
# tiles are large.
TILES = {"ToyVOC-LargeFOV": 240, "ToyVOC-MSc-LargeFOV": 520}


def same(found, expected):
    """Up to rounding, which is about 1e-6 of the scores' deviation, and near ties alone."""
    wanted = expected.coarse.values
    np.testing.assert_allclose(found.coarse.values, wanted, rtol=0, atol=1e-4 * wanted.std())
    assert (found.labels != expected.labels).mean() <= 1e-4


@pytest.mark.parametrize("engine", ["opencv", "onnxruntime"])
@pytest.mark.parametrize("name", TOYS)
def test_tiles_make_the_labels_of_the_whole(photo, name, engine):
    if engine == "onnxruntime":
        pytest.importorskip("onnxruntime")
    image = photo(*SIZE)
    whole = DeepLab(name, device="cpu", engine=engine, tile="never", crf=None)(image)
    found = DeepLab(name, device="cpu", engine=engine, tile=TILES[name], crf=None)(image)
    assert whole.tiles == 0
    assert found.tiles > 1
    same(found, whole)


def test_little_memory_means_tiles(tiny, photo, monkeypatch):
    model = DeepLab(tiny, "random:0", device="cpu", engine="opencv", crf=None)
    image = photo(900, 701)
    whole = model.run_net(image)
    needs = model.memory_needed(image.shape[:2])
    monkeypatch.setattr(memory, "available_memory", lambda: needs - 1_000_000)
    told, calls = [], []

    def on_tiles(how, total):
        told.append((how, total))
        return lambda: calls.append(1)

    model = DeepLab(tiny, "random:0", device="cpu", engine="opencv", crf=None)
    found = model.run_net(image, on_tiles=on_tiles)
    same(found, whole)
    ((how, total),) = told
    assert found.tiles == total == len(calls) > 1
    assert how.startswith(f"in {total} tiles of up to ")
    assert how.endswith("are free")


def test_labels_alone_need_less(tiny, photo, monkeypatch):
    model = DeepLab(tiny, "random:0", device="cpu", engine="opencv", crf=None)
    image = photo(900, 701)
    size = model.net.fitting_size(image.shape[:2])
    free = model.engine.memory_needed((1, 3, *size)) + 1_000_000
    monkeypatch.setattr(memory, "available_memory", lambda: free)
    assert model.run_net(image, labels_only=True).tiles == 0
    again = DeepLab(tiny, "random:0", device="cpu", engine="opencv", crf=None)
    with pytest.raises(ResourceError, match="use a machine with more memory"):
        again.run_net(image)  # three arrays of scores at full size are more than tiles save


def test_a_tile_too_small_is_told_the_least(tiny, photo):
    image = photo(70, 50)
    with pytest.raises(ArgumentError, match=r"use --tile \d+$") as error:
        DeepLab(tiny, "random:0", crf=None, tile=1)(image)
    assert_one_line(error, "net 'tiny'")
    least = int(str(error.value).split("--tile ")[1])
    assert DeepLab(tiny, "random:0", crf=None, tile=least).run_net(image).tiles > 1
    with pytest.raises(ArgumentError):
        DeepLab(tiny, "random:0", crf=None, tile=least - 1)(image)


def test_tiles_where_not_even_the_smallest_photo_fits_as_a_whole(tiny, photo, monkeypatch):
    image = photo(50, 60)
    usual = DeepLab(tiny, "random:0", device="cpu", crf=None)
    whole, needs = usual(image), usual.memory_needed((50, 60))
    monkeypatch.setattr(memory, "available_memory", lambda: needs * 9 // 10)
    found = DeepLab(tiny, "random:0", device="cpu", crf=None)(image)
    assert found.tiles > 1
    same(found, whole)
    monkeypatch.setattr(memory, "available_memory", lambda: needs // 100)
    for tile in ("auto", "never"):
        with pytest.raises(ResourceError, match=r"net 'tiny'.*machine with more memory") as error:
            DeepLab(tiny, "random:0", device="cpu", crf=None, tile=tile)
        assert_one_line(error, "net 'tiny'")


def test_the_side_that_is_named_may_run_in_tiles(tmp_path, monkeypatch):
    wide = TINY.replace("num_output: 5", "num_output: 256").replace(" stride: 8", "")
    wide = wide.replace("33 input_dim: 41", "257 input_dim: 257").replace("factor: 8", "factor: 1")
    (tmp_path / "wide.prototxt").write_text(wide)

    def model(side=None):
        how = {"device": "cpu", "engine": "opencv", "crf": None, "max_side": side}
        return DeepLab(tmp_path / "wide.prototxt", "random:0", **how)

    monkeypatch.setattr(large_maps, "MOST_BYTES", 1 << 30)  # else OpenCV saves most of that itself
    needs, image = model().memory_needed((257, 257)), np.zeros((3000, 2000, 3), np.uint8)
    monkeypatch.setattr(memory, "available_memory", lambda: needs - 20_000_000)
    with pytest.raises(ResourceError, match=r"--max-side \d+\)$") as error:
        model().run_net(image, labels_only=True)
    side = int(str(error.value).split("--max-side ")[1].rstrip(")"))
    assert model(side).run_net(image, labels_only=True).tiles > 1


@pytest.mark.parametrize("tile", [0, -3, 1.5, True, "always", "512"])
def test_other_sizes_of_tiles_are_refused(tiny, tile):
    with pytest.raises(ArgumentError, match=r"tile is .*, expected 'auto', 'never' or"):
        DeepLab(tiny, "random:0", tile=tile)


def test_never_in_tiles(tiny, photo, monkeypatch):
    model = DeepLab(tiny, "random:0", device="cpu", crf=None, tile="never")
    image = photo(900, 700)
    needs = model.memory_needed(image.shape[:2])
    monkeypatch.setattr(memory, "available_memory", lambda: needs - 1_000_000)
    with pytest.raises(ResourceError, match=r"--tile auto.*--max-side \d+") as error:
        model(image)
    assert_one_line(error, "net 'tiny' on an image of")
    side = int(str(error.value).split("--max-side ")[1].rstrip(")"))
    assert 500 < side < 900
    model(photo(side, side * 7 // 9))


def test_small_photos_are_never_asked_for_tiles(tiny, photo, monkeypatch):
    model = DeepLab(tiny, "random:0", device="cpu", crf=None)
    monkeypatch.setattr(any_size, "find_tiling", None)
    assert model(photo(33, 41)).tiles == 0


# --- scaled down


def test_a_photo_is_scaled_down_and_its_labels_are_at_full_size(tiny, photo):
    image = photo(90, 120)
    scaled = DeepLab(tiny, "random:0", device="cpu", crf=CRF, iterations=1, max_side=60)
    result = scaled(image)
    seen = DeepLab(tiny, "random:0", device="cpu", crf=CRF, iterations=1)(shrunk(image, (45, 60)))
    assert (result.size, result.scaled, seen.scaled) == ((90, 120), (45, 60), None)
    np.testing.assert_array_equal(result.labels, seen.labels.repeat(2, 0).repeat(2, 1))
    assert result.scores.shape == result.marginals.shape == result.probs.shape == (4, 90, 120)
    np.testing.assert_allclose(result.probs.sum(axis=0), 1, rtol=1e-5)
    # Bilinear: between two values in the image's middle there is what lies between them.
    lower, upper = (
        seen.scores[:, 20:22, 30:32].min((1, 2)),
        seen.scores[:, 20:22, 30:32].max((1, 2)),
    )
    middle = result.scores[:, 41, 61]
    assert ((middle >= lower) & (middle <= upper)).all()


def test_a_photo_that_is_small_enough_is_left_as_it_is(tiny, photo):
    image = photo(45, 60)
    result = DeepLab(tiny, "random:0", device="cpu", crf=None, max_side=60)(image)
    assert result.scaled is None
    np.testing.assert_array_equal(
        result.labels, DeepLab(tiny, "random:0", device="cpu", crf=None)(image).labels
    )


@pytest.mark.parametrize("side", [0, -1, 2.5, True, "60"])
def test_other_sides_are_refused(tiny, side):
    with pytest.raises(ArgumentError, match=r"max_side is .*, expected a number of pixels"):
        DeepLab(tiny, "random:0", max_side=side)
