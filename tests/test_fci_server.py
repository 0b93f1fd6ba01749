"""The Franka servers over the network, with a client of bare sockets; test_fci_libraries.py has the makers' own."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from fci_client import DEVIATIONS, FCIClient

from offbeat.cli import main
from offbeat.errors import ConfigError, RobotError
from offbeat.robots.models import MODELS
from offbeat.robots.protocols import Order, Served, own_address, serving
from offbeat.robots.protocols.fci import HEADER, PORT, WIRES, Command, Error, Generator, RobotMode, Status
from offbeat.robots.protocols.fci_server import FCIServer

VERSIONS = (5, 10)


class Bench:
    """A server that takes its turns in this process: however slow the machine is, no packet is lost by itself."""

    def __init__(self, version: int) -> None:
        self.version, self.host = version, own_address()
        self.server = FCIServer(self.host, version)

    def connect(self, says: int | None = None) -> FCIClient:
        return FCIClient(self.host, self.version, says, self.server.tick)

    def await_stand(self) -> None:
        for _ in range(1000):
            self.server.tick()
            if np.abs(self.speed).max() < 1e-3:
                return
        pytest.fail("the arm does not stand")

    @property
    def place(self) -> Any:
        return self.server.plant.state()[0]

    @property
    def speed(self) -> Any:
        return self.server.plant.state()[1]


@pytest.fixture(params=VERSIONS)
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    bench = Bench(request.param)
    yield bench
    bench.server.close()


@pytest.fixture
def client(bench: Bench) -> Iterator[FCIClient]:
    with bench.connect() as client:
        yield client


def ramp(top: float, seconds: float = 0.2) -> Callable[[float], Any]:
    """A velocity of joint 1 that rises as a raised cosine to `top` (rad/s), within the limits of jerk."""
    return lambda t: [top * (1 - np.cos(np.pi * min(t, seconds) / seconds)) / 2, 0, 0, 0, 0, 0, 0]


def hump(top: float, seconds: float) -> Callable[[float], Any]:
    """A velocity of joint 1 that rises and falls again, and ends at 0."""
    return lambda t: [top * (1 - np.cos(2 * np.pi * min(t, seconds) / seconds)) / 2, 0, 0, 0, 0, 0, 0]


def test_layouts_have_the_published_sizes() -> None:
    assert [WIRES[v].state.itemsize for v in VERSIONS] == [2373, 1377]
    assert [WIRES[v].command.itemsize for v in VERSIONS] == [370, 371]


def test_it_greets_with_its_version_and_refuses_others(bench: Bench) -> None:
    with bench.connect() as client:
        assert client.greeting == struct.pack("<BH", 0, bench.version)
    with bench.connect(says=3) as client:
        assert client.greeting == struct.pack("<BH", 1, bench.version)


def test_states_are_true_and_a_millisecond_apart(bench: Bench, client: FCIClient) -> None:
    began, first = time.monotonic(), client.state()
    while (passed_s := time.monotonic() - began) < 0.1:
        state = client.state()
    passed = int(state["message_id"]) - int(first["message_id"]) + bench.server.counters["late"]
    assert passed == pytest.approx(1000 * passed_s, abs=10)
    assert state["robot_mode"] == RobotMode.IDLE and not state["errors"].any()
    assert state["q"] == pytest.approx(bench.place, abs=1e-6)
    pose = state["O_T_EE"].reshape(4, 4).T
    assert np.abs(pose - MODELS["panda"].forward_kinematics(state["q"].astype(float))).max() < 1e-6
    assert state["F_T_EE"].reshape(4, 4).tolist() == np.eye(4).tolist()


def test_velocities_move_the_arm_and_finish(bench: Bench, client: FCIClient) -> None:
    before = bench.place[0]
    asked = client.start()
    state = client.drive(0.5, hump(0.4, 0.5))
    client.send(int(state["message_id"]), finished=True)
    assert client.reply(asked)[0] == client.wire.code(Command.MOVE, Status.SUCCESS)
    state = client.wait(lambda s: s["robot_mode"] == RobotMode.IDLE)
    assert bench.place[0] - before == pytest.approx(0.1, abs=0.005)  # half of 0.4 rad/s for 0.5 s
    assert bench.place[0] == pytest.approx(float(state["q_d"][0]), abs=1e-3)


def test_the_arm_follows_its_setpoints_closely(client: FCIClient) -> None:
    client.start()
    state, wanted = client.state(), hump(0.5, 0.4)
    first, lags = int(state["message_id"]), []
    while (passed := (int(state["message_id"]) - first) * 1e-3) < 0.4:
        client.send(int(state["message_id"]), dq_c=wanted(passed))
        state = client.state()
        lags.append((abs(state["dq"] - state["dq_d"]).max(), abs(state["q"] - state["q_d"]).max()))
    assert state["robot_mode"] == RobotMode.MOVE
    assert np.median(lags, axis=0)[0] < 2e-3 and np.max(lags, axis=0)[1] < 1e-3  # rad/s, rad


def test_positions_move_the_arm(bench: Bench, client: FCIClient) -> None:
    asked = client.start(Generator.JOINT_POSITION)
    state = client.state()
    start, first = state["q_d"].astype(float), int(state["message_id"])
    while (k := int(state["message_id"]) - first) < 400 and state["robot_mode"] == RobotMode.MOVE:
        client.send(int(state["message_id"]), q_c=start - [0.05 * (1 - np.cos(np.pi * k / 400)), 0, 0, 0, 0, 0, 0])
        state = client.state()
    goal = start - [0.1, 0, 0, 0, 0, 0, 0]
    client.send(int(state["message_id"]), finished=True, q_c=goal)
    assert client.reply(asked)[0] == client.wire.code(Command.MOVE, Status.SUCCESS)
    bench.await_stand()
    assert bench.place == pytest.approx(goal, abs=1e-3)


def test_a_velocity_step_is_a_reflex_that_can_be_recovered(bench: Bench, client: FCIClient) -> None:
    asked = client.start()
    client.drive(0.01, lambda _: [0.0] * 7)
    client.drive(0.01, lambda _: [0.5, 0, 0, 0, 0, 0, 0])
    state = client.wait(lambda s: s["robot_mode"] == RobotMode.REFLEX)
    assert np.flatnonzero(state["errors"]).tolist() == [Error.ACCELERATION_DISCONTINUITY]
    assert state["motion_generator_mode"] == Generator.IDLE
    assert client.reply(asked)[0] == client.wire.code(Command.MOVE, Status.REFLEX)
    refused = client.ask(Command.MOVE, struct.pack("<II", 0, 1) + DEVIATIONS)
    assert refused[0] == client.wire.code(Command.MOVE, Status.NOT_POSSIBLE)
    assert client.ask(Command.RECOVER) == b"\0"
    state = client.wait(lambda s: s["robot_mode"] == RobotMode.IDLE)
    assert not state["errors"].any() and state["reflex_reason"].any()
    client.start()


def test_silence_is_a_reflex_and_the_arm_stands(bench: Bench, client: FCIClient) -> None:
    client.start()
    client.drive(0.25, ramp(0.3))
    assert bench.speed[0] == pytest.approx(0.3, abs=0.01)
    state = client.wait(lambda s: s["robot_mode"] == RobotMode.REFLEX)
    assert np.flatnonzero(state["errors"]).tolist() == [Error.COMMUNICATION_CONSTRAINTS]
    bench.await_stand()


def test_a_server_that_was_held_up_blames_nobody(bench: Bench, client: FCIClient) -> None:
    client.start()
    client.drive(0.2, ramp(0.3))
    before = client.state()
    time.sleep(0.05)
    state = client.drive(0.05, lambda _: ramp(0.3)(1.0))
    assert state["robot_mode"] == RobotMode.MOVE and bench.server.counters["lost"] <= 5
    assert bench.server.counters["late"] >= 49
    assert int(state["message_id"]) - int(before["message_id"]) == pytest.approx(50, abs=3)


def test_stop_preempts_the_motion(bench: Bench, client: FCIClient) -> None:
    asked = client.start()
    client.drive(0.25, ramp(-0.3))
    assert client.ask(Command.STOP_MOVE) == b"\0"
    assert client.reply(asked)[0] == client.wire.code(Command.MOVE, Status.PREEMPTED)
    assert not client.wait(lambda s: s["robot_mode"] == RobotMode.IDLE)["errors"].any()


@pytest.mark.parametrize(
    ("fault", "mode", "errors", "status"),
    [
        ("reflex", RobotMode.REFLEX, [Error.JOINT_REFLEX], Status.REFLEX),
        ("communication_loss", RobotMode.REFLEX, [Error.COMMUNICATION_CONSTRAINTS], Status.REFLEX),
        ("emergency_stop", RobotMode.USER_STOPPED, [], Status.EMERGENCY),
    ],
)
def test_injected_faults_stop_the_arm(
    bench: Bench, client: FCIClient, fault: str, mode: RobotMode, errors: list[Error], status: Status
) -> None:
    asked = client.start()
    client.drive(0.2, ramp(-0.3))
    bench.server.inject(fault)
    state = client.drive(1.0, lambda _: ramp(-0.3)(1.0))
    assert state["robot_mode"] == mode and np.flatnonzero(state["errors"]).tolist() == errors
    assert client.reply(asked)[0] == client.wire.code(Command.MOVE, status)
    bench.await_stand()
    recovered = client.ask(Command.RECOVER)
    assert recovered[0] == client.wire.code(Command.RECOVER, Status.SUCCESS if errors else Status.EMERGENCY)
    bench.server.inject("release")
    client.wait(lambda s: s["robot_mode"] == RobotMode.IDLE)


def test_a_short_delay_is_tolerated(bench: Bench, client: FCIClient) -> None:
    client.start()
    client.drive(0.2, ramp(0.2))
    assert bench.server.counters["lost"] == 0
    bench.server.inject("delay")
    state = client.drive(0.1, lambda _: ramp(0.2)(1.0))
    assert state["robot_mode"] == RobotMode.MOVE
    assert 1 <= bench.server.counters["lost"] < 20


def test_a_dropped_connection_stops_the_arm_and_the_next_client_is_served(bench: Bench, client: FCIClient) -> None:
    client.start()
    client.drive(0.25, ramp(0.3))
    bench.server.inject("drop")
    assert client.is_closed()
    bench.await_stand()
    with bench.connect() as other:
        assert other.state()["robot_mode"] == RobotMode.IDLE
        other.start()


def test_a_second_client_is_turned_away(bench: Bench, client: FCIClient) -> None:
    with pytest.raises(ConnectionResetError):
        bench.connect()
    assert client.state()["robot_mode"] == RobotMode.IDLE


@pytest.mark.parametrize("words", [b"GET / HTTP/1.0\r\n\r\n", HEADER.pack(99, 1, 12), HEADER.pack(1, 1, 12)])
def test_nonsense_closes_the_connection(bench: Bench, words: bytes) -> None:
    with socket.create_connection((bench.host, PORT), timeout=2.0) as stranger:
        stranger.sendall(words)
        for _ in range(3):
            bench.server.tick()
        with suppress(ConnectionResetError):  # where it had sent more than was read
            assert stranger.recv(1) == b""


def test_settings(bench: Bench, client: FCIClient) -> None:
    tool = np.eye(4)
    tool[2, 3] = 0.1
    assert client.ask(Command.SET, struct.pack("<52d", *[20.0] * 52)) == b"\0"
    assert client.ask(Command.SET_LOAD, struct.pack("<13d", 0.5, *[0.0] * 12)) == b"\0"
    assert client.ask(Command.SET_NE_TO_EE, tool.T.tobytes()) == b"\0"
    state = client.wait(lambda s: s["m_load"][0] == 0.5 and s["F_T_EE"][14] > 0)
    position, rotation = bench.server.plant.flange()
    assert state["O_T_EE"][12:15] == pytest.approx(position + 0.1 * rotation[:, 2], abs=1e-6)
    client.start()
    assert client.ask(Command.SET_LOAD, bytes(104)) == b"\1"  # not during a motion


def test_what_each_version_alone_has(bench: Bench, client: FCIClient) -> None:
    if bench.version == 5:
        assert client.ask(Command.LOAD_MODEL_LIBRARY, b"\0\0") == b"\1"
        assert len(client.ask(Command.GET_CARTESIAN_LIMIT, bytes(4))) == 154
        return
    answer = client.ask(Command.GET_ROBOT_MODEL)
    robot = ElementTree.fromstring(answer[1:])
    assert answer[0] == 0 and len(robot.findall("joint[@type='revolute']")) == 7
    limit = robot.find("joint[@name='joint4']/limit")
    assert limit is not None and limit.attrib["upper"] == "-0.1458"


def test_an_unknown_version_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"Version 7 of the Franka Control Interface is not served: use 5 or 10\."):
        FCIServer("127.0.0.1", 7)


def test_a_process_serves_and_wrong_uses_are_told_in_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with serving("franka", protocol=5) as served:
        assert np.abs(served.state()[1]).max() < 1e-3 and served.flange()[0][2] > 0
        with FCIClient(served.host, 5) as client:
            served.inject("reflex")
            client.wait(lambda s: s["robot_mode"] == RobotMode.REFLEX)
        assert served.counters["reflexes"] == 1
        with pytest.raises(RobotError, match="There is no fault 'flood' here: use reflex, "):
            served.inject("flood")
        with pytest.raises(RobotError, match=rf"cannot listen at {served.host} \(Address already in use\)"):
            Served(Order("franka", 5, served.host, os.getpid()))
        assert main(["serve-robot", "franka", "--host", served.host]) == 2
        assert "give another address of this machine" in capsys.readouterr().err
        served.process.kill()
        with pytest.raises(RobotError, match="ended with exit code -9"):
            served.state()
    assert main(["serve-robot", "franka", "--host", own_address(), "--fault", "flood@1"]) == 2
    assert capsys.readouterr().err.startswith("offbeat: There is no fault 'flood' here: use reflex, ")
    assert main(["serve-robot", "franka", "--fault", "reflex"]) == 2
    assert "A fault is NAME@SECONDS, for example reflex@5, and this one is 'reflex'." in capsys.readouterr().err


def test_the_command_serves_with_timed_faults_and_ends_by_ctrl_c() -> None:
    host = own_address()
    words = ["serve-robot", "franka", "--protocol", "5", "--host", host, "--fault", "reflex@0.5", "--fault", "drop@1"]
    server = subprocess.Popen([sys.executable, "-m", "offbeat", *words], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == f"Serving a Panda at {host}: Ctrl-C ends it.\n"
        with FCIClient(host, 5) as client:
            client.wait(lambda s: s["robot_mode"] == RobotMode.REFLEX)
            assert client.is_closed()
        server.send_signal(signal.SIGINT)
        assert server.wait(5) == 130
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


def test_a_server_does_not_outlive_who_started_it() -> None:
    code = """
        import os
        from offbeat.robots.protocols import serving
        with serving("franka", protocol=5) as arm:
            print(arm.process.pid, flush=True)
            os.kill(os.getpid(), 9)
    """
    started = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60)
    pid, until_s = int(started.stdout), time.monotonic() + 2.0
    while alive(pid):
        assert time.monotonic() < until_s
        time.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
