"""Where settings come from, and what is said when they are wrong.

A value is looked up in this order, and the first that has one wins:

    command line  >  environment (HUBBUB_<NAME>)  >  TOML file (--config or HUBBUB_CONFIG)  >  default

A wrong value, or a setting that does not exist, is refused at the start; each refusal is one line that names the
setting, what was given, where it came from and what is allowed.
"""

import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from .config import Settings
from .policy_rule import PolicyRule
from .setting import SECRET_SHOWN, Table, brief, complaint, extra_of

ENV_PREFIX = "HUBBUB_"
CONFIG_VARIABLE = "HUBBUB_CONFIG"
DEFAULT_SOURCE = "default"

OTHER_VARIABLES = frozenset({CONFIG_VARIABLE, "HUBBUB_URL", "HUBBUB_AGENT", "HUBBUB_TOKEN", "HUBBUB_CONTROL"})
"""Variables of the command and of clients: no settings, and no mistakes either."""

OTHER_PREFIXES = ("HUBBUB_TEST_", "HUBBUB_BENCH_", "HUBBUB_DEMO_", "HUBBUB_SERVICE_", "HUBBUB_PORT_")
"""Variables of tests and benchmarks, and those that container platforms set for a service called `hubbub`."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One wrong setting, as one line: `port = 99999 (HUBBUB_PORT): must be 0 to 65535`."""

    setting: str
    given: str
    source: str
    message: str

    def __str__(self) -> str:
        value = f" = {self.given}" if self.given else ""
        source = f" ({self.source})" if self.source else ""
        return f"{self.setting}{value}{source}: {self.message}"


class ConfigError(Exception):
    """The settings can't be used. `problems` has one entry for each thing that is wrong."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings together with where each value that is not a default came from, in words."""

    settings: Settings
    sources: Mapping[str, str]
    file: Path | None = None

    def source_of(self, name: str) -> str:
        """Where the value of setting `name` came from: an option, a variable, a file, or `default`."""
        return self.sources.get(name, DEFAULT_SOURCE)


def load(
    file: Path | None = None,
    *,
    given: Mapping[str, Any] | None = None,
    given_by: Mapping[str, str] | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Loaded:
    """The settings in force.

    Args:
        file: a TOML file. Without one, the file that `HUBBUB_CONFIG` names, if any.
        given: values from the command line by setting, those that were not given left out or None.
        given_by: the option that gave each of them, for error messages.
        environ: the environment. An empty variable counts as not set.

    Raises:
        ConfigError: if the file can't be read, a setting is unknown, or a value is not allowed.
    """
    if file is None and environ.get(CONFIG_VARIABLE):
        file = Path(environ[CONFIG_VARIABLE])
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for name, value in (_read_file(file) if file else {}).items():
        values[name], sources[name] = value, str(file)
    for name, value in _read_environment(environ).items():
        values[name], sources[name] = value, ENV_PREFIX + name.upper()
    for name, value in (given or {}).items():
        if value is not None:
            values[name], sources[name] = value, (given_by or {}).get(name, "--" + name.replace("_", "-"))
    try:
        return Loaded(Settings.model_validate(values), sources, file)
    except ValidationError as error:
        raise ConfigError([_problem(detail, values, sources) for detail in error.errors()]) from None


def _read_file(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        message = f"can't read it: {error.strerror or error}"
    except UnicodeDecodeError:
        message = "is not UTF-8 text"
    except tomllib.TOMLDecodeError as error:
        message = f"is not valid TOML: {error}"
    raise ConfigError([Problem(f"settings file {file}", "", "", message)])


def _read_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for variable, text in environ.items():
        if not variable.startswith(ENV_PREFIX) or not text:
            continue
        if variable in OTHER_VARIABLES or variable.startswith(OTHER_PREFIXES):
            continue
        name = variable.removeprefix(ENV_PREFIX).lower()
        values[name] = _read_policy(text) if name == "policy" else text
    return values


def _read_policy(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        message = f"is not valid JSON ({error}); a list of objects is wanted, such as " + '[{"pattern": "x/*"}]'
    raise ConfigError([Problem("policy", "", ENV_PREFIX + "POLICY", message)])


def _problem(detail: Any, values: Mapping[str, Any], sources: Mapping[str, str]) -> Problem:
    """One of pydantic's complaints, in our words."""
    path = detail["loc"]
    if detail["type"] == "together":
        setting = detail["ctx"]["setting"]
        name = setting.partition(" ")[0]
        given = "" if name == "policy" else _shown(name, values.get(name, Settings.model_fields[name].default))
        return Problem(setting, given, sources.get(name, DEFAULT_SOURCE), detail["ctx"]["message"])
    name = str(path[0])
    table: type[Table] = Settings
    setting = name
    if name == "policy" and len(path) > 1:
        table, setting = PolicyRule, f"policy #{int(path[1]) + 1}"
        if len(path) > 2:
            setting += f" {path[2]}"
    given = _shown(name, detail["input"])
    return Problem(setting, given, sources.get(name, ""), complaint(detail, table, str(path[-1])))


def _shown(name: str, value: Any) -> str:
    """What was given, unless it is a secret: what is named like one is taken for a secret whose name was misspelt."""
    field = Settings.model_fields.get(name)
    if field is None:
        secret = any(word in name.lower() for word in ("token", "tokn", "secret", "key", "pass"))
    else:
        secret = bool(extra_of(field).get("secret"))
    return SECRET_SHOWN if secret else brief(value)
