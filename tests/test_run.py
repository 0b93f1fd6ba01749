"""A run directory: the same bytes every time, stopped and resumed or not; and what is wrong is said in one sentence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from offbeat.checkpoint import read_checkpoint, write_checkpoint
from offbeat.config import ComputeConfig, RunConfig, Schedule, make_config
from offbeat.errors import ProfileError, RunError
from offbeat.run import build_player, read_config, resume, train
from offbeat.timing.ledger import EpisodeRecord, read_cycles, read_episodes

EPISODES = 6


def tiny(schedule: Schedule = "asynchronous", **changes: object) -> RunConfig:
    """Six episodes of ten cycles, learning from the second one on; the replay wraps and two checkpoints lie within."""
    config = make_config("async-base", "cpu", schedule=schedule)
    env = replace(config.env, episode_s=0.4, fast_reset=True, reset_s=0.1)
    sac = replace(config.sac, batch_size=4, filters=4, hidden=(16, 16))
    values: dict[str, object] = {
        "minutes": EPISODES * 0.4 / 60,
        "warmup_s": 0.5,
        "replay_s": 0.8,
        "checkpoint_episodes": 2,
        "profile": "constant:act=3,store=0,sample=7,update=31",
        "env": env,
        "sac": sac,
        "compute": ComputeConfig(device="cpu", precision="float32", compile="off"),
    }
    return replace(config, **(values | changes))  # type: ignore[arg-type]


def stop_after(episode: int) -> Callable[[EpisodeRecord], None]:
    """What a user's Ctrl-C does at the end of an episode."""

    def interrupt(record: EpisodeRecord) -> None:
        if record.episode == episode:
            raise KeyboardInterrupt

    return interrupt


def contents(directory: Path) -> dict[str, bytes | dict[str, object]]:
    """Every file of a run, wall time left out."""
    found: dict[str, bytes | dict[str, object]] = {}
    for path in sorted(directory.rglob("*")):
        if path.name == "summary.json":
            found[path.name] = {k: v for k, v in json.loads(path.read_text()).items() if k != "wall_s"}
        elif path.is_file():
            found[str(path.relative_to(directory))] = path.read_bytes()
    return found


def assert_same(one: Path, other: Path) -> None:
    first, second = contents(one), contents(other)
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []


VARIANTS = {
    "sequential": tiny("sequential"),
    "reactive": tiny("reactive"),
    "asynchronous": tiny("asynchronous"),
    "stack kept, learning rests in resets": tiny(
        env=replace(tiny().env, keep_stack=True), learn_in_resets=False, keep_replay=True
    ),
    "bfloat16": tiny(compute=ComputeConfig(device="cpu", precision="bfloat16", compile="off")),
    "dry": tiny(dry=True),
}


@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS.keys())
def test_a_resumed_run_writes_the_bytes_of_one_that_never_stopped(config: RunConfig, tmp_path: Path) -> None:
    summary = train(config, tmp_path / "whole")
    assert summary["updates"] > 0
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "stopped", stop_after(2))  # one episode past a checkpoint
    with pytest.raises(KeyboardInterrupt):
        resume(tmp_path / "stopped", stop_after(4))
    resume(tmp_path / "stopped")
    assert_same(tmp_path / "whole", tmp_path / "stopped")


def test_two_runs_write_the_same_bytes_and_another_seed_does_not(tmp_path: Path) -> None:
    config = tiny(minutes=2 * 0.4 / 60, env=replace(tiny().env, fast_reset=False))  # with the paper's real moves
    for name in ("one", "two"):
        train(config, tmp_path / name)
    train(replace(config, seed=1), tmp_path / "other")
    assert_same(tmp_path / "one", tmp_path / "two")
    different = contents(tmp_path / "one"), contents(tmp_path / "other")
    assert different[0]["cycles.bin"] != different[1]["cycles.bin"]
    assert different[0]["checkpoint.pt"] != different[1]["checkpoint.pt"]


def test_a_run_leaves_its_records(tmp_path: Path) -> None:
    told: list[EpisodeRecord] = []
    config = tiny("sequential")
    summary = train(config, tmp_path, told.append)

    assert read_config(tmp_path) == config
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
    assert (summary["episodes"], summary["steps"]) == (6, 60)
    assert summary["updates"] == 48  # one a step after the first twelve
    assert (summary["schedule"], summary["clock"], summary["seed"]) == ("sequential", "virtual", 0)
    assert summary["response_ms"]["p50"] == pytest.approx(41.0)  # store, sample, update and act
    assert [record.episode for record in told] == list(range(EPISODES))
    assert len(read_cycles(tmp_path)) == 60
    np.testing.assert_allclose(read_episodes(tmp_path)["return"], [record.return_ for record in told])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "checkpoint.pt", "config.json", "cycles.bin", "episodes.csv", "profile.json", "stages.bin", "summary.json",
    ]  # fmt: skip


def test_a_run_saves_what_auto_became(tmp_path: Path) -> None:
    train(tiny(minutes=2 * 0.4 / 60, compute=ComputeConfig()), tmp_path)
    compute = read_config(tmp_path).compute
    assert compute.device in ("cpu", "cuda") and compute.precision in ("float32", "bfloat16")
    assert compute.compile == "off"


