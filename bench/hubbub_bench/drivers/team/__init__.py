"""Teams: many agents in many conversations, as raw frames or through the SDK, in as many processes as are asked for.

From the bottom: `roster` says who is where, `tally` counts and `place` judges; `outgoing` is what a member publishes;
`member` is what both sorts have, `raw` and `sdk` are the sorts; `pace` publishes, `unrest` lets agents leave and
readers be slow; `squad` is one process's part of a run, `process` that process, `crew` all of them.
"""

from .crew import run

__all__ = ["run"]
