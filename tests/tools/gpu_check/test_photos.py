"""tools/gpu_check/photos.py: a folder of photos goes through `predict`."""


def test_a_folder_goes_through_predict(tool, job):
    first, *stages, second = [
        each
        for each in tool("gpu_check/photos").check_predict(job)
        if each.kind == "predict" or each.facts["stage"] != "write"
    ][:5]
    assert first.facts["photos"] == first.facts["written"] == second.facts["written"] == 2
    assert [each.facts["stage"] for each in stages] == ["read", "net", "CRF"]


def test_photos_vary_in_size_and_are_the_same_every_time(tool, job, tmp_path):
    predict = tool("gpu_check/photos")
    files = []
    for name in ("a", "b"):
        devkit = predict.make_devkit(tmp_path / name, job)
        assert len(devkit.ids("float16")) == 2
        files.append([devkit.photo(each).read_bytes() for each in devkit.ids("float32")])
    assert files[0] == files[1]
    assert files[0][0] != files[0][1]
