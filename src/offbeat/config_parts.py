"""The parts of a run's configuration: environment, agent, wall clock and machine; frozen, typed, checked when built."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from offbeat.arms import ARMS, Arm, RobotName
from offbeat.errors import ConfigError


def require(condition: bool, message: str) -> None:
    """Raises: ConfigError with the message unless the condition holds."""
    if not condition:
        raise ConfigError(message)


def names(kind: Any) -> str:
    """The values that a Literal type allows, for a message."""
    return ", ".join(get_args(kind))


@dataclass(frozen=True)
class EnvConfig:
    """The environment: one action cycle a step, whatever the agent does meanwhile."""

    robot: RobotName = "panda"
    """The arm: the paper's Panda, or a UR5e with the same task."""
    cycle_s: float = 0.04
    """Action cycle time (s)."""
    episode_s: float = 6.0
    """Length of an episode (s)."""
    height: int = 90
    """Image height (pixels)."""
    width: int = 160
    """Image width (pixels)."""
    stack: int = 3
    """Images in an observation."""
    action_limit_rad_s: float = 0.2
    """Largest joint speed a policy may ask for (rad/s)."""
    clip_action: bool = False
    """True: an action is rad/s clipped to the limit (the paper). False: [-1, 1] is scaled to the limit."""
    camera_rate_hz: float = 30.0
    """Images a second that the camera captures (Hz)."""
    camera_latency_s: float = 0.03
    """From capture to the image being readable (s)."""
    renderer: Literal["auto", "gl", "rays"] = "auto"
    """What draws the images: MuJoCo's OpenGL renderer, its rays, or OpenGL where it works."""
    fast_reset: bool = False
    """True: place arm and bag at once and charge `reset_s`. False: reset by the paper's two real moves."""
    reset_s: float = 4.0
    """What a fast or a dry reset is charged (s)."""
    start_inside: bool = True
    """True: a reset ends with the flange inside the workspace box. False: where the paper's poses leave it, up to 4 cm
    above the box, from where the safety filter drives it in."""
    keep_stack: bool = False
    """True: the first stack of an episode still holds images of the episode before (the paper). False: it is
    filled with the first image."""
    hsv_lower: tuple[int, int, int] = (151, 155, 84)
    """Least hue (0 to 179), saturation and value (0 to 255) of the bag's pixels, in OpenCV's ranges (the paper's red).
    A least hue above the greatest means a range across 179, where reds are; `offbeat camera mask` finds them."""
    hsv_upper: tuple[int, int, int] = (179, 255, 255)
    """Greatest hue, saturation and value of the bag's pixels."""

    def __post_init__(self) -> None:
        require(self.robot in ARMS, f"Unknown robot {self.robot!r}: use {names(RobotName)}.")
        require(self.cycle_s > 0, f"cycle_s is {self.cycle_s}: give a cycle time above 0 s.")
        require(
            self.episode_s >= self.cycle_s,
            f"episode_s is {self.episode_s}, shorter than one cycle of {self.cycle_s} s: make it longer.",
        )
        require(
            self.height >= 16 and self.width >= 16,
            f"Images of {self.width}x{self.height} are too small: use 16x16 or more.",
        )
        require(1 <= self.stack <= 16, f"stack is {self.stack}: use 1 to 16 images.")
        require(
            0 < self.action_limit_rad_s <= 1.0,
            f"action_limit_rad_s is {self.action_limit_rad_s}: use a value in (0, 1].",
        )
        require(self.camera_rate_hz > 0, f"camera_rate_hz is {self.camera_rate_hz}: use a rate above 0.")
        require(self.camera_latency_s >= 0, f"camera_latency_s is {self.camera_latency_s}: use 0 or more.")
        require(self.reset_s >= 0, f"reset_s is {self.reset_s}: use 0 or more.")
        for name in ("hsv_lower", "hsv_upper"):
            hsv = getattr(self, name)
            require(
                0 <= hsv[0] <= 179 and 0 <= hsv[1] <= 255 and 0 <= hsv[2] <= 255,
                f"{name} is {hsv}: use a hue of 0 to 179, and a saturation and a value of 0 to 255.",
            )
        require(
            self.hsv_lower[1] <= self.hsv_upper[1] and self.hsv_lower[2] <= self.hsv_upper[2],
            f"hsv_lower is {self.hsv_lower} and hsv_upper {self.hsv_upper}: no saturation or value lies between them.",
        )

    @property
    def arm(self) -> Arm:
        """The task's bounds and poses for the robot."""
        return ARMS[self.robot]

    @property
    def joints(self) -> int:
        """Joints of the robot, N: numbers in an action."""
        return self.arm.joints

    @property
    def proprioception(self) -> int:
        """Numbers in an observation beside the image, 3 N: joint positions, joint velocities and the last action."""
        return 3 * self.joints

    @property
    def episode_steps(self) -> int:
        """Cycles in an episode."""
        return round(self.episode_s / self.cycle_s)


