"""Commands to agents: who ordered what of whom, and what became of it.

trail       the commands that are known, and what each of those who were commanded said. Pure: times are handed in
models      the JSON of the routes
routes      the routes
commands    the part: orders, hears the answers, tells again those who come back
"""

from .commands import Commands

__all__ = ["Commands"]
