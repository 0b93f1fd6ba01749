"""A study on a Ray cluster writes the bytes of one on this machine; the cluster wants a token."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from fake_studies import assert_same, make_study, run_here

from offbeat.errors import RunError
from offbeat.studies.ray import LOCAL, RayTasks
from offbeat.studies.runner import run_study

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs the extra offbeat[ray]")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where Ray keeps its token, which it reads once a process."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        patch.delenv("RAY_AUTH_MODE", raising=False)
        yield home


def test_without_ray_it_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    with pytest.raises(RunError, match=r"^Ray is not installed: install offbeat\[ray\], or leave out --ray\.$"):
        RayTasks(tmp_path, LOCAL)


@needs_ray
@pytest.mark.slow
def test_tasks_write_the_same_bytes(tmp_path: Path, home: Path) -> None:
    study = make_study("sequential", "asynchronous", seeds=(0,), dry=True)
    run_here(study, tmp_path / "here")
    outcome = run_study(study, tmp_path / "there", 1, workplace=partial(RayTasks, tmp_path / "there", LOCAL, 2))
    assert (len(outcome.finished), dict(outcome.failed)) == (2, {})
    assert_same(tmp_path / "here", tmp_path / "there")
    assert os.environ["RAY_AUTH_MODE"] == "token"
    assert (home / ".ray" / "auth_token").exists()


@needs_ray
@pytest.mark.slow
def test_a_failed_task_says_why(tmp_path: Path, home: Path) -> None:
    (run,) = make_study("sequential", seeds=(0,), dry=True, profile="nope").runs()
    cluster = RayTasks(tmp_path, LOCAL, 1)
    try:
        cluster.start(run)
        ((ended, reason),) = cluster.wait(120.0)
    finally:
        cluster.stop()
    assert ended == run
    assert reason is not None and reason.startswith("Unknown timing profile 'nope'")


@needs_ray
def test_a_cluster_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"No Ray cluster can be joined at 127\.0\.0\.1:1 "):
        RayTasks(tmp_path, "127.0.0.1:1")
