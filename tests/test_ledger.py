"""The records of a run: what a cycle's row holds, what an episode's line holds, and the same bytes after a resume."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from offbeat.errors import RunError
from offbeat.timing.causes import Cause, find_cause
from offbeat.timing.ledger import CYCLE_DTYPE, STAGE_DTYPE, Ledger, read_cycles, read_episodes, read_stages
from offbeat.timing.profile import Stage

FILES = ("episodes.csv", "cycles.bin", "stages.bin")


def make_info(observed_s: float = 1.0, response_s: float = 0.003, lateness_s: float = 0.0) -> dict[str, Any]:
    return {
        "captured_s": observed_s - 0.05,
        "observed_s": observed_s,
        "sent_s": observed_s + response_s,
        "deadline_s": observed_s + 0.04,
        "lateness_s": lateness_s,
        "response_s": response_s,
        "mask_share": 0.25,
        "slack_s": -lateness_s if lateness_s else 0.04 - response_s,
        "robot_s": 0.0005,
        "camera_s": 0.001,
    }


def record_episode(log: Ledger, episode: int, reward: float = 1.5) -> None:
    log.begin_episode(episode)
    for step in range(3):
        now_s = 10.0 * episode + 0.04 * step
        log.on_stage(Stage.ACT, now_s, now_s + 0.003)
        log.step(reward, make_info(now_s, 0.003 + 0.001 * step, lateness_s=0.002 * (step == 1)))
        if episode > 0:
            log.on_stage(Stage.UPDATE, now_s + 0.003, now_s + 0.03)
            log.update({"critic_loss": 1.0 + step, "actor_loss": -1.0, "temperature": 0.1, "entropy": 2.0})
    log.end_episode(10.0 * episode + 0.12)


def test_a_cycles_row_holds_the_chain_from_light_to_deadline(tmp_path: Path) -> None:
    log = Ledger(tmp_path, 0.04)
    log.begin_episode(5)
    log.on_stage(Stage.ACT, 1.0, 1.003)
    log.step(2.0, make_info(), version=7, published_s=0.9)
    log.flush()
    row = read_cycles(tmp_path)[0]
    assert (row["episode"], row["step"], row["weights_version"]) == (5, 0, 7)
    assert [row[name] for name in ("captured_s", "observed_s", "act_begin_s", "act_end_s", "sent_s", "deadline_s")] == (
        pytest.approx([0.95, 1.0, 1.0, 1.003, 1.003, 1.04])
    )
    assert [row[name] for name in ("lateness_s", "response_s", "reward", "mask_share")] == pytest.approx(
        [0.0, 0.003, 2.0, 0.25]
    )
    assert [row[name] for name in ("weights_age_s", "slack_s", "robot_s", "camera_s", "cause")] == pytest.approx(
        [0.1, 0.037, 0.0005, 0.001, 0]
    )


def test_a_learner_that_acts_has_the_weights_of_its_last_update() -> None:
    log = Ledger(None, 0.04)
    log.begin_episode(0)
    log.on_stage(Stage.ACT, 1.0, 1.003)
    log.update({})
    log.on_stage(Stage.UPDATE, 1.003, 1.053)
    log.step(0.0, make_info())  # acted before the update
    log.on_stage(Stage.ACT, 1.075, 1.078)
    log.step(0.0, make_info())
    rows = log.cycles()
    assert rows["weights_version"].tolist() == [0, 1]
    assert math.isnan(rows["weights_age_s"][0])
    assert rows["weights_age_s"][1] == pytest.approx(0.022)


def test_stages_are_recorded_by_their_index(tmp_path: Path) -> None:
    log = Ledger(tmp_path, 0.04)
    for index, stage in enumerate(Stage):
        log.on_stage(stage, float(index), index + 0.5)
    log.flush()
    assert read_stages(tmp_path).tolist() == [(0, 0.0, 0.5), (1, 1.0, 1.5), (2, 2.0, 2.5), (3, 3.0, 3.5)]


def test_an_episodes_line(tmp_path: Path) -> None:
    log = Ledger(tmp_path, 0.04)
    record_episode(log, 0)
    record_episode(log, 1)
    assert (tmp_path / "episodes.csv").read_text() == (
        "episode,steps,return,robot_s,training_s,updates,missed,response_ms_median,"
        "lateness_ms_p99,critic_loss,actor_loss,temperature,entropy\n"
        "0,3,4.5,0.12,0.12,0,1,4.0,1.96,,,,\n"
        "1,3,4.5,10.12,0.24,3,1,4.0,1.96,2.0,-1.0,0.1,2.0\n"
    )
    episodes = read_episodes(tmp_path)
    assert episodes["updates"].tolist() == [0, 3]
    assert np.isnan(episodes["critic_loss"][0])


def test_updates_in_a_reset_belong_to_the_episode_after_it() -> None:
    log = Ledger(None, 0.04)
    record_episode(log, 0)
    log.update({"critic_loss": 4.0})
    log.begin_episode(1)
    log.step(1.0, make_info())
    record = log.end_episode(11.0)
    assert (record.updates, record.critic_loss) == (1, 4.0)
    assert math.isnan(record.entropy)


def test_the_summary_follows_from_the_records(tmp_path: Path) -> None:
    log = Ledger(tmp_path, 0.04)
    for episode in range(30):
        record_episode(log, episode, reward=float(episode))
    summary = log.summary()
    assert (summary["steps"], summary["episodes"], summary["updates"]) == (90, 30, 87)
    # An episode returns three times its number: the means of 0..19, 10..29 and 0..29.
    assert (summary["return_first20"], summary["return_last20"], summary["return_mean"]) == (28.5, 58.5, 43.5)
    assert summary["response_ms"] == pytest.approx({"p50": 4.0, "p99": 5.0, "max": 5.0}, abs=1e-4)
    assert summary["missed_deadlines"] == 30
    assert summary["robot_s"] == 290.12
    json.dumps(summary, allow_nan=False)


def test_a_ledger_without_cycles_has_a_summary() -> None:
    summary = Ledger(None, 0.04).summary()
    assert (summary["steps"], summary["return_mean"], summary["response_ms"]["p50"]) == (0, None, None)


def test_a_ledger_in_memory_says_what_one_on_disk_says(tmp_path: Path) -> None:
    disk, memory = Ledger(tmp_path, 0.04), Ledger(None, 0.04)
    for episode in range(3):
        record_episode(disk, episode)
        record_episode(memory, episode)
    assert memory.summary() == disk.summary()
    assert memory.cycles().tobytes() == disk.cycles().tobytes()


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_a_resumed_run_writes_the_same_bytes(tmp_path: Path, kept: int) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    cut.mkdir()
    log = Ledger(whole, 0.04)
    for episode in range(4):
        record_episode(log, episode)
    first = Ledger(cut, 0.04)
    for episode in range(kept):
        record_episode(first, episode)
    state = json.loads(json.dumps(first.state_dict()))
    record_episode(first, kept, reward=-99.0)  # after the checkpoint: must go
    with (cut / "cycles.bin").open("ab") as file:
        file.write(b"torn")
    with (cut / "episodes.csv").open("a") as text:
        text.write("7,3")
    resumed = Ledger(cut, 0.04)
    resumed.load_state_dict(state)
    for episode in range(kept, 4):
        record_episode(resumed, episode)
    for name in FILES:
        assert (cut / name).read_bytes() == (whole / name).read_bytes(), name
    assert resumed.summary() == log.summary()


def test_records_that_are_gone_are_not_resumed(tmp_path: Path) -> None:
    log = Ledger(tmp_path, 0.04)
    record_episode(log, 0)
    state = log.state_dict()
    (tmp_path / "cycles.bin").write_bytes(b"")
    with pytest.raises(RunError, match=r"cycles\.bin holds 0 rows and the checkpoint needs 3"):
        Ledger(tmp_path, 0.04).load_state_dict(state)
    assert len(read_stages(tmp_path)) == 3  # nothing was cut


@pytest.mark.parametrize("read", [read_cycles, read_stages, read_episodes])
def test_a_missing_file_is_named(tmp_path: Path, read: Any) -> None:
    with pytest.raises(RunError, match=r"cannot be read.*give the directory of a run"):
        read(tmp_path)


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    (tmp_path / "episodes.csv").write_text("episode,steps\n0,3\n")
    with pytest.raises(RunError, match=r"episodes\.csv is damaged"):
        read_episodes(tmp_path)


def test_rows_have_no_padding_and_a_fixed_byte_order() -> None:
    assert (CYCLE_DTYPE.itemsize, STAGE_DTYPE.itemsize) == (2 * 4 + 6 * 8 + 9 * 4 + 1, 1 + 2 * 8)
    assert all(CYCLE_DTYPE[name].byteorder in "<=|" for name in CYCLE_DTYPE.names)


def miss(
    log: Ledger, stages: list[tuple[Stage, float, float]], slack_s: float, lateness_s: float, version: int | None = None
) -> str:
    """The cause given to a cycle observed at 1.0 s, due at 1.04 s, whose robot took 2 ms and whose camera 3 ms."""
    for event in stages:
        log.on_stage(*event)
    info = make_info() | {"lateness_s": lateness_s, "slack_s": slack_s, "robot_s": 0.002, "camera_s": 0.003}
    log.step(0.0, info, version)
    return Cause(log.cycles()["cause"][-1]).name


@pytest.mark.parametrize(
    ("stages", "slack_s", "lateness_s", "cause"),
    [
        ([(Stage.ACT, 1.005, 1.02)], 0.018, 0.0, "NONE"),
        ([(Stage.ACT, 1.005, 1.02)], 0.018, 0.0009, "NONE"),  # the scheduler's usual
        ([(Stage.ACT, 1.005, 1.02)], 0.018, 0.005, "SCHEDULER"),
        ([(Stage.ACT, 1.005, 1.05)], -0.01, 0.01, "ACT"),
        ([(Stage.STORE, 1.003, 1.04), (Stage.ACT, 1.04, 1.048)], -0.01, 0.01, "STORE"),
        ([(Stage.SAMPLE, 1.003, 1.01), (Stage.UPDATE, 1.01, 1.05)], -0.01, 0.01, "UPDATE"),
        ([(Stage.ACT, 0.5, 0.9), (Stage.ACT, 1.005, 1.01)], -0.01, 0.01, "SCHEDULER"),  # 38 ms in none of them
        ([(Stage.ACT, 1.005, 1.049), (Stage.UPDATE, 1.06, 1.2)], -0.01, 0.01, "ACT"),  # the next cycle's update
    ],
)
def test_a_missed_deadline_is_put_down_to_what_took_the_most_time(
    stages: list[tuple[Stage, float, float]], slack_s: float, lateness_s: float, cause: str
) -> None:
    log = Ledger(None, 0.04)
    log.begin_episode(0)
    assert miss(log, stages, slack_s, lateness_s) == cause
    assert log.end_episode(2.0).missed == (cause != "NONE")
    assert sum(log.summary()["missed_by_cause"].values()) == (cause != "NONE")


def test_updates_beside_the_loop_are_no_cause() -> None:
    stages = [(Stage.UPDATE, 1.001, 1.045), (Stage.ACT, 1.003, 1.03), (Stage.SAMPLE, 1.0, 1.04)]
    for version, cause in ((None, "UPDATE"), (3, "ACT")):
        log = Ledger(None, 0.04)
        log.begin_episode(0)
        assert miss(log, stages, -0.01, 0.01, version) == cause


def test_a_cycle_that_began_late_is_put_down_to_what_made_it_late() -> None:
    log = Ledger(None, 0.04)
    log.begin_episode(0)
    assert miss(log, [(Stage.UPDATE, 1.003, 1.075)], -0.035, 0.035) == "UPDATE"
    info = make_info(1.075) | {"deadline_s": 1.08, "slack_s": -0.002, "lateness_s": 0.002}
    log.on_stage(Stage.ACT, 1.0765, 1.082)
    log.step(0.0, info)
    assert Cause(log.cycles()["cause"][-1]) is Cause.UPDATE


def test_robot_and_camera_are_causes_too() -> None:
    parts_s = [(Cause.ROBOT, 0.02), (Cause.CAMERA, 0.021), (Cause.ACT, 0.003)]
    assert find_cause(-0.004, 0.004, 0.044, parts_s) is Cause.CAMERA
    parts_s[0] = (Cause.ROBOT, 0.022)
    assert find_cause(-0.006, 0.006, 0.046, parts_s) is Cause.ROBOT
