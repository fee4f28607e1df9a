"""What the benchmark reads of a process's memory; in a process of its own, whose high-water mark is its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

SIZE = 200 * 2**20
PROGRAM = f"""
import mmap
from tools.benchmark.machine import peak_memory, resident_memory
before, peak_before = resident_memory(), peak_memory()
block = mmap.mmap(-1, {SIZE})
block.write(bytes([1]) * {SIZE})
held, peak = resident_memory(), peak_memory()
block.close()
print(before, peak_before, held, peak, resident_memory(), peak_memory())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells both")
def test_the_peak_remembers_what_was_given_back():
    result = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, encoding="utf-8", check=True)
    before, peak_before, held, peak, after, peak_after = map(int, result.stdout.split())
    assert peak_before >= before
    assert held - before == pytest.approx(SIZE, rel=0.1)
    assert peak - peak_before >= 0.9 * SIZE
    assert after < before + 0.1 * SIZE and peak_after >= peak
