"""An agent's side of the control plane: it says how it is, and does what it is told.

line, lines   topics on which an agent hears by itself
reports       what it says of itself, and how often
orders        commands: obeyed once, before their deadline, and answered
control       all of it for one agent, with the commands that every agent knows

All of it is beside the messages: nothing here waits for a handler, and no handler for it. An agent made with
`control=False` has none of it.
"""

from .control import BUILT_IN, Control
from .lines import Lines
from .orders import CommandHandler, CommandRefused, Order

__all__ = ["BUILT_IN", "CommandHandler", "CommandRefused", "Control", "Lines", "Order"]
