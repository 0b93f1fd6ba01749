"""The makers' own libraries, as they are, against the Franka servers: panda-python (version 5), franky (version 10)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from offbeat.robots.models import MODELS
from offbeat.robots.models.franka import FR3
from offbeat.robots.protocols import Served, serving
from offbeat.timing.realtime import keep_scheduler


def await_true(true: Callable[[], bool], timeout_s: float = 3.0) -> None:
    until_s = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < until_s, "it did not come true"
        time.sleep(0.01)


def stands(served: Served) -> bool:
    return bool(np.abs(served.state()[1]).max() < 1e-3)


@pytest.fixture(scope="module")
def panda() -> Iterator[Served]:
    pytest.importorskip("panda_py", reason="panda-python is not installed")
    with serving("franka", protocol=5) as served:
        yield served


@pytest.fixture(scope="module")
def fr3() -> Iterator[Served]:
    pytest.importorskip("franky", reason="franky-control is not installed")
    with serving("franka", protocol=10) as served:
        yield served


@pytest.fixture
def libfranka(panda: Served) -> Iterator[Any]:
    """A connected `panda_py.libfranka.Robot`."""
    from panda_py import libfranka

    panda.inject("release")
    with keep_scheduler():
        robot = libfranka.Robot(panda.host, libfranka.RealtimeConfig.kIgnore)
        robot.automatic_error_recovery()
        yield robot
        await_true(lambda: stands(panda))


@pytest.fixture
def franky(fr3: Served) -> Iterator[Any]:
    """A connected `franky.Robot`."""
    import franky

    fr3.inject("release")
    with keep_scheduler():
        robot = franky.Robot(fr3.host, realtime_config=franky.RealtimeConfig.Ignore)
        robot.recover_from_errors()
        robot.relative_dynamics_factor = franky.RelativeDynamicsFactor(1.0, 0.2, 0.2)
        yield robot
        await_true(lambda: stands(fr3))


def control(robot: Any, velocity: Callable[[float], float], seconds: float) -> None:
    """Drive joint 1 of a `panda_py.libfranka.Robot` for some time; raises what the library does."""
    from panda_py import libfranka

    passed = 0.0

    def answer(_: Any, period: Any) -> Any:
        nonlocal passed
        passed += period.to_sec()
        command = libfranka.JointVelocities([velocity(passed), 0, 0, 0, 0, 0, 0])
        return libfranka.motion_finished(command) if passed >= seconds else command

    robot.control_joint_velocity(answer)


def hump(top: float, seconds: float) -> Callable[[float], float]:
    return lambda t: top * (1 - np.cos(2 * np.pi * min(t, seconds) / seconds)) / 2


def test_panda_python_reads_poses_that_are_the_models(panda: Served, libfranka: Any) -> None:
    state = libfranka.read_once()
    pose = np.reshape(state.O_T_EE, (4, 4)).T
    assert np.abs(pose - MODELS["panda"].forward_kinematics(np.array(state.q))).max() < 1e-4
    assert np.array(state.q) == pytest.approx(panda.state()[0], abs=1e-4)
    assert state.robot_mode.name == "kIdle"


def test_panda_python_drives_by_velocity(panda: Served, libfranka: Any) -> None:
    libfranka.set_collision_behavior([20.0] * 7, [20.0] * 7, [20.0] * 6, [20.0] * 6)
    before = panda.state()[0][0]
    control(libfranka, hump(0.4, 0.6), 0.6)
    assert panda.state()[0][0] - before == pytest.approx(0.12, abs=0.02)
    control(libfranka, hump(-0.4, 0.6), 0.6)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("reflex", "motion aborted by reflex! .*joint_reflex"),
        ("communication_loss", "motion aborted by reflex! .*communication_constraints_violation"),
        ("emergency_stop", "User Stop pressed"),
    ],
)
def test_panda_python_hears_of_faults(panda: Served, libfranka: Any, fault: str, words: str) -> None:
    injected = False

    def velocity(passed: float) -> float:
        nonlocal injected
        if passed > 0.2 and not injected:
            injected = True
            panda.inject(fault)
        return 0.0

    with pytest.raises(RuntimeError, match=words):
        control(libfranka, velocity, 2.0)
    if fault == "emergency_stop":
        with pytest.raises(RuntimeError, match="User Stop pressed"):
            libfranka.automatic_error_recovery()
        panda.inject("release")
    else:
        libfranka.automatic_error_recovery()
    control(libfranka, lambda _: 0.0, 0.05)


def test_franky_reads_poses_that_are_the_models(fr3: Served, franky: Any) -> None:
    state = franky.state
    joint_rad = np.array(state.q)
    ours = FR3.forward_kinematics(joint_rad)
    assert np.abs(state.O_T_EE.matrix - ours).max() < 1e-4
    assert joint_rad == pytest.approx(fr3.state()[0], abs=1e-4)
    # And its own kinematics, of the description that the server gave it.
    import franky as library

    assert np.abs(franky.model.pose(library.Frame.Flange, state).matrix - ours).max() < 1e-4


def test_franky_drives_by_velocity_until_the_hold_expires(fr3: Served, franky: Any) -> None:
    import franky as library

    before = fr3.state()[0][0]
    for _ in range(10):
        franky.move(library.JointVelocityMotion([0.2, 0, 0, 0, 0, 0, 0], library.Duration(100)), asynchronous=True)
        time.sleep(0.04)
    assert fr3.state()[1][0] == pytest.approx(0.2, abs=0.02)
    await_true(lambda: stands(fr3))
    assert 0.05 < fr3.state()[0][0] - before < 0.2
    assert franky.join_motion(1.0)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("reflex", "motion aborted by reflex! .*joint_reflex"),
        ("communication_loss", "motion aborted by reflex! .*communication_constraints_violation"),
        ("emergency_stop", "User Stop pressed"),
    ],
)
def test_franky_hears_of_faults(fr3: Served, franky: Any, fault: str, words: str) -> None:
    import franky as library

    franky.move(library.JointVelocityMotion([-0.1, 0, 0, 0, 0, 0, 0], library.Duration(1000)), asynchronous=True)
    time.sleep(0.2)
    fr3.inject(fault)
    with pytest.raises(library.ControlException, match=words):
        franky.join_motion()
    fr3.inject("release")
    assert franky.recover_from_errors()
    franky.move(library.JointVelocityMotion([0.1, 0, 0, 0, 0, 0, 0], library.Duration(100)))
