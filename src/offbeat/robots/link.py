"""What the process that serves an arm and the one that uses it share: four cells of memory and a channel of requests.

                    interaction                                           server
    ServedRobot     command_velocity, stop   ------ command ----->   applied in its next physics step, and watched
                    read_state               <------ state -------   after every step (2 ms)
    ServedCamera    read_latest              <------ image -------   once it has arrived, as often as the camera ticks
    ServedRig       place, restart, ...      <---- requests ----->   outside of action cycles only
                    render                   <------ scene -------   when asked for

A cell holds the newest record of one writer and nobody waits for anybody (`shared_memory.SeqLock`), so whichever of
the two is slow, stopped or dead, the other goes on. All stamps are seconds of the run clock, which both processes
count from the same instant of `time.monotonic()`.

A request is (number, name, *arguments), its answer (number, value); a value that is an exception is raised.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from offbeat.arms import RobotName
from offbeat.config import EnvConfig
from offbeat.robots.sim import SCENE_SIZE
from offbeat.shared_memory import SeqLock

READY, CRASHED = 0, -1
"""Numbers of the answers that nobody asked for: the server works; it does not any more, and this is its traceback."""


@dataclass(frozen=True)
class Cells:
    """The shared memory of one served arm; given to its process when that is spawned.

    robot: the arm's name. command: sent_s, joint_rad_s (N,). state: stamp_s, joint_rad (N,), joint_rad_s (N,).
    image: captured_s, image (H, W, 3) uint8. scene: image (360, 480, 3) uint8.
    """

    robot: RobotName
    command: SeqLock
    state: SeqLock
    image: SeqLock
    scene: SeqLock

    @classmethod
    def make(cls, config: EnvConfig) -> Cells:
        """Cells with nothing written. Raises: OffbeatError when the system does not give the memory."""
        joints = (np.float64, config.joints)
        return cls(
            robot=config.robot,
            command=SeqLock([("sent_s", np.float64), ("joint_rad_s", *joints)]),
            state=SeqLock([("stamp_s", np.float64), ("joint_rad", *joints), ("joint_rad_s", *joints)]),
            image=SeqLock([("captured_s", np.float64), ("image", np.uint8, (config.height, config.width, 3))]),
            scene=SeqLock([("image", np.uint8, (*SCENE_SIZE, 3))]),
        )
