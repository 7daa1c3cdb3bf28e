"""tools/fuzz/readers.py, as far as it goes without atheris: seeds, changes to them, distilling."""

import random

import pytest

KINDS = ["prototxt", "caffemodel", "solverstate", "safetensors"]


@pytest.mark.parametrize("kind", KINDS)
def test_changed_seeds_come_past_the_parser_and_do_not(tmp_path, tool, kind):
    seeds = tool("fuzz/readers").make_seeds(kind)
    change, check = tool("fuzz/mutators").MUTATORS[kind], tool("fuzz/targets").check
    rng = random.Random(1)
    assert check(kind, seeds[0], tmp_path) == "read"
    ends = [check(kind, change(seeds[0], rng, seeds), tmp_path) for _ in range(60)]
    assert 1 < ends.count("read") < 55  # a header that is changed is mostly broken
    assert len(set(ends)) > 5
    change(b"", rng, seeds)


def test_what_is_distilled_reaches_as_much(tmp_path, tool):
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    texts = [b"layers {", b"layers { }", b"layers { } ", b"layer { }", b"base_lr: 1"]
    for i, text in enumerate(texts):
        (corpus / str(i)).write_bytes(text)
    tool("fuzz/readers").distil("prototxt", corpus, tmp_path / "out")
    kept = sorted(path.read_bytes() for path in (tmp_path / "out").iterdir())
    assert kept == [text for text in sorted(texts) if text != b"layers { } "]
