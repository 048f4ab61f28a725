"""Becomes a program that the kernel kills as soon as the process PARENT is gone: `leash.py PARENT PROGRAM ARGUMENT…`.

A program of its own because the parent has threads: what runs between fork and exec there (a `preexec_fn`) meets
gRPC's fork handlers, which now and then abort the child.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h; it outlives exec


def main(parent: int, program: list[str]) -> None:
    """Become `program`, unless `parent` went away before the kernel was told."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() == parent:
        os.execvp(program[0], program)  # noqa: S606 - to become it is the point


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
