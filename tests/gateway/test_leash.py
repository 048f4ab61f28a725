from __future__ import annotations

import os
import subprocess
import sys

from tools.gateway import leash

READ = "import ctypes; n = ctypes.c_int(); ctypes.CDLL(None).prctl(2, ctypes.byref(n)); print(n.value)"
"""Prints the signal of PR_GET_PDEATHSIG."""


def run(parent: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, leash.__file__, str(parent), sys.executable, "-c", READ]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_program_on_the_leash_dies_with_its_parent():
    """The kernel was told to kill it, and exec did not undo that."""
    assert run(os.getpid()).stdout == "9\n"


def test_a_parent_that_has_gone_already_starts_nothing():
    """Between fork and prctl nobody watches."""
    assert run(os.getpid() + 1).stdout == ""
