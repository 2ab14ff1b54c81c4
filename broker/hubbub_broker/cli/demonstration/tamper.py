"""Faults put into the records before they are counted: the proof, for anyone who asks for it, that the count counts."""

from collections.abc import Callable

from .witness import Statement


def lose(statement: Statement) -> None:
    """Strike out the message in the middle."""
    middle = len(statement["seqs"]) // 2
    del statement["seqs"][middle]
    del statement["ids"][middle]


def duplicate(statement: Statement) -> None:
    """Write down the message in the middle once more."""
    middle = len(statement["seqs"]) // 2
    statement["seqs"].insert(middle, statement["seqs"][middle])
    statement["ids"].insert(middle, statement["ids"][middle])


def swap(statement: Statement) -> None:
    """Let the message in the middle and the one before it change places."""
    middle = len(statement["seqs"]) // 2
    statement["seqs"].insert(middle - 1, statement["seqs"].pop(middle))
    statement["ids"].insert(middle - 1, statement["ids"].pop(middle))


TAMPERS: dict[str, Callable[[Statement], None]] = {"lost": lose, "duplicated": duplicate, "out-of-order": swap}
"""By the anomaly that each must show up as."""
