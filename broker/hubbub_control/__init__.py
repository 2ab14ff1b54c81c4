"""The control plane: who is there and how they are, and what is ordered of them.

It is a client of the data plane, an agent on the SDK called `_control`: it issues intents and keeps metadata, and no
message of anybody's passes through it. So its death stops no delivery, and whatever it knows is on the log.

refusal     how its routes refuse, in the same form as the broker's
caller      who calls a route, as whoever mounts the routes found out
client      the agent, which asks over HTTP, too
part        what one subject of the control plane is made of: work, routes, metrics
plane       all parts, with the one agent that they share, through every failure
workflows   the part that shows workflows, and passes on what is ordered of them
status      the part that tells how the control plane itself is
registry    the part that knows which agents there are, and how they are
commands    the part that orders something of them
breakers    the part that counts the transitions of shared breakers
"""

from .breakers import Breakers
from .caller import Caller
from .commands import Commands
from .part import Part
from .plane import ControlPlane
from .refusal import Refusal
from .registry import Limits, Registry
from .workflows import Workflows

__all__ = ["Breakers", "Caller", "Commands", "ControlPlane", "Limits", "Part", "Refusal", "Registry", "Workflows"]
