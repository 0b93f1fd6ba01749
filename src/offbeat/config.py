"""Configurations: frozen, typed, checked when built; and the presets of the paper and of the cpu scale.

A run is a `RunConfig` with one level of parts below it. `make_config` builds one from the four names a user
says (setting, scale, preset, schedule); everything set in seconds is converted to steps here, in one place.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, get_args

from offbeat.config_parts import ComputeConfig, EnvConfig, HardwareConfig, SACConfig, WallConfig, names, require
from offbeat.errors import ConfigError

__all__ = ["ComputeConfig", "EnvConfig", "HardwareConfig", "RunConfig", "SACConfig", "WallConfig", "make_config"]

Setting = Literal["async-base", "async-highres", "sync-base", "sync-highres"]
Scale = Literal["paper", "cpu"]
Preset = Literal["default", "paper"]
Schedule = Literal["sequential", "reactive", "asynchronous"]
ClockName = Literal["virtual", "wall"]


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
    sample_share: float = 1.0
    """Share of the transitions, spread evenly over time and episode, that minibatches are drawn from."""
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
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    """How this machine computes the updates."""
    hardware: HardwareConfig = field(default_factory=HardwareConfig)
    """The real arm and its camera."""

    def __post_init__(self) -> None:
        require(self.clock in get_args(ClockName), f"Unknown clock {self.clock!r}: use {names(ClockName)}.")
        require(
            not (self.dry and self.clock == "wall"),
            "A dry run needs the virtual clock: leave out --dry or --clock wall.",
        )
        if self.hardware.driver:
            require(self.clock == "wall", "A real arm needs the wall clock: say --clock wall, or leave out --robot.")
            require(not self.env.fast_reset, "A real arm cannot be placed: leave out --env.fast-reset or --robot.")
        require(self.schedule in get_args(Schedule), f"Unknown schedule {self.schedule!r}: use {names(Schedule)}.")
        require(self.minutes > 0, f"minutes is {self.minutes}: give a training time above 0 minutes.")
        require(
            self.minutes * 60 >= self.env.episode_s,
            f"minutes is {self.minutes}, less than one episode of {self.env.episode_s} s: "
            f"give at least {self.env.episode_s / 60:g}.",
        )
        require(self.seed >= 0, f"seed is {self.seed}: use 0 or more.")
        require(self.warmup_s >= 0, f"warmup_s is {self.warmup_s}: use 0 or more.")
        require(
            self.replay_s >= 2 * self.env.episode_s,
            f"replay_s is {self.replay_s}: hold at least two episodes ({2 * self.env.episode_s} s).",
        )
        require(
            self.max_updates_per_step > 0, f"max_updates_per_step is {self.max_updates_per_step}: use a value above 0."
        )
        require(1e-3 <= self.sample_share <= 1, f"sample_share is {self.sample_share}: use 0.001 to 1.")
        require(self.checkpoint_episodes >= 1, f"checkpoint_episodes is {self.checkpoint_episodes}: use 1 or more.")

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
            env, sac = EnvConfig(**_tuples(data.pop("env"))), SACConfig(**_tuples(data.pop("sac")))
            parts: dict[str, Any] = {
                "wall": WallConfig(**data.pop("wall")),
                "compute": ComputeConfig(**data.pop("compute")),
                "hardware": HardwareConfig(**data.pop("hardware", {})),  # runs of before there was any have none
            }
            return cls(env=env, sac=sac, **parts, **data)
        except (KeyError, TypeError) as error:
            raise ConfigError(f"The saved configuration does not fit this version of offbeat ({error}).") from error


def _tuples(saved: dict[str, Any]) -> dict[str, Any]:
    """Plain data with its lists as tuples, as JSON does not give them."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in saved.items()}


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
        require(value in get_args(kind), f"Unknown {what} {value!r}: use one of {names(kind)}.")
    cycle_s, height, width, batch_size = _SETTINGS[setting]
    env = EnvConfig(cycle_s=cycle_s, height=height, width=width)
    sac = SACConfig(batch_size=batch_size)
    run: dict[str, Any] = {}
    if scale == "cpu":
        # Rays draw the same bytes on every machine, with OpenGL or without.
        env = replace(env, height=36 * height // 90, width=64 * width // 160, renderer="rays")
        # Adam moves every weight by about its rate, so a function of narrower layers needs a higher one to move as far:
        # the rate for a width falls as 1 / width (Yang et al. 2021, Tensor Programs V).
        sac = replace(sac, batch_size=batch_size // 4, filters=16, hidden=(256, 256), learning_rate=1e-3, polyak=0.01)
        # Small images keep a map of several places on both axes after fewer strides of two.
        sac = replace(sac, strides=(2, 2, 1, 1) if env.height < 72 else (2, 2, 2, 1))
        # What every processor can, so that the same runs are made everywhere, and fast enough at this size.
        run["compute"] = ComputeConfig(precision="float32")
    if preset == "paper":
        env = replace(env, clip_action=True, keep_stack=True, start_inside=False)
        sac = replace(sac, discount_per_s=0.0, bootstrap_timeouts=False, exploration_time_s=0.0, return_span_s=0.0)
        sac = replace(sac, polyak=SACConfig.polyak)
        run |= {"warmup_s": 200.0, "replay_s": 100_000 * cycle_s}
    run |= {"schedule": schedule or ("asynchronous" if setting.startswith("async") else "sequential")}
    run |= changes
    unknown = set(run) - {f.name for f in fields(RunConfig)}
    require(not unknown, f"Unknown configuration fields: {', '.join(sorted(unknown))}.")
    return RunConfig(**{"setting": setting, "scale": scale, "preset": preset, "env": env, "sac": sac, **run})
