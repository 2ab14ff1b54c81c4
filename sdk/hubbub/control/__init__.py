"""An agent's side of the control plane: it says how it is, and does what it is told.

line        the one topic on which it hears the control plane
reports     what it says of itself, and how often
control     both, for one agent

All of it is beside the messages: nothing here waits for a handler, and no handler for it. An agent made with
`control=False` has none of it.
"""

from .control import Control
from .line import Line

__all__ = ["Control", "Line"]
