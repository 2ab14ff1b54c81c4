"""Policies and schemas changed at random, between publishes, syncs and crashes, against a model.

Promises: each message is judged by exactly what was answered before it, whichever of its topics are in memory; what was
answered is in force after a crash, and what was not is so whole or not at all.
"""

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.shard_site import ShardSite
from hubbub_broker.policy import Override
from hubbub_broker.rules import KEPT_IN, Rules
from hubbub_broker.schema import Schemas
from hubbub_protocol.names import matcher

SMALL = 400
TASK = {"type": "object", "required": ["task"]}
TOPICS = ["g/c", "g/c", "g/@joe", "h/c"]

policies = st.builds(
    lambda pattern, priority, fields: {"policy": {"pattern": pattern, "priority": priority, **fields}},
    st.sampled_from(["g/**", "g/c", "*/c", "**"]),
    st.integers(-1, 1),
    st.sampled_from([{"durable": False}, {"durable": True}, {"max_message": SMALL}, {"schemas": "count"}]),
)
change = st.fixed_dictionaries(
    {},
    optional={
        "policy/a": st.none() | policies,
        "policy/b": st.none() | policies,
        "schema/g/task": st.none() | st.just({"schema": TASK}),
    },
).filter(bool)
message = st.tuples(st.sampled_from(TOPICS), st.booleans(), st.booleans(), st.booleans())
"""Topic, whether it is large, whether it has the type, whether it fits."""
step = st.one_of(
    st.tuples(st.just("change"), change),
    st.tuples(st.just("publish"), message),
    st.tuples(st.sampled_from(["sync", "settle", "settle", "let go", "crash"]), st.none()),
)


class Site:
    """A shard with its rules, a boss who changes them, and joe who publishes."""

    def __init__(self, directory: Path) -> None:
        self.site = ShardSite(directory, topics_in_memory=1)
        self.model: dict[str, Any] = {}
        """What was answered."""
        self.asked: list[dict[str, Any]] = []
        """Changes that are not answered yet, in their order."""
        self.stored: set[str] = set()
        """Messages that are to be answered with a seq."""
        self.count = 0
        self.open()

    def open(self) -> None:
        site = self.site
        self.rules = Rules(site.settings, site.settings.policies(), self.follow)
        site.loop.do(lambda: self.rules.serve(site.states))
        self.boss, self.joe = site.connect("boss"), site.connect("joe")
        site.settle()
        self.boss.take()
        self.joe.take()

    def follow(self, overrides: Any, schemas: Schemas) -> None:
        """As `broker.Broker` does."""
        chosen: list[Override] = list(overrides)
        self.site.shard.follow(self.site.settings.policies().with_overrides(chosen), schemas)
        for session in self.site.sessions.open:
            session.forget_publishers()

    def change(self, changes: dict[str, Any]) -> None:
        self.count += 1
        given = {key: value for key, value in changes.items() if value is not None}
        gone = [key for key, value in changes.items() if value is None]
        self.asked.append(changes)
        self.boss.request("change", topic=KEPT_IN, id=f"c{self.count}", set=given, delete=gone)
        self.hear()

    def hear(self) -> None:
        """Take in what was answered: changes in their order."""
        for line in self.boss.take():
            assert line["op"] == "ok", line
            _apply(self.model, self.asked.pop(0))
        for line in self.joe.take():
            assert line["op"] == "ok", line
            assert "seq" in line, line
            self.stored.remove(line["id"])
        assert sorted(self.rules.kept) == sorted(self.model)

    def publish(self, topic: str, large: bool, typed: bool, fits: bool) -> None:
        self.count += 1
        id = f"m{self.count}"
        data = ({"task": 1} if fits else {}) | ({"more": "x" * SMALL} if large else {})
        self.joe.request("pub", topic=topic, id=id, data=data, **({"type": "task"} if typed else {}))
        self.site.loop.turn()
        lines = self.joe.take()
        here = [line for line in lines if line["id"] == id]
        for line in lines:
            if line["id"] != id:  # of earlier ones
                self.stored.remove(line["id"])
        policy = self.policy_of(topic)
        misfit = typed and not fits and topic.startswith("g/") and "schema/g/task" in self.model
        if large and policy.get("max_message") == SMALL:
            assert [line.get("code") for line in here] == ["too_large"]
        elif misfit and policy.get("schemas") != "count":
            assert [line.get("code") for line in here] == ["bad_request"]
        elif policy.get("durable") is False:
            assert [(line["op"], "seq" in line) for line in here] == [("ok", False)]
        else:
            assert here == []
            self.stored.add(id)

    def policy_of(self, topic: str) -> dict[str, Any]:
        """The first that matches, by the model."""
        found = [(key, value["policy"]) for key, value in self.model.items() if key.startswith("policy/")]
        for _, policy in sorted(found, key=lambda each: (-each[1]["priority"], each[0])):
            if matcher(policy["pattern"])(topic):
                return dict(policy)
        return {}

    def crash(self) -> None:
        self.site.crash()
        self.site.reopen()
        self.open()
        self.stored.clear()
        after = dict(self.model)
        possible = [sorted(after)]
        outcomes = [dict(after)]
        for changes in self.asked:
            _apply(after, changes)
            possible.append(sorted(after))
            outcomes.append(dict(after))
        self.asked.clear()
        found = {key: {key.split("/")[0]: kept.document} for key, kept in self.rules.kept.items()}
        assert found in outcomes, possible
        self.model = found

    def do(self, name: str, what: Any) -> None:
        match name:
            case "change":
                self.change(what)
            case "publish":
                self.publish(*what)
            case "sync":
                self.site.sync()
                self.hear()
            case "settle":
                self.site.settle()
                self.hear()
            case "let go":
                self.site.tick(120.0)
            case "crash":
                self.crash()


def _apply(model: dict[str, Any], changes: dict[str, Any]) -> None:
    for key, value in changes.items():
        if value is None:
            model.pop(key, None)
        else:
            model[key] = value


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(step, min_size=10, max_size=30))
def test_each_message_goes_by_what_was_answered_before_it(steps: list[tuple[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        site = Site(Path(folder))
        try:
            for name, what in steps:
                site.do(name, what)
                site.site.raise_uncaught()
            site.do("settle", None)
            assert site.stored == set()
            assert site.asked == []
        finally:
            site.site.close()
