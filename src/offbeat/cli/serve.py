"""`offbeat serve-robot`: a simulated arm on the network, in its maker's own protocol."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal, NoReturn

import tyro
from rich.console import Console

from offbeat.errors import ConfigError


@dataclass(frozen=True)
class ServeRobot:
    """Serve a simulated arm in its maker's own protocol: the makers' libraries connect to it as to a real one.

    franka: a Panda or an FR3, whose controller enforces its limits. ur: a UR5e. Ctrl-C ends it.
    """

    maker: tyro.conf.Positional[Literal["franka", "ur"]]
    """Whose arm."""
    protocol: Literal[5, 10] = 10
    """Version of the Franka Control Interface: 5 is a Panda's, 10 an FR3's."""
    host: str = "127.0.0.1"
    """Address to listen at; others of 127.0.0.0/8 let several run side by side, and any other lets others in."""
    fault: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="NAME@SECONDS")] = ()
    """A fault and when it happens, seconds from now; may be given several times."""

    def __call__(self) -> NoReturn:
        """Serve until interrupted. Raises: UserError."""
        from offbeat.robots.protocols import make_server
        from offbeat.robots.protocols.process import check_fault, run

        faults = [_fault(text) for text in self.fault]
        server = make_server(self.maker, self.protocol, self.host)
        try:
            for _, name in faults:
                check_fault(server, name)
            franka = "a Panda" if self.protocol == 5 else "an FR3"
            what = franka if self.maker == "franka" else "a UR5e"
            Console().print(f"Serving {what} at {self.host}: Ctrl-C ends it.", highlight=False, markup=False)
            run(server, faults)
        finally:
            server.close()


def _fault(text: str) -> tuple[float, str]:
    """When a fault happens (s) and which it is. Raises: ConfigError when it is not NAME@SECONDS."""
    name, _, seconds = text.partition("@")
    try:
        time_s = float(seconds)
    except ValueError:
        time_s = math.nan
    if not name or not 0 <= time_s < math.inf:
        raise ConfigError(f"A fault is NAME@SECONDS, for example reflex@5, and this one is {text!r}.")
    return time_s, name
