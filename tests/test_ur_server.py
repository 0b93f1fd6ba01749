"""The server of a UR controller: its program and its safety step by step, its bytes, and ur-rtde as it is."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from offbeat.robots.models import MODELS
from offbeat.robots.protocols import own_address, rtde, serving
from offbeat.robots.protocols.plant import Plant
from offbeat.robots.protocols.ur_controller import COMMAND, FINISHED, READY, STEP_S, Controller, Safety
from offbeat.robots.protocols.ur_dashboard import answer
from offbeat.robots.protocols.ur_server import URServer

NONE, SPEEDJ, SPEED_STOP, SET_WATCHDOG, STOP_SCRIPT = 0, 9, 15, 35, 255


@pytest.fixture(scope="module")
def plant() -> Plant:
    return Plant("ur5e")


class Client:
    """What a client's data packages do to a controller, with no network between them."""

    def __init__(self, plant: Plant, unlock_s: float = 1.0) -> None:
        self.controller = Controller(plant, unlock_s)
        self.start()

    def start(self) -> None:
        self.controller.play()
        self.steps(0.1)

    def say(self, command: int, *numbers: float) -> None:
        values = {f"input_double_register_{i}": (number,) for i, number in enumerate(numbers)}
        self.controller.write({COMMAND: (command,), **values})

    def steps(self, seconds: float) -> None:
        for _ in range(round(seconds / STEP_S)):
            self.controller.step()

    def __getitem__(self, field: str) -> Any:
        value = self.controller.outputs()[field]
        return value[0] if len(value) == 1 else np.array(value)


# --- the controller --------------------------------------------------------------------------------------------------


def test_all_joints_ramp_in_the_time_of_the_one_with_the_longest_way(plant: Plant) -> None:
    client = Client(plant)
    client.say(SPEEDJ, 0.4, -0.2, 0.0, 0.0, 0.0, 0.1, 2.0)
    client.steps(0.1)  # half of the 0.2 s that 0.4 rad/s take at 2 rad/s2
    np.testing.assert_allclose(client["target_qd"], [0.2, -0.1, 0.0, 0.0, 0.0, 0.05], atol=1e-9)
    client.steps(0.1)
    np.testing.assert_allclose(client["target_qd"], [0.4, -0.2, 0.0, 0.0, 0.0, 0.1], atol=1e-9)
    assert client["output_int_register_0"] == READY
    client.say(NONE)
    client.steps(0.1)
    np.testing.assert_allclose(client["target_qd"][0], 0.4)  # it goes on
    np.testing.assert_allclose(client["actual_qd"], client["target_qd"], atol=0.01)


def test_a_stop_is_finished_when_the_arm_stands_and_once(plant: Plant) -> None:
    client = Client(plant)
    client.say(SPEEDJ, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 10.0)
    client.steps(0.1)
    client.say(SPEED_STOP)
    client.steps(0.04)
    assert client["output_int_register_0"] not in (READY, FINISHED)  # 0.05 s at 10 rad/s2
    client.steps(0.02)
    assert client["output_int_register_0"] == FINISHED and not client["target_qd"].any()
    client.say(NONE)
    client.steps(STEP_S)
    assert client["output_int_register_0"] == READY


def test_a_silent_client_costs_a_protective_stop(plant: Plant) -> None:
    client = Client(plant)
    client.say(SET_WATCHDOG, 10.0)
    client.steps(STEP_S)
    assert client["output_int_register_0"] == FINISHED
    client.say(SPEEDJ, 0.3, 0.0, 0.0, 0.0, 0.0, 0.0, 8.0)
    client.steps(0.1)
    assert client["safety_mode"] == Safety.NORMAL
    client.steps(2 * STEP_S)
    assert client["safety_mode"] == Safety.PROTECTIVE_STOP and client["runtime_state"] == 1
    assert client["robot_status_bits"] == 1 and client["safety_status_bits"] == 0b100_0000_0100
    client.steps(0.1)
    assert np.abs(client["actual_qd"]).max() < 0.01
    assert client.controller.counters["watchdog"] == client.controller.counters["protective_stops"] == 1


