"""Who reads what: conversations, their members, and the stretch of text that each conversation works through."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .contents import Span, Task
from .corpus import Corpus, title_of
from .roles import expected_messages

MEMBERS_MIN = 3
"""A researcher, an analyst, a synthesizer."""

CONVERSATIONS_PER_GROUP = 10
"""A group is what a shard serves; twenty groups spread over all shards of a broker."""

PIECE_BYTES_MAX = 800
PIECE_BYTES_MIN = 200
"""Bytes in a piece of text: a few paragraphs at most, a few sentences at least."""

PIECES_MIN = 4
"""Pieces that a conversation should have; pieces get smaller where there is little text."""


class TooLittleText(Exception):
    """The text does not suffice for the conversations that are wanted. `str` of it is for the user."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """A topic, its members by role, and what they read."""

    topic: str
    researchers: tuple[str, ...]
    analysts: tuple[str, ...]
    synthesizer: str
    task: Task

    @property
    def members(self) -> tuple[str, ...]:
        """Everyone in it."""
        return (*self.researchers, *self.analysts, self.synthesizer)

    @property
    def pieces(self) -> int:
        """How many pieces of text there are to read."""
        return sum(1 for _ in pieces_of(self.task))

    @property
    def messages(self) -> int:
        """How many messages it will have."""
        return expected_messages(self.pieces, len(self.researchers), len(self.analysts))

    def researchers_of(self, analyst: str) -> frozenset[str]:
        """Whose findings an analyst works on: each researcher has one analyst."""
        return frozenset(self.researchers[self.analysts.index(analyst) :: len(self.analysts)])


def pieces_of(task: Task) -> Iterator[tuple[str, int, int]]:
    """File, first byte and end of each piece of a task, in order."""
    size = task["piece_bytes"]
    for span in task["spans"]:
        for start in range(span["start"], span["end"], size):
            yield span["file"], start, min(start + size, span["end"])


def convene(corpus: Corpus, *, agents: int, conversations: int) -> list[Conversation]:
    """Divide the text evenly among conversations, and the agents too.

    Raises:
        TooLittleText: saying how many conversations it would do for.
    """
    size = corpus.size
    if size < conversations * PIECE_BYTES_MIN:
        fit = size // PIECE_BYTES_MIN
        advice = (
            f"--conversations {fit} --agents {fit * (agents // conversations)}, or a larger folder" if fit else "more"
        )
        raise TooLittleText(
            f"{corpus.folder} holds {size} bytes of text in {len(corpus.files)} files, which is too little for "
            f"{conversations} conversations to read ({PIECE_BYTES_MIN} bytes each at least); try {advice}"
        )
    piece_bytes = max(PIECE_BYTES_MIN, min(PIECE_BYTES_MAX, size // (conversations * PIECES_MIN)))
    return [
        _conversation(number, corpus, piece_bytes, agents=agents, conversations=conversations)
        for number in range(conversations)
    ]


def spans(corpus: Corpus, first: int, end: int) -> list[Span]:
    """The stretch from byte `first` to `end` of all files laid end to end."""
    found: list[Span] = []
    offset = 0
    for file in corpus.files:
        start, stop = max(first - offset, 0), min(end - offset, file.size)
        if start < stop:
            found.append({"file": file.path, "start": start, "end": stop})
        offset += file.size
    return found


def split_roles(members: int) -> tuple[int, int]:
    """How many researchers and analysts there are among so many members; one more is the synthesizer."""
    analysts = (members - 1) // 2
    return members - 1 - analysts, analysts


def _conversation(number: int, corpus: Corpus, piece_bytes: int, *, agents: int, conversations: int) -> Conversation:
    share = corpus.size * number // conversations, corpus.size * (number + 1) // conversations
    stretch = spans(corpus, *share)
    members = agents * (number + 1) // conversations - agents * number // conversations
    researchers, analysts = split_roles(members)
    task: Task = {
        "title": title_of([span["file"] for span in stretch]),
        "spans": stretch,
        "piece_bytes": piece_bytes,
    }
    label = f"{number + 1:03d}"
    return Conversation(
        topic=f"desk-{number // CONVERSATIONS_PER_GROUP + 1:02d}/reading-{label}",
        researchers=tuple(f"researcher-{label}-{k + 1}" for k in range(researchers)),
        analysts=tuple(f"analyst-{label}-{k + 1}" for k in range(analysts)),
        synthesizer=f"synthesizer-{label}",
        task=task,
    )


def conversation_of(fields: dict[str, Any]) -> Conversation:
    """A conversation that was written as JSON (`dataclasses.asdict`)."""
    lists = {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
    return Conversation(**{**fields, **lists})
