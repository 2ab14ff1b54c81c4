"""What is wrong with a declaration. All of it at once, in sentences for whoever wrote it."""

import math
import re
from collections import deque
from collections.abc import Iterator, Mapping

from hubbub_protocol.limits import SEGMENT_CHARS_MAX

from .declaration import BUILT_IN, CANCEL, CANCELLED, DONE, FAILED, PAUSE, RESUME, RETRY, START, STUCK, TIMEOUT, State

NAME_CHARS_MAX = 64
"""Names stand in topics and keys, beside others."""

STATES_MAX = 200
RETRIES_MAX = 1_000
SECONDS_MAX = 366 * 86_400.0

_is_name = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_\-]{{0,{NAME_CHARS_MAX - 1}}}").fullmatch
_is_handler = re.compile(
    rf"(?:agent:[A-Za-z0-9._\-~@:=+]{{1,{SEGMENT_CHARS_MAX - 6}}}"
    rf"|capability:[A-Za-z0-9._\-~@=+]{{1,{SEGMENT_CHARS_MAX - 11}}}"
    rf"|[A-Za-z0-9][A-Za-z0-9._\-]{{0,{NAME_CHARS_MAX - 1}}})"
).fullmatch

TAKEN = (START, STUCK, CANCEL, RETRY, PAUSE, RESUME)
"""Causes that are not of a handler's making: no outcome may be called so."""

ENDS = (FAILED, CANCELLED)
"""The ends that every workflow has by itself, and that a transition may lead to."""


def is_name(text: str) -> bool:
    """Whether a workflow or a state may be called so."""
    return _is_name(text) is not None


def is_handler(text: str) -> bool:
    """Whether it says who handles something: `NAME`, `agent:NAME` or `capability:NAME`."""
    return _is_handler(text) is not None


def problems_of(name: str, states: Mapping[str, State], initial: str, keep: float = 0.0) -> list[str]:
    """Everything that is wrong. Nothing, if the declaration can be used."""
    found: list[str] = []
    if not is_name(name):
        found.append(f"its name is {name[:80]!r}: 1 to {NAME_CHARS_MAX} letters, digits, _ and -, no _ or - first")
    if not (math.isfinite(keep) and 0 <= keep <= SECONDS_MAX):
        found.append(f"keep is {keep}: seconds, 0 to a year")
    if not states:
        return [*found, "it has no states"]
    if len(states) > STATES_MAX:
        found.append(f"it has {len(states)} states: {STATES_MAX} at most")
    if initial not in states:
        found.append(f"its initial state is {initial!r}, which is not one of its states ({', '.join(states)})")
    for state_name, state in states.items():
        found += [f"state {state_name}: {problem}" for problem in _of_state(state_name, state, states)]
    if not found:  # only of a graph whose names are all known
        found += _of_graph(states, initial)
    return found


def _of_state(name: str, state: State, states: Mapping[str, State]) -> Iterator[str]:
    if name in BUILT_IN:
        yield "every workflow has a state of that name by itself; take another name"
    elif not is_name(name):
        yield f"a name is 1 to {NAME_CHARS_MAX} letters, digits, _ and -, no _ or - first"
    for cause, target in (*state.on.items(), *((f"message {type}", to) for type, to in state.messages.items())):
        if target not in states and target not in ENDS:
            yield f"{cause} leads to {target!r}, which is not a state"
    for handler in (*state.handlers, *(() if state.compensate is None else (state.compensate,))):
        if not is_handler(handler):
            yield f"{handler[:80]!r} is no handler: NAME, agent:NAME or capability:NAME"
    if len(set(state.handlers)) < len(state.handlers):
        yield "one handler is named twice"
    yield from _of_numbers(state)
    if state.end:
        yield from _of_end(state)
    elif state.handlers:
        yield from _of_work(state)
    else:
        yield from _of_waiting(state)


def _of_end(state: State) -> Iterator[str]:
    if state.handlers or state.on or state.messages or state.timeout is not None or state.compensate is not None:
        yield "an end has no handler, no transitions, no timeout and nothing to compensate"


def _of_work(state: State) -> Iterator[str]:
    if DONE not in state.on:
        yield "it has a handler, and `on` does not say where to go when that is `done`"
    if TIMEOUT in state.on and state.timeout is None:
        yield "`on` says where to go by `timeout`, and there is no timeout"
    if state.each is not None and len(state.handlers) > 1:
        yield "`each` goes with one handler; divide the state in two"
    if state.each is not None and not all(state.each.split(".")):
        yield f"each is {state.each!r}: names with dots between them, such as research.findings"
    if state.join is not None and state.each is None and not 1 <= state.join <= len(state.handlers):
        yield f"join is {state.join}: 1 to {len(state.handlers)}, which is how many tasks there are"
    if state.join is not None and state.each is not None and state.join < 1:
        yield f"join is {state.join}: 1 or more"
    for reserved in TAKEN:
        if reserved in state.on:
            yield f"`on` names {reserved!r}: that word has a meaning of its own, and is no outcome"
    for outcome in state.on:
        if not is_name(outcome):
            yield f"{outcome[:80]!r} is no name of an outcome"


def _of_waiting(state: State) -> Iterator[str]:
    for outcome in state.on:
        if outcome != TIMEOUT:
            yield f"`on` names {outcome!r}, and without a handler only a `timeout` can happen"
    if TIMEOUT in state.on and state.timeout is None:
        yield "`on` says where to go by `timeout`, and there is no timeout"
    if not state.messages and state.timeout is None:
        yield "nothing ever leads on from it: give it a handler, messages, a timeout, or end = true"
    if state.each is not None or state.join is not None or state.retries or state.attempt_timeout is not None:
        yield "each, join, retries and attempt_timeout go with a handler"
    if state.compensate is not None:
        yield "compensate goes with a handler: where nothing is done, nothing can be undone"


def _of_numbers(state: State) -> Iterator[str]:
    for name, seconds in (("timeout", state.timeout), ("attempt_timeout", state.attempt_timeout)):
        if seconds is not None and not (math.isfinite(seconds) and 0 < seconds <= SECONDS_MAX):
            yield f"{name} is {seconds}: seconds, more than 0 and at most a year"
    if not 0 <= state.retries <= RETRIES_MAX:
        yield f"retries is {state.retries}: 0 to {RETRIES_MAX}"
    if not state.backoff or not all(0 <= seconds <= SECONDS_MAX for seconds in state.backoff):
        yield "backoff is one number of seconds or more, none below 0"


def _of_graph(states: Mapping[str, State], initial: str) -> list[str]:
    onward = {name: {*state.on.values(), *state.messages.values()} for name, state in states.items()}
    reached = _reach({initial}, onward)
    found = [f"state {name} can't be reached from {initial}" for name in states if name not in reached]
    backward: dict[str, set[str]] = {name: set() for name in (*states, *ENDS)}
    for name, targets in onward.items():
        for target in targets:
            backward[target].add(name)
    # A time-out that leads nowhere else leads to FAILED: that is an end too.
    ends = {name for name, state in states.items() if state.end or (state.timeout and TIMEOUT not in state.on)}
    ending = _reach({*ends, *ENDS}, backward)
    found += [f"state {name}: there is no way from it to an end" for name in states if name not in ending]
    return found


def _reach(begin: set[str], edges: Mapping[str, set[str]]) -> set[str]:
    reached, waiting = set(begin), deque(begin)
    while waiting:
        for name in edges.get(waiting.popleft(), ()):
            if name not in reached:
                reached.add(name)
                waiting.append(name)
    return reached
