"""Whole runs on the wall clock: every schedule, stopped and resumed, and what is left of them."""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from offbeat.build import build_replay
from offbeat.cli import describe
from offbeat.config import RunConfig, Schedule, WallConfig, make_config
from offbeat.errors import ConfigError, RunError
from offbeat.jobs import learner_threads, worker_names
from offbeat.replay import memory_map
from offbeat.run import read_weights, resume, train
from offbeat.timing.adopt import adopt_records
from offbeat.timing.ledger import EpisodeRecord, Ledger, read_cycles, read_episodes, read_stages

EPISODE_STEPS = 15


def tiny(
    schedule: Schedule = "asynchronous",
    processes: Literal["auto", "joined", "separate"] = "separate",
    episodes: int = 3,
    **changes: object,
) -> RunConfig:
    """Episodes of 0.6 s that learn from the second on."""
    config = make_config("async-base", "cpu", schedule=schedule)
    values: dict[str, object] = {
        "clock": "wall",
        "minutes": episodes * 0.6 / 60,
        "warmup_s": 0.7,
        "replay_s": 60.0,
        "checkpoint_episodes": 1,
        "keep_replay": True,
        "env": replace(config.env, episode_s=0.6, fast_reset=True, reset_s=0.1),
        "sac": replace(config.sac, batch_size=4, filters=4, hidden=(16, 16)),
        "wall": WallConfig(processes=processes),
    }
    return replace(config, **(values | changes))  # type: ignore[arg-type]


def stop_after(episode: int) -> Callable[[EpisodeRecord], None]:
    """What a user's Ctrl-C does at the end of an episode."""

    def interrupt(record: EpisodeRecord) -> None:
        if record.episode == episode:
            raise KeyboardInterrupt

    return interrupt


def added(config: RunConfig, directory: Path) -> int:
    """Transitions in the replay of a run."""
    return build_replay(config, memory_map(directory / "replay")).added


@pytest.mark.parametrize(
    "config",
    [tiny(processes="joined"), tiny(learn_in_resets=False), tiny("sequential"), tiny("reactive")],
    ids=["one learning process", "two worker processes", "sequential", "reactive"],
)
def test_a_run_is_stopped_and_resumed(config: RunConfig, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path, stop_after(0))
    assert multiprocessing.active_children() == []
    assert (tmp_path / "checkpoint.pt").exists()
    assert not (tmp_path / "processes.json").exists()
    initial = read_weights(tmp_path)

    told: list[EpisodeRecord] = []
    summary = resume(tmp_path, told.append)
    assert multiprocessing.active_children() == []
    assert [record.episode for record in told] == [1, 2]
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
    assert (summary["clock"], summary["profile"], summary["schedule"]) == ("wall", "wall", config.schedule)
    assert summary["processes"] == ["interaction", "robot", *worker_names(config)]
    assert (summary["episodes"], summary["steps"]) == (3, 3 * EPISODE_STEPS)
    # At most one update a step after the warm-up, and nearly all of them in spite of the stop.
    allowed = 3 * EPISODE_STEPS - config.warmup_steps
    assert allowed / 2 < summary["updates"] <= allowed
    assert not np.array_equal(read_weights(tmp_path), initial)
    assert added(config, tmp_path) == 3 * EPISODE_STEPS

    episodes, cycles, stages = read_episodes(tmp_path), read_cycles(tmp_path), read_stages(tmp_path)
    assert np.all(np.diff(episodes["robot_s"]) > 0)  # one run clock, time between the two parts left out
    assert np.all(np.diff(cycles["deadline_s"]) > 0)
    np.testing.assert_array_equal(np.bincount(cycles["episode"]), [EPISODE_STEPS] * 3)
    assert np.all(cycles["response_s"] > 0)
    counts = np.bincount(stages["stage"], minlength=4)
    assert counts[2] == counts[3] > 0  # a SAMPLE for every UPDATE
    assert cycles["weights_version"].max() <= summary["updates"] + 1


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="A dry run needs the virtual clock"):
        tiny(dry=True)
    config = tiny()
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path, stop_after(0))
    path = tmp_path / "replay" / "reward.bin"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(RunError, match="it is damaged"):
        resume(tmp_path)
    assert multiprocessing.active_children() == []


def test_the_clock_is_told_at_the_start() -> None:
    assert "asynchronous, panda, seed 0; wall clock\n" in describe(tiny())


def test_processes_suit_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, names, threads in ((1, 1, 1), (2, 1, 1), (4, 2, 1), (8, 2, 5)):
        monkeypatch.setattr("offbeat.jobs.usable_cores", lambda cores=cores: float(cores))
        config = tiny(processes="auto")
        assert (len(worker_names(config)), learner_threads(config)) == (names, threads)
        assert worker_names(tiny("reactive")) == ()
    assert worker_names(tiny(processes="joined")) == ("learning",)
    assert worker_names(tiny(processes="separate")) == ("sampling", "updating")


def test_the_sampling_process_loads_no_library_it_does_not_need() -> None:
    code = "import sys, offbeat.jobs; print(sorted({'torch', 'mujoco', 'cv2', 'rich'} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert answer.stdout.strip() == "[]", answer.stderr


def write_records(directory: Path, episodes: int) -> None:
    """Records of some episodes of two cycles each."""
    log = Ledger(directory, 0.04)
    info = dict.fromkeys(
        ("captured_s", "observed_s", "sent_s", "deadline_s", "lateness_s", "slack_s", "response_s", "mask_share"), 0.0
    )
    for episode in range(episodes):
        log.begin_episode(episode)
        for _ in range(2):
            log.step(1.0, info | {"robot_s": 0.0, "camera_s": 0.0}, 0, 0.0)
        log.end_episode(10.0 + episode)


@pytest.mark.parametrize(
    ("name", "lost", "whole"),
    [
        ("episodes.csv", 0, 3),
        ("episodes.csv", 1, 2),  # a line without its end
        ("episodes.csv", 10_000, 0),  # not even the names of the columns
        ("cycles.bin", 1, 2),
        ("cycles.bin", 200, 1),
        ("stages.bin", 0, 3),
    ],
)
def test_whole_records_are_kept(name: str, lost: int, whole: int, tmp_path: Path) -> None:
    write_records(tmp_path, 3)
    path = tmp_path / name
    data = path.read_bytes()
    path.write_bytes(data[: max(0, len(data) - lost)])
    log = Ledger(tmp_path, 0.04)
    assert adopt_records(log, tmp_path, updates=7) == (whole, 9.0 + whole if whole else 0.0)
    assert log.summary()["updates"] == 7
    log.begin_episode(whole)
    assert log.end_episode(20.0).training_s == pytest.approx(whole * 0.08)
    assert len(read_episodes(tmp_path)["steps"]) == whole + 1
    assert len(read_cycles(tmp_path)) == 2 * whole
