"""Freed memory stays with the process."""

import platform
import subprocess
import sys

import pytest

AGAIN = """
import resource
import numpy as np
from dpmodel.execution import keep_freed_memory
keep_freed_memory()
def faults(n):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(n)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults(10_000_000), faults(10_000_000))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left as they are")
@pytest.mark.parametrize("asked", [True, False])
def test_the_system_makes_pages_once(asked: bool) -> None:
    """80 MB are 20,000 pages; whoever sets an option of glibc keeps what that means."""
    environment = {} if asked else {"MALLOC_TOP_PAD_": "0"}
    run = subprocess.run(
        [sys.executable, "-c", AGAIN], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    first, second = map(int, run.stdout.split())
    assert first > 15_000 or first < 1_000  # the system may make huge pages
    assert second < 100 if asked else second > 0.9 * first
