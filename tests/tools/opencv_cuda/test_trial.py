"""tools/opencv_cuda/trial.py with the OpenCV that is installed here."""

import json
from argparse import Namespace

import pytest


@pytest.fixture
def trial(tool):
    module = tool("opencv_cuda/trial")
    if not hasattr(module.cv2.dnn, "readNetFromDarknet"):
        pytest.skip("the trial is for OpenCV 4")
    return module


def test_the_trials_net_is_the_same_by_opencv_and_by_numpy(trial, capsys):
    image, weights, expected = trial.make_case()
    dnn = trial.cv2.dnn
    found = trial.run(image, weights, dnn.DNN_BACKEND_OPENCV, dnn.DNN_TARGET_CPU)
    trial.compare("CPU", found, expected)
    assert "a small net on CPU: " in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"on CPU is .* from NumPy's; expected 1e-04"):
        trial.compare("CPU", found * 1.001, expected)


def test_the_trial_refuses_an_opencv_without_cuda(trial, monkeypatch):
    monkeypatch.setattr(trial.cv2, "getBuildInformation", lambda: "  NVIDIA CUDA:   NO\n")
    with pytest.raises(SystemExit, match="was built without NVIDIA CUDA"):
        trial.main()


def test_the_trial_refuses_a_wheel_that_pip_would_replace(trial, monkeypatch, tmp_path, capsys):
    setup = tmp_path / "setup.cfg"
    setup.write_text(
        "[options]\ninstall_requires =\n    numpy>=1\n    opencv-python-headless>=4.8\n"
    )

    def pip_plans(*names: str) -> None:
        def pip(command, **_):
            assert command[-2:] == ["numpy>=1", "opencv-python-headless>=4.8"]
            plan = {"install": [{"metadata": {"name": name}} for name in names]}
            return Namespace(returncode=0, stdout=json.dumps(plan))

        monkeypatch.setattr(trial.subprocess, "run", pip)

    pip_plans("numpy")
    trial.check_pip(setup)
    assert capsys.readouterr().out.endswith("and adds numpy\n")
    pip_plans("opencv-python-headless")
    with pytest.raises(SystemExit, match="pip would put opencv-python-headless over this OpenCV"):
        trial.check_pip(setup)
