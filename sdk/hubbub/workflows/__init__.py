"""Workflows: states, the transitions between them, and whoever works in each; every change on the log.

    from hubbub.workflows import State, workflow

    class Report:
        research = State(handler="research", on={"done": "writing"}, timeout=600, retries=2)
        writing = State(handler="writing", on={"done": "published", "rejected": "research"})
        published = State(end=True)

    report = workflow(Report)

Read the package in this order: `errors`, `declaration`, `validation`, `model` and `spelling` (what is declared);
`instance`, `draft` and `step` (what becomes of a run of it: pure); `diagram`; then `topics`, `store`, `book` (where
instances stand), `engine`, `coordinator`, `worker`, `flow`.
"""

from .coordinator import Coordinator
from .declaration import CANCELLED, COMPENSATING, FAILED, State
from .diagram import mermaid
from .errors import AlreadyStarted, IllegalTransition, InvalidWorkflow, NoSuchInstance, TaskFailed
from .flow import Flow
from .instance import Assignment, Change, Instance, Order, Status, Task
from .model import Transition, Workflow
from .spelling import workflow
from .worker import Outcome, Worker

__all__ = [
    "CANCELLED",
    "COMPENSATING",
    "FAILED",
    "AlreadyStarted",
    "Assignment",
    "Change",
    "Coordinator",
    "Flow",
    "IllegalTransition",
    "Instance",
    "InvalidWorkflow",
    "NoSuchInstance",
    "Order",
    "Outcome",
    "State",
    "Status",
    "Task",
    "TaskFailed",
    "Transition",
    "Worker",
    "Workflow",
    "mermaid",
    "workflow",
]
