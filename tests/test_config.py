"""Configurations of real arms, and those that were saved before there were any."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from offbeat.config import HardwareConfig, RunConfig, make_config
from offbeat.errors import ConfigError

DRIVEN = HardwareConfig(driver="franka", host="10.0.0.2", camera="/dev/video0")


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
