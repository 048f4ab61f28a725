from __future__ import annotations

import os
from pathlib import Path

import pytest

from tools.gateway import rundir


def test_a_claimed_directory_names_its_holder_and_refuses_a_second(tmp_path):
    """Two stacks on the same ports would overwrite each other's files."""
    with rundir.claimed(tmp_path):
        assert rundir.holder(tmp_path) == os.getpid()
        with (
            pytest.raises(rundir.AlreadyRunning, match=f"process {os.getpid()}"),
            rundir.claimed(tmp_path),
        ):
            pass
    assert rundir.holder(tmp_path) is None


def test_a_number_left_by_a_process_that_is_gone_means_nothing(tmp_path):
    """Only the lock counts, so another process of that number is safe from --stop."""
    (tmp_path / "pid").write_text(str(os.getpid()))
    assert rundir.holder(tmp_path) is None
    assert rundir.holder(tmp_path / "never") is None


def test_an_old_ready_file_is_gone_as_soon_as_a_new_run_begins(tmp_path):
    """Whoever waits for it must not read yesterday's."""
    rundir.ready_file(tmp_path).write_text("{}")
    with rundir.claimed(tmp_path):
        assert not rundir.ready_file(tmp_path).exists()


def test_the_last_lines_of_a_log_are_read_from_its_end(tmp_path):
    """Blank lines say nothing; a missing log has none."""
    log = tmp_path / "x.log"
    log.write_text("\n".join(f"line {number}" for number in range(5000)) + "\n\n \n")
    assert rundir.last_lines(log, 2) == ["line 4998", "line 4999"]
    assert rundir.last_lines(tmp_path / "none", 2) == []


def test_files_stand_here_or_in_the_state_directory(tmp_path, monkeypatch):
    """A read-only working directory is no obstacle."""
    monkeypatch.chdir(tmp_path)
    assert rundir.locate(8080) == tmp_path / ".run" / "8080"
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert rundir.locate(8080) == Path("/state/inference-gateway/8080")
