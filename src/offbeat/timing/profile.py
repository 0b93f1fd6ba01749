"""Timing profiles: what each stage costs (s), by constants, by a measured machine or by the paper's records."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offbeat.errors import ProfileError


class Stage(Enum):
    """The four stages of a learning robot; the order is the rank of events at one time."""

    ACT = "act"
    STORE = "store"
    SAMPLE = "sample"
    UPDATE = "update"

    __hash__ = object.__hash__  # Enum's own runs in Python, millions of times in a dry run


QUEUE_UPDATE_MEAN_S = {"paper-highres-queue": 0.158, "paper-base-queue": 0.064}
"""Mean time of an update in the paper's asynchronous runs (s), whose minibatches crossed a queue, by profile.

High resolution: as their records show. Base: they always reached their cap of 150 updates in an episode and its reset,
9.7 s together in simulation, so that an update took no longer than this.
"""

BUILT_IN = ("paper", "paper-base", "paper-base-queue", "paper-highres", "paper-highres-queue", "zero")
"""Names of the profiles that come with offbeat."""

_FORMS = f"{', '.join(BUILT_IN)}, constant:act=3,store=0,sample=4,update=50 (milliseconds) or a JSON file"


@dataclass(frozen=True)
class Distribution:
    """A random duration, given by its quantile function between the points of a table.

    shares: rising from 0 to 1; seconds: the quantile at each share (s), never falling, 0 or more. Between the points
    the quantile function is a straight line. Raises: ProfileError on a table that is none.
    """

    shares: tuple[float, ...]
    seconds: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.shares) != len(self.seconds) or len(self.shares) < 2:
            raise ProfileError(
                f"A quantile table has {len(self.shares)} shares and {len(self.seconds)} seconds: "
                "give 2 or more, as many of each."
            )
        if (self.shares[0], self.shares[-1]) != (0.0, 1.0) or not all(a < b for a, b in pairwise(self.shares)):
            raise ProfileError(
                f"The shares of a quantile table run from {self.shares[0]} to {self.shares[-1]}: "
                "let them rise from 0 to 1, no two alike."
            )
        if not all(math.isfinite(s) and s >= 0 for s in self.seconds):
            raise ProfileError(f"A stage takes {_first_bad(self.seconds)} s: give a finite duration of 0 s or more.")
        if not all(a <= b for a, b in pairwise(self.seconds)):
            raise ProfileError("The seconds of a quantile table fall somewhere: sort them in rising order.")

    @classmethod
    def constant(cls, seconds: float) -> Distribution:
        """The same duration always (s)."""
        return cls((0.0, 1.0), (float(seconds), float(seconds)))

    @classmethod
    def measured(cls, durations_s: NDArray[np.floating[Any]]) -> Distribution:
        """The quantile table of measured durations (n,) in seconds. Raises: ProfileError when there are none."""
        if len(durations_s) == 0:
            raise ProfileError("A stage was measured 0 times: measure it at least once.")
        quantiles = np.maximum.accumulate(np.quantile(durations_s, _MEASURED_SHARES))
        return cls(_MEASURED_SHARES, tuple(quantiles.tolist()))

    @property
    def mean_s(self) -> float:
        """Mean duration (s): the area under the quantile function."""
        return float(np.trapezoid(self.seconds, self.shares))

    @property
    def median_s(self) -> float:
        """Median duration (s)."""
        return float(np.interp(0.5, self.shares, self.seconds))

    def shifted_to(self, mean_s: float) -> Distribution:
        """The same spread around another mean (s). Raises: ProfileError when a duration would fall below 0 s."""
        shift = mean_s - self.mean_s
        return Distribution(self.shares, tuple(s + shift for s in self.seconds))

    def draw(self, rng: np.random.Generator, size: int) -> NDArray[np.float64]:
        """Draw `size` durations (size,) in seconds, one uniform number each (inverse transform sampling)."""
        durations: NDArray[np.float64] = np.interp(rng.random(size), self.shares, self.seconds)
        return durations


_MEASURED_SHARES = tuple(
    p / 100 for p in (0, 0.5, 1, 2, 5, 10, 20, 25, 30, 40, 50, 60, 70, 75, 80, 90, 95, 98, 99, 99.5, 100)
)


@dataclass(frozen=True)
class TimingProfile:
    """What each stage costs on some machine, setting and transport.

    name: how it is called in records. stages: one distribution for each `Stage`. source: where the numbers come from.
    compute: fields of ComputeConfig that were found to be the fastest where the profile was measured, by name.
    Raises: ProfileError when a stage is missing.
    """

    name: str
    stages: Mapping[Stage, Distribution]
    source: str = ""
    compute: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        missing = [stage.value for stage in Stage if stage not in self.stages]
        if missing:
            raise ProfileError(
                f"Timing profile {self.name!r} lacks {', '.join(missing)}: give all of act, store, sample, update."
            )

    def to_dict(self) -> dict[str, Any]:
        """The profile as plain data; `from_dict` gives it back."""
        stages: dict[str, dict[str, list[float]]] = {
            stage.value: {"shares": list(self.stages[stage].shares), "seconds": list(self.stages[stage].seconds)}
            for stage in Stage
        }
        compute = {"compute": dict(self.compute)} if self.compute else {}
        return {"name": self.name, "source": self.source, **compute, "stages": stages}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TimingProfile:
        """Build a profile from plain data. Raises: ProfileError on missing stages, wrong shapes or bad numbers."""
        name = str(data.get("name", "unnamed"))
        stages = data.get("stages")
        if not isinstance(stages, Mapping):
            raise ProfileError(f"Timing profile {name!r} has no stages: give act, store, sample and update.")
        table: dict[Stage, Distribution] = {}
        for key, entry in stages.items():
            stage = _stage(key)
            try:
                if "constant_s" in entry:
                    table[stage] = Distribution.constant(float(entry["constant_s"]))
                else:
                    table[stage] = Distribution(
                        tuple(float(share) for share in entry["shares"]), tuple(float(s) for s in entry["seconds"])
                    )
            except ProfileError as error:
                raise ProfileError(f"Stage {key!r} of timing profile {name!r}: {error}") from error
            except (KeyError, TypeError, ValueError) as error:
                raise ProfileError(
                    f"Stage {key!r} of timing profile {name!r} has no durations: give constant_s or shares and seconds."
                ) from error
        compute = data.get("compute", {})
        if not isinstance(compute, Mapping):
            raise ProfileError(f"In timing profile {name!r} compute is {compute!r}: give an object or leave it out.")
        return cls(name, table, str(data.get("source", "")), dict(compute))

    def save(self, path: Path | str) -> None:
        """Write the profile as JSON."""
        Path(path).write_text(json.dumps(self.to_dict(), indent=1) + "\n", encoding="utf-8")


def load_profile(name_or_file: str, setting: str = "", schedule: str = "") -> TimingProfile:
    """The timing profile a user names.

    name_or_file: one of `BUILT_IN`, `constant:act=3,store=0,sample=4,update=50` (milliseconds) or a JSON file.
    setting, schedule: what "paper" chooses by: the high-resolution settings take the high-resolution records, and with
    the queue transport where the paper's runs had it (async-highres, asynchronous). Raises: ProfileError.
    """
    name = _choose(setting, schedule) if name_or_file == "paper" else name_or_file
    if name.startswith("constant:"):
        return _parse_constants(name)
    if name == "zero":
        return TimingProfile(name, {stage: Distribution.constant(0.0) for stage in Stage}, "every stage takes no time")
    if name in QUEUE_UPDATE_MEAN_S:
        return _with_queue(_read_built_in(name.removesuffix("-queue")), QUEUE_UPDATE_MEAN_S[name])
    if name in BUILT_IN:
        return _read_built_in(name)
    return _read_file(Path(name))


def _choose(setting: str, schedule: str) -> str:
    if "highres" not in setting:
        return "paper-base"
    return (
        "paper-highres-queue" if setting.startswith("async") and schedule in ("", "asynchronous") else "paper-highres"
    )


def _with_queue(profile: TimingProfile, mean_s: float) -> TimingProfile:
    update = profile.stages[Stage.UPDATE].shifted_to(mean_s)
    source = f"{profile.source}; UPDATE shifted to {mean_s * 1e3:g} ms, as the asynchronous runs' counts tell"
    return TimingProfile(f"{profile.name}-queue", {**profile.stages, Stage.UPDATE: update}, source)


def _read_built_in(name: str) -> TimingProfile:
    return TimingProfile.from_dict(json.loads((files("offbeat.timing") / "data" / f"{name}.json").read_text("utf-8")))


def _read_file(path: Path) -> TimingProfile:
    if path.suffix != ".json" and not path.exists():
        raise ProfileError(f"Unknown timing profile {str(path)!r}: use {_FORMS}.")
    try:
        data = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ProfileError(f"Timing profile {path} cannot be read ({error.strerror}): use {_FORMS}.") from error
    except ValueError as error:
        raise ProfileError(f"Timing profile {path} is not JSON ({error}): write one with `offbeat profile`.") from error
    if not isinstance(data, dict):
        raise ProfileError(f"Timing profile {path} holds no JSON object: write one with `offbeat profile`.")
    return TimingProfile.from_dict({"name": path.stem, **data})


def _parse_constants(text: str) -> TimingProfile:
    """`constant:act=3,store=0,sample=4,update=50`, in milliseconds."""
    stages: dict[Stage, Distribution] = {}
    for part in text.removeprefix("constant:").split(","):
        key, _, value = part.partition("=")
        try:
            milliseconds = float(value)
        except ValueError as error:
            raise ProfileError(
                f"{part!r} in timing profile {text!r} is no duration: write it like update=50 (milliseconds)."
            ) from error
        stages[_stage(key.strip())] = Distribution.constant(milliseconds / 1e3)
    return TimingProfile(text, stages, "constants")


def _stage(name: str) -> Stage:
    try:
        return Stage(name)
    except ValueError as error:
        raise ProfileError(f"Unknown stage {name!r} in a timing profile: use act, store, sample and update.") from error


def _first_bad(seconds: tuple[float, ...]) -> float:
    return next(s for s in seconds if not (math.isfinite(s) and s >= 0))
