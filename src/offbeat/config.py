"""Configurations: frozen, typed, checked when built; and the presets of the paper and of the cpu scale.

A run is a `RunConfig` with one level of parts below it. `make_config` builds one from the four names a user
says (setting, scale, preset, schedule); everything set in seconds is converted to steps here, in one place.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, get_args

from offbeat.errors import ConfigError

Setting = Literal["async-base", "async-highres", "sync-base", "sync-highres"]
Scale = Literal["paper", "cpu"]
Preset = Literal["default", "paper"]
Schedule = Literal["sequential", "reactive", "asynchronous"]
ClockName = Literal["virtual", "wall"]


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


@dataclass(frozen=True)
class EnvConfig:
    """The environment: one action cycle a step, whatever the agent does meanwhile."""

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

    def __post_init__(self) -> None:
        _require(self.cycle_s > 0, f"cycle_s is {self.cycle_s}: give a cycle time above 0 s.")
        _require(
            self.episode_s >= self.cycle_s,
            f"episode_s is {self.episode_s}, shorter than one cycle of {self.cycle_s} s: make it longer.",
        )
        _require(
            self.height >= 16 and self.width >= 16,
            f"Images of {self.width}x{self.height} are too small: use 16x16 or more.",
        )
        _require(1 <= self.stack <= 16, f"stack is {self.stack}: use 1 to 16 images.")
        _require(
            0 < self.action_limit_rad_s <= 1.0,
            f"action_limit_rad_s is {self.action_limit_rad_s}: use a value in (0, 1].",
        )
        _require(self.camera_rate_hz > 0, f"camera_rate_hz is {self.camera_rate_hz}: use a rate above 0.")
        _require(self.camera_latency_s >= 0, f"camera_latency_s is {self.camera_latency_s}: use 0 or more.")
        _require(self.reset_s >= 0, f"reset_s is {self.reset_s}: use 0 or more.")

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
    target_entropy: float = -7.0
    """Entropy the temperature is tuned for (nats)."""
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
        _require(self.batch_size >= 1, f"batch_size is {self.batch_size}: use 1 or more.")
        _require(0 < self.discount < 1, f"discount is {self.discount}: use a value between 0 and 1.")
        _require(self.discount_per_s >= 0, f"discount_per_s is {self.discount_per_s}: use 0 (per step) or more.")
        _require(0 < self.polyak <= 1, f"polyak is {self.polyak}: use a value in (0, 1].")
        _require(self.learning_rate > 0, f"learning_rate is {self.learning_rate}: use a value above 0.")
        _require(
            self.initial_temperature > 0, f"initial_temperature is {self.initial_temperature}: use a value above 0."
        )
        _require(self.log_std_min < self.log_std_max, "log_std_min must be below log_std_max.")
        _require(0 <= self.return_span_s <= 2, f"return_span_s is {self.return_span_s}: use 0 (one step) to 2 s.")
        _require(
            self.exploration_time_s >= 0,
            f"exploration_time_s is {self.exploration_time_s}: use 0 (independent noise) or more.",
        )
        _require(0 <= self.crop_share < 0.25, f"crop_share is {self.crop_share}: use a value in [0, 0.25).")
        _require(len(self.strides) >= 1 and len(self.hidden) >= 1, "strides and hidden need at least one layer each.")

    def discount_per_step(self, cycle_s: float) -> float:
        """Discount of one step of `cycle_s` seconds."""
        return self.discount if self.discount_per_s == 0 else self.discount ** (cycle_s / self.discount_per_s)

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
        _require(self.watchdog_s >= 0, f"watchdog_s is {self.watchdog_s}: use 0 (three cycles) or more.")
        _require(0 <= self.spin_s <= 0.01, f"spin_s is {self.spin_s}: use 0 to 0.01 s.")


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides the bytes of a run."""

    setting: Setting = "async-base"
    """Name of the paper's setting it was made from; a label."""
    scale: Scale = "paper"
    """Name of the scale it was made from; a label."""
    preset: Preset = "default"
    """Name of the preset it was made from; a label."""
    schedule: Schedule = "asynchronous"
    """When the stages run: sequential, reactive or asynchronous."""
    clock: ClockName = "virtual"
    """What time is: virtual (simulated, as the profile says) or wall (processes and real deadlines)."""
    profile: str = "paper"
    """Timing profile of the virtual clock: a name or a file."""
    minutes: float = 72.0
    """Robot time spent in episodes (minutes); resets come on top."""
    seed: int = 0
    """Seed of every random stream of the run."""
    dry: bool = False
    """True: every stage is charged, nothing is rendered or learned."""
    warmup_s: float = 120.0
    """Episode time acted by the untrained policy before the first update (s)."""
    replay_s: float = 4000.0
    """Episode time the replay holds (s)."""
    max_updates_per_step: float = 1.0
    """Asynchronous only: updates never exceed this many times the steps since warm-up."""
    learn_in_resets: bool = True
    """Asynchronous only: whether sampling and updating go on while the arm resets."""
    checkpoint_episodes: int = 20
    """Episodes between checkpoints."""
    keep_replay: bool = False
    """Whether the replay's files stay when a virtual run has finished; those of the wall clock always stay."""
    env: EnvConfig = field(default_factory=EnvConfig)
    """The environment."""
    sac: SACConfig = field(default_factory=SACConfig)
    """The agent."""
    wall: WallConfig = field(default_factory=WallConfig)
    """Processes and deadlines of a run on the wall clock."""

    def __post_init__(self) -> None:
        _require(self.clock in get_args(ClockName), f"Unknown clock {self.clock!r}: use {_names(ClockName)}.")
        _require(
            not (self.dry and self.clock == "wall"),
            "A dry run needs the virtual clock: leave out --dry or --clock wall.",
        )
        _require(self.schedule in get_args(Schedule), f"Unknown schedule {self.schedule!r}: use {_names(Schedule)}.")
        _require(self.minutes > 0, f"minutes is {self.minutes}: give a training time above 0 minutes.")
        _require(
            self.minutes * 60 >= self.env.episode_s,
            f"minutes is {self.minutes}, less than one episode of {self.env.episode_s} s: "
            f"give at least {self.env.episode_s / 60:g}.",
        )
        _require(self.seed >= 0, f"seed is {self.seed}: use 0 or more.")
        _require(self.warmup_s >= 0, f"warmup_s is {self.warmup_s}: use 0 or more.")
        _require(
            self.replay_s >= 2 * self.env.episode_s,
            f"replay_s is {self.replay_s}: hold at least two episodes ({2 * self.env.episode_s} s).",
        )
        _require(
            self.max_updates_per_step > 0, f"max_updates_per_step is {self.max_updates_per_step}: use a value above 0."
        )
        _require(self.checkpoint_episodes >= 1, f"checkpoint_episodes is {self.checkpoint_episodes}: use 1 or more.")

    @property
    def episodes(self) -> int:
        """Episodes in the run."""
        return max(1, round(self.minutes * 60 / self.env.episode_s))

    @property
    def warmup_steps(self) -> int:
        """Steps before the first update: 5,000 at 40 ms, 2,666 at 75 ms, 2,500 at 80 ms for the paper's 200 s."""
        return math.floor(self.warmup_s / self.env.cycle_s + 1e-9)

    @property
    def replay_steps(self) -> int:
        """Transitions the replay holds: 100,000 at 40 ms for 4,000 s."""
        return math.floor(self.replay_s / self.env.cycle_s + 1e-9)

    @property
    def watchdog_s(self) -> float:
        """After how long without a fresh command the robot stops (s)."""
        return self.wall.watchdog_s or 3 * self.env.cycle_s

    @property
    def discount_per_step(self) -> float:
        """Discount of one step."""
        return self.sac.discount_per_step(self.env.cycle_s)

    def to_dict(self) -> dict[str, Any]:
        """The configuration as plain data; `from_dict` gives it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> RunConfig:
        """Build a configuration from plain data. Raises: ConfigError on unknown or missing fields."""
        data = dict(data)
        try:
            env = EnvConfig(**data.pop("env"))
            saved = data.pop("sac").items()
            sac: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in saved}
            return cls(env=env, sac=SACConfig(**sac), wall=WallConfig(**data.pop("wall")), **data)
        except (KeyError, TypeError) as error:
            raise ConfigError(f"The saved configuration does not fit this version of offbeat ({error}).") from error


def _names(kind: Any) -> str:
    return ", ".join(get_args(kind))


# Cycle time, height, width and minibatch of the paper's four settings (section 6).
_SETTINGS: dict[str, tuple[float, int, int, int]] = {
    "async-base": (0.040, 90, 160, 128),
    "async-highres": (0.040, 180, 320, 80),
    "sync-base": (0.075, 90, 160, 128),
    "sync-highres": (0.080, 180, 320, 80),
}


def make_config(
    setting: str = "async-base",
    scale: str = "paper",
    preset: str = "default",
    schedule: str | None = None,
    **changes: Any,
) -> RunConfig:
    """The run configuration a user names.

    setting: one of the paper's four. scale: "paper" or "cpu" (small images, networks and batches; the same robot,
    task and timing). preset: "default" (ours) or "paper" (every choice of the authors). schedule: by default
    asynchronous for async-* and sequential for sync-*. changes: fields of RunConfig. Raises: ConfigError.
    """
    for value, kind, what in ((setting, Setting, "setting"), (scale, Scale, "scale"), (preset, Preset, "preset")):
        _require(value in get_args(kind), f"Unknown {what} {value!r}: use one of {_names(kind)}.")
    cycle_s, height, width, batch_size = _SETTINGS[setting]
    env = EnvConfig(cycle_s=cycle_s, height=height, width=width)
    sac = SACConfig(batch_size=batch_size)
    run: dict[str, Any] = {}
    if scale == "cpu":
        # Rays draw the same bytes on every machine, with OpenGL or without.
        env = replace(env, height=36 * height // 90, width=64 * width // 160, renderer="rays")
        sac = replace(sac, batch_size=batch_size // 2, filters=16, hidden=(256, 256), learning_rate=1e-3, polyak=0.01)
        # Small images keep a map of several places on both axes after fewer strides of two.
        sac = replace(sac, strides=(2, 2, 1, 1) if env.height < 72 else (2, 2, 2, 1))
    if preset == "paper":
        env = replace(env, clip_action=True, keep_stack=True, start_inside=False)
        sac = replace(sac, discount_per_s=0.0, bootstrap_timeouts=False, exploration_time_s=0.0, return_span_s=0.0)
        sac = replace(sac, learning_rate=SACConfig.learning_rate, polyak=SACConfig.polyak)
        run |= {"warmup_s": 200.0, "replay_s": 100_000 * cycle_s}
    run |= {"schedule": schedule or ("asynchronous" if setting.startswith("async") else "sequential")}
    run |= changes
    unknown = set(run) - {f.name for f in fields(RunConfig)}
    _require(not unknown, f"Unknown configuration fields: {', '.join(sorted(unknown))}.")
    return RunConfig(**{"setting": setting, "scale": scale, "preset": preset, "env": env, "sac": sac, **run})
