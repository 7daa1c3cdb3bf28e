"""Checks for test_steps.py, in a module so that another process can import them."""

import os
import signal
import time

from deeplab_repro.errors import DeviceError


def finds_then_fails(job):
    yield finding(job)
    raise DeviceError("the GPU\nis gone")


def finds_then_dies(job):
    yield finding(job)
    os.kill(os.getpid(), signal.SIGSEGV)


def finds_then_hangs(job):
    yield finding(job)
    time.sleep(60)


def finding(job):
    from steps import Finding  # when tools/gpu_check/ is on the path

    return Finding("kind", {"rehearsal": job.rehearsal}, "pass")
