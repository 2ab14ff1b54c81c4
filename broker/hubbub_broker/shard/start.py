"""Where a subscription starts: the `from` of a `sub`, checked, and turned into a seq of a given topic."""

from dataclasses import dataclass

from hubbub_protocol.errors import BadFrame
from hubbub_protocol.frames import From, Gap
from hubbub_protocol.limits import LAMPORT_MAX

from .topic import Topic

_FORMS = '"new", "all", {"seq": N}, {"last": N}, {"since": TIME}'


@dataclass(frozen=True, slots=True)
class Start:
    """A checked `from`. Exactly one of the forms; `new` when none of the numbers is given and `all` is not set."""

    all: bool = False
    seq: int | None = None
    last: int | None = None
    since: float | None = None
    epoch: str | None = None
    after: dict[str, int] | None = None

    @classmethod
    def parse(cls, given: str | From) -> "Start":
        """Check what a client sent.

        Raises:
            BadFrame: naming the forms that are allowed.
        """
        if isinstance(given, str):
            if given in ("new", "all"):
                return cls(all=given == "all")
            raise BadFrame(f"`from` is one of {_FORMS}; got {given[:40]!r}")
        forms = [form for form in (given.seq, given.last, given.since) if form is not None]
        if len(forms) != 1:
            raise BadFrame(f"`from` is exactly one of {_FORMS}")
        if given.seq is not None and not 1 <= given.seq <= LAMPORT_MAX:
            raise BadFrame("`from.seq` is a seq, 1 or more")
        if given.last is not None and given.last < 0:
            raise BadFrame("`from.last` is a number of messages, 0 or more")
        if given.since is not None and not given.since >= 0:
            raise BadFrame("`from.since` is a time in seconds since the Unix epoch")
        if given.after is not None and min(given.after.values(), default=0) < 0:
            raise BadFrame("`from.after` has a seq for each topic, 0 or more")
        if given.after is not None and given.since is None:
            raise BadFrame("`from.after` goes with `from.since`")
        if given.epoch is not None and given.seq is None:
            raise BadFrame("`from.epoch` goes with `from.seq`")
        return cls(seq=given.seq, last=given.last, since=given.since, epoch=given.epoch, after=given.after)

    @property
    def is_new(self) -> bool:
        """Whether nothing of the past is asked for."""
        return not self.all and self.seq is None and self.last is None and self.since is None

    def in_topic(self, topic: Topic) -> tuple[int, Gap | None]:
        """The first seq to deliver, and the gap to tell of when the reader comes from another history.

        A reader that names another epoch gets all that there is. One that names none, but a seq that this history has
        not reached, can only have it from another one too: it is told so, and goes on with what is new.
        """
        next = topic.delivered + 1
        if self.seq is not None:
            if self.epoch is not None and self.epoch != topic.store.epoch:
                first = topic.store.first_seq(topic.log)
                lost = max(first - 1, self.seq - 1, 1)
                return min(first, next), Gap(topic=topic.name, first=1, last=lost, reason="reset")
            if self.seq > next:
                return next, Gap(topic=topic.name, first=next, last=self.seq - 1, reason="reset")
            return self.seq, None
        return self._by_rule(topic), None

    def in_pattern(self, topic: Topic) -> int:
        """The first seq to deliver of one of many topics."""
        if self.seq is not None:
            return min(self.seq, topic.delivered + 1)
        if self.after is not None and topic.name in self.after:
            return min(self.after[topic.name], topic.delivered) + 1
        return self._by_rule(topic)

    def _by_rule(self, topic: Topic) -> int:
        next = topic.delivered + 1
        if self.all:
            return min(topic.store.first_seq(topic.log), next)
        if self.last is not None:
            return max(next - self.last, min(topic.store.first_seq(topic.log), next))
        if self.since is not None:
            return min(topic.store.seq_at(topic.log, self.since), next)
        return next
