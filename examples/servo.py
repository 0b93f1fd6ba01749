"""Your own agent on the environment: here a scripted one that steers to the bag and descends.

    python examples/servo.py

Any object that turns an observation into seven numbers in [-1, 1] can stand in its place.
"""

from __future__ import annotations

import gymnasium

import offbeat  # noqa: F401  registers the environment
from offbeat.tasks.servo import ServoPolicy


def main() -> None:
    """Play five episodes and print what each returned."""
    env = gymnasium.make("offbeat/VisualReacher-v0", scale="cpu")
    policy = ServoPolicy(env.unwrapped.config)  # type: ignore[attr-defined]
    for episode in range(5):
        observation, info = env.reset(seed=episode)
        total, truncated = 0.0, False
        while not truncated:
            observation, reward, _, truncated, info = env.step(policy.act(observation))
            total += float(reward)
        print(f"episode {episode}: return {total:.0f}, the bag fills {info['mask_share']:.0%} of the last image")


if __name__ == "__main__":
    main()