@dataclass(frozen=True)
class SACConfig:
    """Soft Actor-Critic with random crops (Haarnoja et al. 2018; Laskin et al. 2020)."""

    batch_size: int = 128
    """Transitions in a minibatch."""
    filters: int = 32
    """Filters of each convolution."""
    strides: tuple[int, ...] = (2, 2, 2, 1)
    """Stride of each 3x3 convolution."""
    hidden: tuple[int, ...] = (1024, 1024)
    """Widths of the hidden layers of actor and critics."""
    learning_rate: float = 3e-4
    """Adam's rate for actor, critic and temperature."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Adam's betas for actor and critic."""
    temperature_betas: tuple[float, float] = (0.5, 0.999)
    """Adam's betas for the temperature."""
    polyak: float = 0.005
    """Share of the new weights in each step of the targets (critic and encoder)."""
    initial_temperature: float = 0.1
    """Entropy temperature at the start."""
    target_entropy: float = 0.0
    """Entropy the temperature is tuned for (nats); 0 means minus the number of joints, -7 for the Panda (the paper)."""
    log_std_min: float = -10.0
    """Lower bound of the policy's log standard deviation."""
    log_std_max: float = 10.0
    """Upper bound of the policy's log standard deviation."""
    crop_share: float = 0.01
    """Share of height and width cut from each side by the random crop."""
    discount: float = 0.99
    """Discount for `discount_per_s` seconds, or for one step when that is 0."""
    discount_per_s: float = 0.04
    """Time the discount stands for (s); 0 means one step whatever the cycle (the paper)."""
    exploration_time_s: float = 0.4
    """Correlation time of the exploration noise (s); 0 draws it anew every step (the paper). At 25 commands a second
    independent noise averages out in the arm's motion, and the less it explores the shorter the cycle is."""
    return_span_s: float = 0.2
    """Time whose rewards are summed before the target bootstraps (s); 0 means one step (the paper). The shorter the
    cycle, the less one action changes, and the longer value takes to travel through one-step targets."""
    bootstrap_timeouts: bool = True
    """True: a time-out bootstraps from the final observation. False: it is stored as terminal (the paper)."""

    def __post_init__(self) -> None:
        require(self.batch_size >= 1, f"batch_size is {self.batch_size}: use 1 or more.")
        require(0 < self.discount < 1, f"discount is {self.discount}: use a value between 0 and 1.")
        require(self.discount_per_s >= 0, f"discount_per_s is {self.discount_per_s}: use 0 (per step) or more.")
        require(0 < self.polyak <= 1, f"polyak is {self.polyak}: use a value in (0, 1].")
        require(self.learning_rate > 0, f"learning_rate is {self.learning_rate}: use a value above 0.")
        require(
            self.initial_temperature > 0, f"initial_temperature is {self.initial_temperature}: use a value above 0."
        )
        require(self.log_std_min < self.log_std_max, "log_std_min must be below log_std_max.")
        require(0 <= self.return_span_s <= 2, f"return_span_s is {self.return_span_s}: use 0 (one step) to 2 s.")
        require(
            self.exploration_time_s >= 0,
            f"exploration_time_s is {self.exploration_time_s}: use 0 (independent noise) or more.",
        )
        require(0 <= self.crop_share < 0.25, f"crop_share is {self.crop_share}: use a value in [0, 0.25).")
        require(len(self.strides) >= 1 and len(self.hidden) >= 1, "strides and hidden need at least one layer each.")

    def discount_per_step(self, cycle_s: float) -> float:
        """Discount of one step of `cycle_s` seconds."""
        return self.discount if self.discount_per_s == 0 else self.discount ** (cycle_s / self.discount_per_s)

    def entropy_target(self, joints: int) -> float:
        """Entropy the temperature is tuned for (nats), for an arm of so many joints."""
        return self.target_entropy or -float(joints)

    def return_steps(self, cycle_s: float) -> int:
        """Steps of `cycle_s` seconds whose rewards a target sums, at least one."""
        return max(1, round(self.return_span_s / cycle_s))


