"""What presets and scales decide; configurations of real arms, and those that were saved before there were any."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from offbeat.config import HardwareConfig, RunConfig, make_config
from offbeat.errors import ConfigError

LAYERS = {"paper": (32, (1024, 1024), 3e-4), "cpu": (16, (256, 256), 1e-3)}  # filters, widths, learning rate
BATCHES = {"paper": (128, 80), "cpu": (32, 20)}
DRIVEN = HardwareConfig(driver="franka", host="10.0.0.2", camera="/dev/video0")


@pytest.mark.parametrize("scale", ["paper", "cpu"])
@pytest.mark.parametrize("preset", ["default", "paper"])
def test_the_scale_decides_the_networks_and_their_learning_rate(scale: str, preset: str) -> None:
    base, highres = (make_config(setting, scale, preset).sac for setting in ("async-base", "async-highres"))
    assert (base.batch_size, highres.batch_size) == BATCHES[scale]
    for sac in (base, highres):
        assert (sac.filters, sac.hidden, sac.learning_rate) == LAYERS[scale]


def test_the_small_scale_is_computed_alike_everywhere() -> None:
    precisions = {scale: make_config(scale=scale).compute.precision for scale in BATCHES}
    assert precisions == {"paper": "auto", "cpu": "float32"}


@pytest.mark.parametrize("scale", ["paper", "cpu"])
def test_the_papers_preset_holds_its_values_at_any_scale(scale: str) -> None:
    config = make_config("sync-base", scale, "paper")
    sac, env = config.sac, config.env
    assert (sac.discount_per_step(env.cycle_s), sac.polyak, sac.bootstrap_timeouts) == (0.99, 0.005, False)
    assert (sac.return_steps(env.cycle_s), sac.exploration_time_s) == (1, 0.0)
    assert (env.clip_action, env.keep_stack, env.start_inside) == (True, True, False)
    assert (config.warmup_steps, config.replay_steps) == (2666, 100_000)


def test_the_saved_configuration_of_a_real_arm_gives_it_back() -> None:
    config = make_config(clock="wall", hardware=DRIVEN)
    assert RunConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_a_configuration_of_before_there_were_real_arms_is_a_simulated_ones() -> None:
    data = make_config().to_dict()
    del data["hardware"]
    assert RunConfig.from_dict(data) == make_config()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"clock": "virtual"}, "A real arm needs the wall clock: say --clock wall, or leave out --robot."),
        ({"env": replace(make_config().env, fast_reset=True)}, "A real arm cannot be placed: leave out"),
    ],
)
def test_what_a_real_arm_cannot_do_is_one_sentence(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        replace(make_config(clock="wall", hardware=DRIVEN), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"host": "10.0.0.2"}, "A camera or a host without a driver is no real arm"),
        ({"camera": "0"}, "A camera or a host without a driver is no real arm"),
        ({"collision_torque_nm": 0.0}, "collision_torque_nm is 0.0: use a threshold above 0"),
        ({"collision_force_n": -1.0}, "collision_force_n is -1.0"),
        ({"recoveries_per_min": -1}, "recoveries_per_min is -1: use 0 or more"),
    ],
)
def test_thresholds_are_checked(values: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        HardwareConfig(**values)  # type: ignore[arg-type]
