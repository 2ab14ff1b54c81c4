"""What the runs of all scenarios came to: medians and spread, as a table for people and as JSON for programs."""

from .machine import Machine
from .report import Report, Result
from .summary import Figure, summarize

__all__ = ["Figure", "Machine", "Report", "Result", "summarize"]
