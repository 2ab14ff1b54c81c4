"""The registry: which agents there are, what they can do, how they are, and who of them has least to do.

picture     what is known of every agent, and what follows from it. Pure: times are handed in
models      the JSON of the routes
routes      the routes
registry    the part: keeps the picture by what agents and broker say
"""

from .picture import Limits
from .registry import Registry

__all__ = ["Limits", "Registry"]
