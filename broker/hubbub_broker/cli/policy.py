"""`hubbub policy`: what holds for which topics, changed while the broker runs."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from .asking import confirmed
from .documents import IfVersion, Limit, Note, change, read_json, show, show_history, tell_skipped
from .exit_code import ExitCode, Failure, ends_well
from .http import get, post
from .options import DEFAULT_URL, AgentName, AsJson, Timeout, Token, Url, Yes
from .output import compact, emit, note, printable, table
from .when import when

PATH = "/v1/control/policies"

Name = Annotated[str, typer.Argument(help="What the policy is called.")]


@ends_well
def policy_list(as_json: AsJson = False, url: Url = DEFAULT_URL, token: Token = None, timeout: Timeout = 10.0) -> None:
    """List the policies in force: those set at run time, first those that win, then the rules of the broker's settings.

    Of the run-time policies that match a topic the first lies over the rule: what it leaves out, the rule says.

    Examples:
      hubbub policy list
      hubbub policy list --json | jq .policies
    """
    found = get(url, "/v1/policies", {}, timeout, token)
    if as_json:
        emit(json.dumps(found))
        return
    rows = [
        (
            each["name"],
            each["pattern"],
            str(each["priority"]),
            str(each["version"]),
            _settings(each["settings"]),
            printable(each["by"] or "-"),
            when(each["at"] or 0.0),
        )
        for each in found["policies"]
    ]
    rows += [("(rule)", each["pattern"], "-", "-", "", "settings", "-") for each in found["rules"]]
    table(("policy", "pattern", "priority", "version", "settings", "by", "when"), rows)
    tell_skipped(found["skipped"])


@ends_well
def policy_show(
    name: Name, as_json: AsJson = False, url: Url = DEFAULT_URL, token: Token = None, timeout: Timeout = 10.0
) -> None:
    """Show a policy as it was written, with who set it, when and why.

    Examples:
      hubbub policy show keep-research
    """
    show(get(url, f"{PATH}/{name}", {}, timeout, token), "policy", as_json)


@ends_well
def policy_set(
    name: Name,
    pattern: Annotated[str | None, typer.Argument(help="Topics that it is for: `research/**`, say.")] = None,
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="SETTING=VALUE", help="What it says: `max_age=30d`, say.")
    ] = None,
    priority: Annotated[int | None, typer.Option("--priority", "-p", help="The highest that matches wins.")] = None,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="All of it, as JSON; `-` is standard input.")
    ] = None,
    attempt: Annotated[
        list[str] | None,
        typer.Option("--try", metavar="TOPIC", help="Set nothing: show what it would change for this topic."),
    ] = None,
    if_version: IfVersion = None,
    why: Note = None,
    as_json: AsJson = False,
    agent: AgentName = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    timeout: Timeout = 10.0,
) -> None:
    """Set a policy, a new one or in place of one. It holds for the next message after that.

    What may be set is what a [[policy]] table of the settings file may have: `hubbub config --reference`.

    Examples:
      hubbub policy set keep-research 'research/**' max_age=90d
      hubbub policy set no-storms 'chat/**' sender_rate=5 sender_burst=20 -p 10 -m 'after the loop of Tuesday'
      hubbub policy set no-storms 'chat/**' sender_rate=1 --try chat/main
    """
    policy = _policy(pattern, settings or [], priority, file)
    if attempt:
        body = {"name": name, "policy": policy, "topics": attempt}
        _show_trial(post(url, "/v1/policies/test", body, timeout, token), as_json)
        return
    made = change(
        "PUT",
        f"{PATH}/{name}",
        policy,
        agent=agent,
        why=why,
        version=if_version,
        url=url,
        token=token,
        timeout=timeout,
    )
    emit(json.dumps(made) if as_json else f"{name} version {made['version']}")


@ends_well
def policy_drop(
    name: Name,
    if_version: IfVersion = None,
    why: Note = None,
    yes: Yes = False,
    agent: AgentName = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    timeout: Timeout = 10.0,
) -> None:
    """Take a policy out. From the next message on its topics go by what is below it.

    Examples:
      hubbub policy drop no-storms --yes
    """
    if not yes:
        confirmed(f"Drop the policy {name}?")
    change(
        "DELETE",
        f"{PATH}/{name}",
        None,
        agent=agent,
        why=why,
        version=if_version,
        url=url,
        token=token,
        timeout=timeout,
    )
    note(f"{name} is dropped")


@ends_well
def policy_test(
    topic: Annotated[str, typer.Argument(help="The topic; it need not exist.")],
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    timeout: Timeout = 10.0,
) -> None:
    """Show what holds for a topic, setting by setting, and which policy or rule says so.

    Examples:
      hubbub policy test research/conv-42
      hubbub policy test research/conv-42 | grep max_age
    """
    verdict = get(url, "/v1/policies/test", {"topic": topic}, timeout, token)
    if as_json:
        emit(json.dumps(verdict))
        return
    rows = [(name, _shown(name, each["value"]), each["source"]) for name, each in verdict["settings"].items()]
    table(("setting", "value", "from"), rows)


@ends_well
def policy_history(
    name: Name,
    limit: Limit = 50,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    timeout: Timeout = 10.0,
) -> None:
    """List who set or dropped a policy, when, to what and why; newest first, as far back as the log keeps it.

    Examples:
      hubbub policy history no-storms
    """
    show_history(f"{PATH}/{name}", "policy", limit, as_json, url, token, timeout)


def _policy(pattern: str | None, settings: list[str], priority: int | None, file: Path | None) -> Any:
    if file is not None:
        if pattern is not None or settings or priority is not None:
            raise Failure("--file has all of it: leave out PATTERN, SETTING=VALUE and --priority", ExitCode.USAGE)
        return read_json(file)
    if pattern is None:
        raise Failure("name a PATTERN, or a --file", ExitCode.USAGE)
    policy: dict[str, Any] = {"pattern": pattern}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise Failure(f"{setting!r}: SETTING=VALUE is wanted, such as max_age=30d", ExitCode.USAGE)
        policy[name] = _value(value)
    return policy if priority is None else {**policy, "priority": priority}


def _value(text: str) -> Any:
    """`30d` and `5` and `false`."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _settings(settings: dict[str, Any]) -> str:
    return " ".join(f"{name}={_shown(name, value)}" for name, value in settings.items())


def _shown(name: str, value: Any) -> str:
    """A value as it is written in a file: `30d`, `1MiB`."""
    from hubbub_broker.policy_rule import PolicyRule
    from hubbub_broker.setting import show

    field = PolicyRule.model_fields.get(name)
    return compact(value) if field is None else show(field, value).strip('"')


def _show_trial(outcome: dict[str, Any], as_json: bool) -> None:
    for each in outcome["topics"]:
        if as_json:
            emit(json.dumps(each))
            continue
        before, after = each["before"]["settings"], each["after"]["settings"]
        for name in each["changed"]:
            was, becomes = (_shown(name, side[name]["value"]) for side in (before, after))
            emit(f"{each['after']['topic']} {name}: {was} becomes {becomes} ({after[name]['source']})")
        if not each["changed"]:
            emit(f"{each['after']['topic']}: nothing changes")
