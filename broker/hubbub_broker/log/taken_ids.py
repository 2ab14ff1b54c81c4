"""Ids of messages that retention took: what comes a second time is still known for it, over restarts too.

When a segment goes, the pairs of hash and seq that are still remembered are appended as states of the log's own, a few
hundred in each. As any state they are carried on when their segment goes in turn, but for those whose time is over or
that were forgotten meanwhile. So they are never more than `dedup_entries` and `dedup_window` let be remembered.

    key     u64 segment (big-endian), u32 number
    body    f64 when the newest of that segment's messages was sequenced, u64 hashes, u64 seqs
"""

from array import array
from collections.abc import Callable, Iterator
from struct import Struct

from hubbub_broker.kinds import StateKind

KIND = StateKind.TAKEN_IDS
PAIRS_MAX = 256
_KEY = Struct(">QI")
_TIME = Struct("<d")

Ids = tuple["array[int]", "array[int]"]
"""Hashes, and the seq that each got."""
Seq = Callable[[int], int]
"""The seq that a hash is remembered to have got, 0 if it is not."""


def taken(segment: int, ts: float, ids: Ids, seq_of: Seq) -> Iterator[tuple[bytes, bytes]]:
    """Key and body of each state that keeps what is still remembered of a segment's ids."""
    for number, start in enumerate(range(0, len(ids[0]), PAIRS_MAX)):
        hashes, seqs = ids[0][start : start + PAIRS_MAX], ids[1][start : start + PAIRS_MAX]
        body = _body(ts, hashes, seqs, seq_of)
        if body:
            yield _KEY.pack(segment, number), body


def carried(body: bytes, oldest: float, seq_of: Seq) -> bytes:
    """What of such a state is worth carrying on; empty if nothing is."""
    ts, (hashes, seqs) = ids_in(body)
    return _body(ts, hashes, seqs, seq_of) if ts >= oldest else b""


def ids_in(body: bytes) -> tuple[float, Ids]:
    """What such a state tells."""
    (ts,) = _TIME.unpack_from(body)
    half = (len(body) - _TIME.size) // 2
    hashes, seqs = array("Q"), array("Q")
    hashes.frombytes(body[_TIME.size : _TIME.size + half])
    seqs.frombytes(body[_TIME.size + half :])
    return ts, (hashes, seqs)


def _body(ts: float, hashes: "array[int]", seqs: "array[int]", seq_of: Seq) -> bytes:
    live = [(key, seq) for key, seq in zip(hashes, seqs, strict=True) if seq_of(key) == seq]
    if not live:
        return b""
    return _TIME.pack(ts) + array("Q", [key for key, _ in live]).tobytes() + array("Q", [n for _, n in live]).tobytes()
