"""The simulated world: it does not wait, its camera is late, its arm keeps to its limits, its bag hangs on a thread."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

from offbeat.arms import RobotName
from offbeat.errors import MoveTimeoutError, StaleFrameError
from offbeat.robots.models import MODELS
from offbeat.robots.render import RayRenderer, make_renderer, opengl_works
from offbeat.robots.sim import SimCamera, SimRobot, SimWorld
from offbeat.robots.world import SceneConfig, build_model
from offbeat.tasks.visual_reacher import VisualReacher, bag_mask

both_arms = pytest.mark.parametrize("robot", ["panda", "ur5e"])
LOOK = np.array([0.0, 0.13, 0.02, -1.97, 0.03, 2.07, 0.8])


class HandClock:
    """A clock that only moves when told."""

    def __init__(self) -> None:
        self.time_s = 0.0

    def now(self) -> float:
        return self.time_s

    def sleep_until(self, deadline_s: float) -> float:
        self.time_s = max(self.time_s, deadline_s)
        return 0.0


def make_world(rate_hz: float = 30.0, robot: RobotName = "panda") -> tuple[HandClock, SimWorld, SimRobot]:
    clock = HandClock()
    world = SimWorld(clock, rate_hz, SceneConfig(robot=robot))  # type: ignore[arg-type]
    world.place(VisualReacher(robot=robot).placement(np.random.default_rng(0)))
    return clock, world, SimRobot(world, clock)  # type: ignore[arg-type]


def make_camera(world: SimWorld, clock: HandClock, latency_s: float = 0.03, kind: str = "rays") -> SimCamera:
    return SimCamera(world, clock, latency_s, 36, 64, kind)  # type: ignore[arg-type]


@both_arms
def test_model_agrees_with_the_published_kinematics(robot: RobotName) -> None:
    model, arm = build_model(SceneConfig(robot=robot)), MODELS[robot]
    data = mujoco.MjData(model)
    rng = np.random.default_rng(1)
    for _ in range(20):
        joint_rad = rng.uniform(arm.joint_lower_rad, arm.joint_upper_rad)
        data.qpos[: arm.joints] = joint_rad
        mujoco.mj_kinematics(model, data)
        pose = arm.forward_kinematics(joint_rad)
        np.testing.assert_allclose(data.site("flange").xpos, pose[:3, 3], atol=1e-9)
        np.testing.assert_allclose(data.site("flange").xmat.reshape(3, 3), pose[:3, :3], atol=1e-9)


def test_arm_moves_while_nobody_thinks_of_it() -> None:
    clock, _, robot = make_world()
    start = robot.read_state().joint_rad
    robot.command_velocity(np.array([0.1, 0, 0, 0, 0, 0, 0]))
    clock.time_s += 1.0
    moved = robot.read_state().joint_rad - start
    assert moved[0] == pytest.approx(0.1, abs=0.002)
    assert np.abs(moved[1:]).max() < 0.002


@both_arms
def test_velocity_is_clipped_to_the_arms_limits_and_reported(robot: RobotName) -> None:
    _, _, arm = make_world(robot=robot)
    sent = arm.command_velocity(np.full(MODELS[robot].joints, 9.0))
    np.testing.assert_array_equal(sent, MODELS[robot].velocity_limit_rad_s)


@both_arms
def test_arm_ramps_within_its_acceleration_limits_and_holds_its_speed(robot: RobotName) -> None:
    clock, world, arm = make_world(robot=robot)
    step_s = world.scene.timestep_s
    previous = arm.read_state().joint_rad_s
    for tick in range(150):
        if tick % 50 == 0:
            wanted = np.full(MODELS[robot].joints, 0.3 if tick % 100 == 0 else -0.3)
            arm.command_velocity(wanted)
        clock.time_s += step_s
        velocity = arm.read_state().joint_rad_s
        assert (np.abs(velocity - previous) / step_s <= MODELS[robot].acceleration_limit_rad_s2).all()
        if tick % 50 == 49:
            np.testing.assert_allclose(velocity, wanted, atol=0.005)
        previous = velocity


def test_integration_does_not_depend_on_how_often_one_looks() -> None:
    states = []
    for looks in (1, 7, 100):
        clock, world, robot = make_world()
        robot.command_velocity(np.array([0.1, -0.1, 0.2, 0.1, 0, 0.2, 0.1]))
        start = clock.time_s
        for look in range(1, looks + 1):
            clock.time_s = start + look * 0.5 / looks
            world.advance()
        states.append(world.data.qpos.copy())
    np.testing.assert_array_equal(states[0], states[1])
    np.testing.assert_array_equal(states[0], states[2])


def test_move_arrives_and_stops() -> None:
    clock, _, robot = make_world()
    robot.move_to(LOOK, 4.0)
    clock.time_s += 0.2
    state = robot.read_state()
    assert np.abs(state.joint_rad - LOOK).max() < 0.03
    assert np.abs(state.joint_rad_s).max() < 0.01


def test_move_that_cannot_arrive_says_so() -> None:
    _, _, robot = make_world()
    with pytest.raises(MoveTimeoutError, match=r"rad from its goal after 0\.1 s.*obstacle"):
        robot.move_to(LOOK + 0.5, 0.1)


@both_arms
def test_reset_takes_about_four_seconds_and_leaves_the_bag_on_the_table_in_view(robot: RobotName) -> None:
    clock, world, arm = make_world(robot=robot)
    camera = make_camera(world, clock)
    rng = np.random.default_rng(3)
    task = VisualReacher(robot=robot)
    durations, places, shares = [], [], []
    for _ in range(12):
        start = clock.now()
        task.reset(arm, rng)
        durations.append(clock.now() - start)
        places.append(world.bag_m())
        shares.append(task.share(camera.read_latest(0.2).image))
    places = np.array(places)
    assert 2.5 < np.mean(durations) < 4.5
    assert np.median(places[:, 2]) < 0.03  # lying, not hanging
    assert places[:, :2].std(axis=0).max() > 0.01  # in new places
    assert 0.02 < np.mean(shares) < 0.045


def test_bag_hangs_on_its_thread() -> None:
    clock, world, robot = make_world()
    robot.move_to(np.array([0, 0, 0, -1.6, 0, 1.6, 0.8]), 4.0)
    clock.time_s += 3.0
    world.advance()
    hook, knot = (world.data.site(name).xpos.copy() for name in ("hook", "knot"))
    assert world.bag_m()[2] > 0.06
    assert np.linalg.norm(hook - knot) == pytest.approx(world.scene.thread_m, abs=0.01)


def test_camera_shows_its_last_tick_that_has_arrived() -> None:
    clock, world, robot = make_world()
    camera = make_camera(world, clock, latency_s=0.03)
    robot.command_velocity(np.array([0, 0.2, 0, 0, 0, 0, 0]))
    for time_s in (10.0, 10.05, 10.101, 10.2):
        clock.time_s = time_s
        frame = camera.read_latest(0.2)
        age_s = time_s - frame.captured_s
        assert 0.03 <= age_s < 0.03 + 1 / 30 + 1e-9
        assert frame.captured_s * 30 == pytest.approx(round(frame.captured_s * 30))


def test_image_shows_the_moment_of_its_stamp_not_of_its_reading() -> None:
    def image_at(read_s: float, latency_s: float) -> np.ndarray:
        clock, world, robot = make_world()
        camera = make_camera(world, clock, latency_s)
        robot.command_velocity(np.array([0.3, 0.2, 0, -0.3, 0, 0, 0]))
        clock.time_s = read_s
        return camera.read_latest(0.5).image

    # Light captured at 1.0 s, read fresh or 0.2 s later.
    np.testing.assert_array_equal(image_at(1.001, 0.0), image_at(1.201, 0.2))
    assert not np.array_equal(image_at(1.001, 0.0), image_at(1.201, 0.0))


def test_stale_image_is_refused() -> None:
    clock, world, _ = make_world()
    camera = make_camera(world, clock, latency_s=0.15)
    clock.time_s += 1.0
    with pytest.raises(StaleFrameError, match=r"0\.1\d+ s old and 0\.1 s is allowed"):
        camera.read_latest(0.1)


def test_state_dict_goes_on_exactly() -> None:
    clock, world, robot = make_world()
    robot.command_velocity(np.full(7, 0.1))
    clock.time_s = 0.31
    world.advance()
    state = world.state_dict()
    futures = []
    for fresh in (False, True):
        clock.time_s = 0.31
        if fresh:
            world = SimWorld(clock, 30.0)  # type: ignore[arg-type]
        world.load_state_dict(state)
        clock.time_s = 2.0
        world.advance()
        futures.append((world.data.qpos.copy(), world.newest_tick(2.0)[0]))
    np.testing.assert_array_equal(futures[0][0], futures[1][0])
    assert futures[0][1] == futures[1][1]


def test_rays_see_what_the_geometry_says() -> None:
    """A bag straight below the lens covers the share that similar triangles give its top face."""
    clock, world, _ = make_world()
    renderer = RayRenderer(world.model, "wrist", 180, 320, hide_arm=True)
    data = world.data
    lens = data.camera("wrist")
    data.qpos[7:10] = [lens.xpos[0], lens.xpos[1], 0.025]
    data.qpos[10:14] = [1, 0, 0, 0]
    mujoco.mj_forward(world.model, data)
    focal_px = 90 / np.tan(np.radians(world.scene.fovy_deg) / 2)
    distance_m = lens.xpos[2] - 0.05
    expected_px = 0.09 * 0.08 * (focal_px / distance_m) ** 2
    pixels = bag_mask(renderer.render(data)).sum()
    assert pixels == pytest.approx(expected_px, rel=0.12)
    assert clock.now() == 0.0


def test_rays_and_opengl_give_one_mask() -> None:
    if not opengl_works():
        pytest.skip("this machine has no OpenGL; rays are all there is to test")
    clock, world, robot = make_world()
    kernel_px = 1
    rng = np.random.default_rng(0)
    for height, width in ((36, 64), (90, 160)):
        drawers = [make_renderer(kind, world.model, "wrist", height, width, hide_arm=True) for kind in ("rays", "gl")]
        for _ in range(6):
            robot.command_velocity(rng.uniform(-0.3, 0.3, 7))
            clock.time_s += 0.4
            world.advance()
            rays, gl = (bag_mask(drawer.render(world.data)) for drawer in drawers)
            assert not (rays & ~grown(gl, kernel_px)).any()
            assert not (gl & ~grown(rays, kernel_px)).any()


def grown(mask: np.ndarray, pixels: int) -> np.ndarray:
    padded = np.pad(mask, pixels)
    size = 2 * pixels + 1
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size))
    return windows.max(axis=(2, 3))
