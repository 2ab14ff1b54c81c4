"""The registry: which agents there are, what they can do, how they are, and who of them has least to do.

picture     what is known of every agent, and what follows from it. Pure: times are handed in
cards       what an agent says of itself in the form of A2A
models      the JSON of the routes
routes      the routes: agents, and whom to give work to
card_routes the routes of cards
registry    the part: keeps the picture by what agents and broker say
"""

from .picture import Limits
from .registry import Registry

__all__ = ["Limits", "Registry"]
