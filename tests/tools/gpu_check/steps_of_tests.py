"""Steps for test_gpu_check.py: what a process of its own is given must be named in a module."""

import os
import signal
import subprocess
import sys
import time

from deeplab_repro.errors import DeviceError


def finds_then_fails(job):
    yield finding(rehearsal=job.rehearsal)
    raise DeviceError("the GPU\nis gone")


def finds_then_dies(job):
    yield finding(rehearsal=job.rehearsal)
    os.kill(os.getpid(), signal.SIGSEGV)


def finds_then_hangs(_job):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield finding(child=child.pid)
    time.sleep(60)


def finding(**facts):
    from gpu_check_steps import Finding  # when tools/ is on the path

    return Finding("kind", facts, "pass")