def test_time_that_is_skipped_is_nobodys_silence(plant: Plant) -> None:
    client = Client(plant)
    client.say(SET_WATCHDOG, 10.0)
    client.steps(0.08)
    before_s = client["timestamp"]
    client.controller.skip(500)
    client.steps(0.01)
    assert client["safety_mode"] == Safety.NORMAL
    assert client["timestamp"] == pytest.approx(before_s + 1.01)
    client.steps(0.02)
    assert client["safety_mode"] == Safety.PROTECTIVE_STOP


def test_a_watchdog_ends_with_its_program(plant: Plant) -> None:
    client = Client(plant)
    client.say(SET_WATCHDOG, 10.0)
    client.steps(STEP_S)
    client.say(NONE)
    client.steps(STEP_S)
    client.say(STOP_SCRIPT)
    client.steps(1.0)
    assert client["safety_mode"] == Safety.NORMAL and client["runtime_state"] == 1
    client.say(NONE)
    client.start()
    client.steps(1.0)
    assert client["runtime_state"] == 2


def test_a_protective_stop_is_unlocked_in_time_and_then_a_program_starts(plant: Plant) -> None:
    client = Client(plant, unlock_s=1.0)
    client.controller.protective_stop()
    client.steps(0.98)
    assert answer(client.controller, "unlock protective stop\n").startswith("Cannot unlock")
    client.start()
    assert client["runtime_state"] == 1, "no program starts before"
    assert answer(client.controller, "safetymode") == "Safetymode: PROTECTIVE_STOP"
    assert answer(client.controller, "unlock protective stop") == "Protective stop releasing"
    client.start()
    assert client["runtime_state"] == 2 and client["robot_status_bits"] == 3
    assert answer(client.controller, "running") == "Program running: true"


def test_an_emergency_stop_switches_off_until_it_is_released(plant: Plant) -> None:
    client = Client(plant)
    client.controller.emergency_stop()
    client.steps(STEP_S)
    assert client["robot_mode"] == 3 and client["safety_mode"] == Safety.ROBOT_EMERGENCY_STOP
    client.start()
    assert client["runtime_state"] == 1
    client.controller.release()
    client.start()
    assert client["robot_mode"] == 7 and client["runtime_state"] == 2


# --- its bytes -------------------------------------------------------------------------------------------------------


def test_packages_are_as_the_guide_says() -> None:
    assert rtde.package(rtde.Kind.VERSION, b"\x00\x02") == b"\x00\x05V\x00\x02"
    recipe = rtde.Recipe(3, ["timestamp", "robot_mode", "actual_q"], ["DOUBLE", "INT32", "VECTOR6D"])
    data = recipe.pack({"timestamp": (2.5,), "actual_q": (1, 2, 3, 4, 5, 6)})
    assert data == struct.pack(">HBBdi6d", 64, ord("U"), 3, 2.5, 0, 1, 2, 3, 4, 5, 6)
    ((kind, payload),) = rtde.take_packages(bytearray(data))
    assert kind == rtde.Kind.DATA
    assert recipe.unpack(payload) == {"timestamp": (2.5,), "robot_mode": (0,), "actual_q": (1, 2, 3, 4, 5, 6)}


def test_packages_may_come_in_pieces() -> None:
    stream = bytearray(b"\x00\x05V\x00\x02\x00\x03")
    assert list(rtde.take_packages(stream)) == [(ord("V"), b"\x00\x02")]
    stream += b"S"
    assert list(rtde.take_packages(stream)) == [(ord("S"), b"")] and not stream
    with pytest.raises(ValueError, match="2 bytes"):
        list(rtde.take_packages(bytearray(b"\x00\x02X")))


class Raw:
    """A server in this very process, and sockets to it."""

    def __init__(self, plant: Plant) -> None:
        self.host = own_address()
        self.server = URServer(plant, self.host)

    def connect(self) -> socket.socket:
        return socket.create_connection((self.host, rtde.PORT), timeout=1.0)

    def ask(self, link: socket.socket, kind: int, payload: bytes) -> tuple[int, bytes]:
        """The first answer of this kind."""
        link.sendall(rtde.package(kind, payload))
        for _ in range(3):
            self.server.tick()
        return next(found for found in rtde.take_packages(bytearray(link.recv(1 << 16))) if found[0] == kind)