def test_the_learned_policy_can_be_played(tmp_path: Path) -> None:
    config = tiny(minutes=2 * 0.4 / 60)
    train(config, tmp_path)
    loaded, env, policy, _ = build_player(tmp_path, seed=3)
    observation, _ = env.reset()
    assert loaded == config
    assert policy.act(observation, deterministic=True).shape == (7,)


def test_a_taken_directory_is_refused_and_left_alone(tmp_path: Path) -> None:
    config = tiny(dry=True)
    train(config, tmp_path)
    before = contents(tmp_path)
    with pytest.raises(RunError, match=r"already holds a run \(config.json\)"):
        train(config, tmp_path)
    with pytest.raises(RunError, match=r"is finished \(6 episodes\): there is nothing to resume"):
        resume(tmp_path)
    assert contents(tmp_path) == before


def test_what_cannot_begin_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="Unknown timing profile 'nope'"):
        train(tiny(profile="nope"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="cannot be made a run directory"):
        train(tiny(dry=True), tmp_path / "file" / "run")


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was stopped after its third episode."""
    directory = tmp_path_factory.mktemp("stopped") / "run"
    with pytest.raises(KeyboardInterrupt):
        train(tiny("sequential"), directory, stop_after(2))
    return directory


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGES: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "truncated checkpoint": ("checkpoint.pt", truncate, "checkpoint.pt is truncated or damaged"),
    "flipped bit": ("checkpoint.pt", flip_a_bit, "checkpoint.pt is (truncated or )?damaged"),
    "empty checkpoint": ("checkpoint.pt", lambda path: path.write_bytes(b""), "truncated or damaged"),
    "no checkpoint": ("checkpoint.pt", Path.unlink, "checkpoint.pt is missing"),
    "truncated configuration": ("config.json", truncate, "config.json is damaged"),
    "no configuration": ("config.json", Path.unlink, "holds no run, config.json is missing"),
    "truncated profile": ("profile.json", truncate, "profile.json is damaged"),
    "truncated records": ("cycles.bin", truncate, "the records are damaged"),
    "truncated replay": ("replay/frames.bin", truncate, "frames.bin holds .* it is damaged"),
    "no replay": ("replay", shutil.rmtree, "cannot go on.*storage holds 0 transitions, 20 were saved"),
}


@pytest.mark.parametrize(("name", "damage", "message"), DAMAGES.values(), ids=DAMAGES.keys())
def test_damage_is_one_sentence(
    stopped: Path, tmp_path: Path, name: str, damage: Callable[[Path], object], message: str
) -> None:
    directory = tmp_path / "run"
    shutil.copytree(stopped, directory)
    damage(directory / name)
    records = (directory / "episodes.csv").read_bytes()
    with pytest.raises(RunError, match=message) as caught:
        resume(directory)
    assert "\n" not in str(caught.value)
    assert (directory / "episodes.csv").read_bytes() == records


def test_a_checkpoint_gives_back_what_it_was_given_in_the_same_bytes(tmp_path: Path) -> None:
    def state(name: str) -> dict[str, object]:
        return {
            "array": np.arange(6, dtype=np.int16).reshape(2, 3)[:, ::2],
            "flags": np.array([True, False]),
            "tensor": torch.arange(4.0)[1:],
            "nested": [{1: (name, name), "one": None}, 2**127, float("inf")],
            "scalar": np.float64(0.5),
        }

    write_checkpoint(tmp_path / "one.pt", state("ab"))
    write_checkpoint(tmp_path / "two.pt", dict(reversed(state("".join(["a", "b"])).items())))
    assert (tmp_path / "one.pt").read_bytes() == (tmp_path / "two.pt").read_bytes()
    read = read_checkpoint(tmp_path / "one.pt")
    np.testing.assert_equal(read.pop("tensor").numpy(), [1.0, 2.0, 3.0])
    np.testing.assert_equal(read, {k: v for k, v in state("ab").items() if k != "tensor"})
    assert not (tmp_path / "one.pt.tmp").exists()


@pytest.mark.parametrize("share", np.linspace(0.0, 0.999, 23))
def test_a_checkpoint_cut_or_changed_anywhere_is_refused(share: float, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    write_checkpoint(path, {"weights": np.arange(100.0), "names": ["a", "b"]})
    data = path.read_bytes()
    place = int(share * len(data))
    path.write_bytes(data[:place])
    with pytest.raises(RunError, match="truncated or damaged"):
        read_checkpoint(path)
    path.write_bytes(data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :])
    try:
        read = read_checkpoint(path)  # a byte that carries nothing, a time stamp or padding, may change
    except RunError:
        return
    np.testing.assert_equal(read, {"weights": np.arange(100.0), "names": ["a", "b"]})


def test_an_edited_configuration_is_refused(stopped: Path, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    shutil.copytree(stopped, directory)
    text = (directory / "config.json").read_text()
    (directory / "config.json").write_text(text.replace('"seed": 0', '"seed": 1'))
    with pytest.raises(RunError, match="is not the configuration of the checkpoint"):
        resume(directory)


def test_a_run_in_use_is_refused(stopped: Path, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    shutil.copytree(stopped, directory)

    def resume_too(record: EpisodeRecord) -> None:
        with pytest.raises(RunError, match="in use by another process"):
            resume(directory)

    resume(directory, resume_too)
