"""The dashboard of a Universal Robots controller (TCP port 29999): a line asks, a line answers.

Source: Universal Robots, "Dashboard Server e-Series".
"""

from __future__ import annotations

from offbeat.robots.protocols.ur_controller import SOFTWARE, Controller, Safety

PORT = 29999
GREETING = "Connected: Universal Robots Dashboard Server"

_VERSION = "URSoftware {}.{}.{}.{}".format(*SOFTWARE)
_TOO_EARLY = (
    "Cannot unlock protective stop until 5s after occurrence. Always inspect cause of protective stop before unlocking"
)
# What is answered whatever the arm does.
_FIXED = {
    "polyscopeversion": _VERSION,
    "get robot model": "UR5",
    "get serial number": "20225500001",
    "is in remote control": "true",
    "get loaded program": "No program loaded",
    "power on": "Powering on",
    "brake release": "Brake releasing",
    "close safety popup": "closing safety popup",
    "close popup": "closing popup",
    "quit": "Disconnected",
}


def answer(controller: Controller, line: str) -> str:
    """What the dashboard answers, and does."""
    request = line.strip().lower()
    if request in _FIXED:
        return _FIXED[request]
    if request == "stop":
        controller.end_program()
        return "Stopped"
    if request == "unlock protective stop":
        return "Protective stop releasing" if controller.unlock() else _TOO_EARLY
    if request == "running":
        return f"Program running: {str(controller.running).lower()}"
    if request == "programstate":
        return f"{'PLAYING' if controller.running else 'STOPPED'} rtde_control"
    if request == "robotmode":
        return f"Robotmode: {'RUNNING' if controller.powered else 'POWER_OFF'}"
    if request in ("safetymode", "safetystatus"):
        return f"Safety{request[6:]}: {Safety(controller.safety).name}"
    if request.startswith("popup "):
        return "showing popup"
    return f"could not understand: '{line.strip()}'"