@pytest.fixture
def raw(plant: Plant) -> Iterator[Raw]:
    made = Raw(plant)
    yield made
    made.server.close()


def test_unknown_and_taken_fields_are_named(raw: Raw) -> None:
    with raw.connect() as first, raw.connect() as second:
        assert raw.ask(first, rtde.Kind.VERSION, b"\x00\x02")[1] == b"\x01"
        assert raw.ask(first, rtde.Kind.VERSION, b"\x00\x07")[1] == b"\x00"
        outputs = struct.pack(">d", 125.0) + b"actual_q,nonsense"
        assert raw.ask(first, rtde.Kind.OUTPUTS, outputs)[1] == b"\x00VECTOR6D,NOT_FOUND"
        field = b"input_int_register_0"
        assert raw.ask(first, rtde.Kind.INPUTS, field)[1] == b"\x01INT32"
        assert raw.ask(first, rtde.Kind.INPUTS, field + b",speed_slider_mask")[1] == b"\x02INT32,UINT32"
        assert raw.ask(second, rtde.Kind.INPUTS, field)[1] == b"\x00IN_USE"
        first.close()
        raw.server.tick()
        assert raw.ask(second, rtde.Kind.INPUTS, field)[1] == b"\x01INT32"


def test_states_come_as_often_as_asked(raw: Raw) -> None:
    with raw.connect() as link:
        raw.ask(link, rtde.Kind.OUTPUTS, struct.pack(">d", 125.0) + b"timestamp")
        raw.ask(link, rtde.Kind.START, b"")
        for _ in range(40):
            raw.server.tick()
        stamps = [struct.unpack(">Bd", data)[1] for _, data in rtde.take_packages(bytearray(link.recv(1 << 16)))]
        assert len(stamps) == 10
        np.testing.assert_allclose(np.diff(stamps), 0.008)


def test_nonsense_is_hung_up_on(raw: Raw) -> None:
    with raw.connect() as link:
        link.sendall(b"GET / HTTP/1.1\r\n\r\n" * 2000)
        for _ in range(5):
            raw.server.tick()
        with pytest.raises(ConnectionError):
            while link.recv(100):
                pass
            raise ConnectionError("closed in order")


# --- ur-rtde as it is ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_library_finds_all_it_asks_for_and_poses_are_ours() -> None:
    pytest.importorskip("rtde_receive")
    import dashboard_client
    import rtde_control
    import rtde_receive

    with serving("ur") as served:
        dashboard = dashboard_client.DashboardClient(served.host)
        dashboard.connect()
        assert dashboard.getRobotModel() == "UR5" and dashboard.robotmode() == "Robotmode: RUNNING"
        assert dashboard.isInRemoteControl() and dashboard.polyscopeVersion().startswith("5.")
        receive = rtde_receive.RTDEReceiveInterface(served.host)  # all the fields it knows
        control = rtde_control.RTDEControlInterface(served.host)
        for velocity in ([0.3, -0.3, 0.4, 0.3, -0.5, 0.6], [-0.6, 0.2, -0.5, -0.7, 0.8, 0.5]):
            assert control.speedJ(velocity, 8.0, 0.0)
            start_s = receive.getTimestamp()
            while receive.getTimestamp() < start_s + 0.6:
                pass
            control.speedStop()
            pose, joint_rad = np.array(receive.getActualTCPPose()), np.array(receive.getActualQ())
            ours = MODELS["ur5e"].forward_kinematics(joint_rad)
            assert np.abs(pose[:3] - ours[:3, 3]).max() < 1e-4  # 0.1 mm
            np.testing.assert_allclose(rotation(pose[3:]), ours[:3, :3], atol=1e-4)
            np.testing.assert_allclose(served.state()[0], joint_rad, atol=1e-3)
        assert served.counters["commands"] == 2 and served.counters["uploads"] == 1
        control.disconnect()
        receive.disconnect()


def rotation(vector: np.ndarray) -> np.ndarray:
    """The matrix of a rotation vector (Rodrigues)."""
    angle = np.linalg.norm(vector)
    x, y, z = vector / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
