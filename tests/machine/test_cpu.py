"""What the processor is and can do."""

import platform

import pytest

from deeplab_repro.machine import cpu

X86 = "processor : 0\nmodel name\t: AMD EPYC: Zen 4\nflags\t\t: fpu avx512_bf16\n\nprocessor : 1\n"


@pytest.fixture
def told(monkeypatch, tmp_path):
    def tell(text):
        path = tmp_path / "cpuinfo"
        if text is not None:
            path.write_text(text)
        field = cpu._told
        monkeypatch.setattr(cpu, "_told", lambda name: field(name, path))

    return tell


def test_what_linux_tells(told):
    told(X86)
    assert cpu.cpu_name() == "AMD EPYC: Zen 4"
    assert cpu.cpu_flags() == {"fpu", "avx512_bf16"}


@pytest.mark.parametrize("text", [None, "", "nothing", "flags"])
def test_what_is_not_told(told, text):
    told(text)
    assert cpu.cpu_name() in (platform.processor(), platform.machine())
    assert cpu.cpu_flags() is None


def test_an_arm(told):
    told("processor : 0\nFeatures : fp asimd bf16\n")
    assert cpu.cpu_flags() == {"fp", "asimd", "bf16"}
