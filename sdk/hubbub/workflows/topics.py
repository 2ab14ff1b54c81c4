"""Where things are: the topics and keys that a workflow uses. Names that begin with `_` are passed over by patterns.

GROUP/NAME              the workflow's own conversation; its state holds everything below
GROUP/NAME/ID           the conversation of an instance, where its changes are told
GROUP/_workflow/NAME    what handlers answer, for the coordinators
GROUP/_tasks/HANDLER    the tasks of a handler, of whatever workflow

in the state of GROUP/NAME:
instance/ID             where an instance stands
due/TIME/ID             when something happens to it by itself, next; TIME in milliseconds, of a fixed width
model/DIGEST            a declaration
"""

from hubbub.errors import InvalidName
from hubbub.naming import checked
from hubbub_protocol import names
from hubbub_protocol.limits import SEGMENT_CHARS_MAX

INSTANCES = "instance"
DUES = "due"
MODELS = "model"

ID_CHARS_MAX = SEGMENT_CHARS_MAX
CHANGE = "workflow"
"""The type of the messages that tell of changes."""

TASK = "task"
FINISHED = "finished"
BROKE = "broke"
INSTANCE = "instance"
"""The header of a task and of its answer that names the instance."""

_DIGITS = 15
_NEVER = 10**_DIGITS - 1


def home_of(group: str, name: str) -> str:
    """The workflow's own conversation."""
    return checked(names.check_topic, f"{group}/{name}")


def conversation_of(home: str, id: str) -> str:
    """The conversation of an instance.

    Raises:
        InvalidName: the id is outside the grammar of a topic's segment.
    """
    if "/" in id:
        raise InvalidName(f"bad instance {id[:80]!r}: it is one segment of a topic, without `/`")
    return checked(names.check_topic, f"{home}/{id}")


def answers_of(home: str) -> str:
    """Where handlers answer."""
    group, _, name = home.partition("/")
    return f"{group}/_workflow/{name}"


def tasks_of(group: str, handler: str) -> str:
    """The tasks of a handler."""
    return checked(names.check_topic, f"{group}/_tasks/{handler}")


def instance_key(id: str) -> str:
    """Where an instance stands."""
    return f"{INSTANCES}/{id}"


def model_key(digest: str) -> str:
    """Where a declaration stands."""
    return f"{MODELS}/{digest}"


def due_key(at: float | None, id: str) -> str:
    """When something happens to an instance (None: never by itself): in the order of these keys."""
    return f"{DUES}/{_NEVER if at is None else max(0, round(at * 1000)):0{_DIGITS}d}/{id}"


def due_of(key: str) -> tuple[float, str] | None:
    """The time and the instance of such a key; None if it is none."""
    parts = key.split("/")
    if len(parts) != 3 or not parts[1].isdecimal():
        return None
    return int(parts[1]) / 1000, parts[2]