@dataclass(frozen=True)
class WallConfig:
    """What only a run on the wall clock needs: processes, deadlines and the watchdog."""

    processes: Literal["auto", "joined", "separate"] = "auto"
    """Whether sampling and updating share one process or have one each; auto: separate with four cores or more."""
    watchdog_s: float = 0.0
    """The robot stops when no fresh command came for this long (s); 0 means three cycles."""
    overrun: Literal["hold", "stop"] = "hold"
    """When a deadline is missed the robot holds its last command until the watchdog, or stops at once."""
    realtime: bool = False
    """True: try real-time priority, a core of its own and locked memory for the interaction, and report what failed."""
    spin_s: float = 0.0005
    """How long before a deadline sleeping turns into spinning (s)."""

    def __post_init__(self) -> None:
        require(self.watchdog_s >= 0, f"watchdog_s is {self.watchdog_s}: use 0 (three cycles) or more.")
        require(0 <= self.spin_s <= 0.01, f"spin_s is {self.spin_s}: use 0 to 0.01 s.")


@dataclass(frozen=True)
class ComputeConfig:
    """How this machine computes the updates. A run saves what `auto` became, so that it goes on as it began."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where updates run; auto: on a GPU where there is one. Acting always runs on the CPU."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """What convolutions are computed in; weights, linear layers, losses and the optimizer are always float32. The cpu
    scale's is float32. auto: as a measured --profile says, else bfloat16 on a CPU with instructions for it."""
    compile: Literal["auto", "off", "on"] = "auto"
    """torch.compile of the losses, on a CPU; auto: as a measured --profile says, else off."""
    cuda_graph: bool = True
    """On a GPU: capture an update once and replay it as a whole."""
    resident_frames: Literal["auto", "off", "on"] = "auto"
    """Whether minibatches only name their frames, and updates read them in the replay or in a GPU's copy of it; auto:
    on a CPU in virtual time, and on a GPU that has room for them. Changes no result."""
    keep_memory: bool = True
    """On a CPU: the C library keeps freed memory for the next update instead of returning it to the system (glibc)."""


@dataclass(frozen=True)
class HardwareConfig:
    """The real arm and its camera; without a driver both are simulated."""

    driver: str = ""
    """What drives the arm: franka, ur, lerobot, the name of an installed driver, or MODULE:FUNCTION."""
    host: str = ""
    """Where the arm's controller is: its address, or what else the driver wants to be told."""
    camera: str = "sim"
    """The camera: a number or device (/dev/video0), a file or address, an installed driver, MODULE:FUNCTION, or sim: a
    simulated scene whose arm moves as the real one does."""
    collision_torque_nm: float = 40.0
    """Torque on a joint from which the arm's own collision reflex stops it (Nm)."""
    collision_force_n: float = 40.0
    """Force on the flange from which the arm's own collision reflex stops it (N)."""
    recoveries_per_min: int = 3
    """How often in a minute an arm that stopped by itself is recovered before the run ends."""

    def __post_init__(self) -> None:
        for name in ("collision_torque_nm", "collision_force_n"):
            value = getattr(self, name)
            require(value > 0, f"{name} is {value}: use a threshold above 0.")
        require(self.recoveries_per_min >= 0, f"recoveries_per_min is {self.recoveries_per_min}: use 0 or more.")
        if not self.driver:
            require(
                not self.host and self.camera == "sim",
                "A camera or a host without a driver is no real arm: say --robot franka, ur, lerobot or "
                "MODULE:FUNCTION as well.",
            )
