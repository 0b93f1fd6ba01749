"""offbeat: real-time reinforcement learning for robots that do not wait.

Importing the package registers the Gymnasium environment `offbeat/VisualReacher-v0` and nothing else; torch and
MuJoCo are loaded when something needs them.
"""

from __future__ import annotations

import gymnasium

__version__ = "0.1.0"
__all__ = ["__version__"]

# The time-out is the environment's own (`EnvConfig.episode_s`), so Gymnasium's step limit stays unset.
gymnasium.register(id="offbeat/VisualReacher-v0", entry_point="offbeat.env:make_env")
