"""What filters mean, spelt out without regard to speed: a message as parsed JSON, a `where`, a `select`."""

from typing import Any

Line = dict[str, Any]

ABSENT = object()

ALWAYS = ("hops", "cause", "vc", "attachments", "in_reply_to", "reply_durably")
"""Headers that come whatever is selected."""


def steps_of(path: str) -> list[str]:
    if path.startswith("/"):
        return [step.replace("~1", "/").replace("~0", "~") for step in path.split("/")[1:]]
    return path.split(".")


def found_at(line: Line, path: str) -> list[Any]:
    """Every value that a path stands for."""
    found: list[Any] = [line]
    for step in steps_of(path):
        found = [item[step] for value in found for item in spread(value) if isinstance(item, dict) and step in item]
    return [each for value in found for each in ([value, *value] if isinstance(value, list) else [value])]


def spread(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def same(one: Any, other: Any) -> bool:
    if number(one) and number(other):
        return bool(one == other)
    return type(one) is type(other) and isinstance(one, str | bool | None) and one == other


def ordered(one: Any, other: Any, operator: str) -> bool:
    if not (number(one) and number(other)) and not (isinstance(one, str) and isinstance(other, str)):
        return False
    return {"<": one < other, "<=": one <= other, ">": one > other, ">=": one >= other}[operator]


def holds(line: Line, path: str, operator: str, wanted: Any) -> bool:
    found = found_at(line, path)
    match operator:
        case "==":
            return any(same(value, wanted) for value in found)
        case "!=":
            return not any(same(value, wanted) for value in found)
        case "in":
            return any(same(value, each) for value in found for each in wanted)
        case "exists":
            return bool(found) == wanted
        case "prefix":
            return any(isinstance(value, str) and value.startswith(wanted) for value in found)
        case _:
            return any(ordered(value, wanted, operator) for value in found)


def matches(line: Line, where: Any) -> bool:
    """Whether a message (without payload: bytes are no data to look into) is wanted."""
    results = []
    for name, test in (where or {}).items():
        if name == "all":
            results.append(all(matches(line, each) for each in test))
        elif name == "any":
            results.append(any(matches(line, each) for each in test))
        elif name == "not":
            results.append(not matches(line, test))
        else:
            tests = test if isinstance(test, dict) else {"==": test}
            results += [holds(line, name, operator, wanted) for operator, wanted in tests.items()]
    return all(results)


def cut(line: Line, select: list[str] | None) -> Line:
    """What of a wanted message comes."""
    if select is None:
        return line
    paths = [steps_of(path) for path in select]
    result = {name: value for name, value in line.items() if name not in ("headers", "data", "payload")}
    for root in ("headers", "data"):
        below = [path[1:] for path in paths if path[0] == root]
        if root == "headers":
            part = cut_value(line[root], [*below, *([name] for name in ALWAYS)]) if root in line else ABSENT
            if part is not ABSENT and (below or part):
                result[root] = part
        elif below and root in line:
            part = cut_value(line[root], below)
            if part is not ABSENT:
                result[root] = part
    if "payload" in line and ["data"] in paths:
        result["payload"] = line["payload"]
    return result


def cut_value(value: Any, paths: list[list[str]]) -> Any:
    if any(not path for path in paths):
        return value
    if isinstance(value, list):
        return [cut_value(each, paths) for each in value if isinstance(each, dict)]
    if not isinstance(value, dict):
        return ABSENT
    result = {}
    for name in {path[0] for path in paths}:
        if name in value:
            part = cut_value(value[name], [path[1:] for path in paths if path[0] == name])
            if part is not ABSENT:
                result[name] = part
    return result
