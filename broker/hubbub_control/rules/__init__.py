"""Policies and schemas: written here, in force in the broker whether the control plane is there or not.

kept      one kind of document (policy, schema): its keys in the state of `_hubbub`, and the topics of its history
rules     the part: reads, writes, history, through the control plane's agent
models    the JSON of what is asked and answered
routes    the routes
"""

from .rules import Rules

__all__ = ["Rules"]
"""The part of the control plane that keeps policies and schemas."""
