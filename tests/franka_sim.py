"""franka-sim, an independent simulator of an FR3's controller, around our own model of the arm.

It runs in a venv of its own (scripts/drivers.sh) and takes the arm from a file that FR3_MJCF names. Its limits of
motion and its count of lost commands are switched on, so it stops the arm where a controller would.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest

from offbeat.robots.franka import PORT
from offbeat.robots.protocols import own_address
from offbeat.robots.world import SceneConfig, scene_xml

PYTHON = Path(__file__).parents[1] / ".venv-franka-sim" / "bin" / "python"
_START_S = 30.0
# Its threads share one lock and have a millisecond each; it needs what priority is granted. It is less
# than that of a run's processes, as it takes more than a core: above them, on two cores, it held them up for 100 ms.
_SERVER = """
import os, sys
from franka_sim import FrankaSimServer
sys.setswitchinterval(0.0002)
try:
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(30))
except OSError:
    pass
FrankaSimServer(host={host!r}, enable_vis=False, enable_gripper=False).start()
"""
# Its velocity servo acts explicitly, with gains of 200 to 450 Nm s/rad: with less inertia its joints chatter.
_ARMATURE_KG_M2 = 0.5


def arm_mjcf() -> str:
    """Our arm, with what hangs on its flange and nothing else."""
    root = ElementTree.fromstring(scene_xml(SceneConfig(timestep_s=0.001)))
    for name in ("asset", "tendon", "actuator", "visual"):
        root.remove(root.find(name))
    world = root.find("worldbody")
    for child in list(world):
        if child.tag != "body" or child.get("name") == "bag":
            world.remove(child)
    for joint in world.iter("joint"):
        joint.set("armature", str(_ARMATURE_KG_M2))
    return ElementTree.tostring(root, encoding="unicode")


@dataclass(frozen=True)
class FrankaSim:
    """A running simulator: its address, and the file it logs to."""

    host: str
    log: Path


@contextmanager
def franka_sim(folder: Path) -> Iterator[FrankaSim]:
    """A simulator with an address of its own, for the time of the block; skips the test where it is not installed."""
    if not PYTHON.exists():
        pytest.skip("franka-sim is not installed: run scripts/drivers.sh")
    host, model, log = own_address(), folder / "fr3.xml", folder / "franka-sim.log"
    model.write_text(arm_mjcf())
    strict = {"FRANKA_SIM_ENFORCE_COMM_CONSTRAINTS": "1", "FRANKA_SIM_ENFORCE_MOTION_LIMITS": "1"}
    with log.open("w") as out:
        process = subprocess.Popen(
            [str(PYTHON), "-c", _SERVER.format(host=host)],
            stdout=out,
            stderr=subprocess.STDOUT,
            env=os.environ | strict | {"FR3_MJCF": str(model)},
        )
        try:
            _wait_until_it_listens(process, host, log)
            yield FrankaSim(host, log)
        finally:
            process.kill()
            process.wait()


def _wait_until_it_listens(process: subprocess.Popen[bytes], host: str, log: Path) -> None:
    deadline_s = time.monotonic() + _START_S
    while time.monotonic() < deadline_s and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex((host, PORT)) == 0:
                return
        time.sleep(0.1)
    pytest.fail(f"franka-sim did not start:\n{log.read_text()}")
