"""What a log that was just opened still knows: the ids that it has seen lately, and how late it was."""

from collections.abc import Iterator

from .errors import LogDamaged
from .index import MemoryIndex
from .meta import ShardMeta
from .segment import Shelf
from .standings import Standings
from .taken_ids import KIND, Ids, ids_in


def recent_ids(shelf: Shelf, standings: Standings, active: MemoryIndex, wanted: int, oldest: float) -> Iterator[Ids]:
    """The ids of the active segment, of the sealed ones before it, and of those that retention took, the oldest first.

    As far back as there are `wanted` ids, or until a segment whose last message is older than `oldest`.
    """
    pairs = [(active.dedup_hashes, active.dedup_seqs)]
    count = len(active.dedup_hashes)
    for segment in reversed(shelf.segments.values()):
        if count >= wanted:
            break
        if segment.index is not None:
            continue
        try:
            sidecar = shelf.sidecar(segment)
            if sidecar.last_ts < oldest and sidecar.records:
                break
            hashes, seqs = sidecar.dedup()
        except LogDamaged as error:
            shelf.repair(segment, str(error))
            hashes, seqs = shelf.sidecar(segment).dedup()
        pairs.append((hashes[-wanted:], seqs[-wanted:]))
        count += len(pairs[-1][0])
    for _, body in sorted(standings.states(KIND, b""), reverse=True) if count < wanted else ():
        ts, (hashes, seqs) = ids_in(body)
        if count >= wanted or ts < oldest:
            break
        pairs.append((hashes, seqs))
        count += len(hashes)
    return reversed(pairs)


def newest_time(shelf: Shelf, active: MemoryIndex, meta: ShardMeta) -> float:
    """When the newest message was sequenced, or the log closed: nothing may get an earlier time.

    Times never run backwards in a shard, so the newest segment that has a message tells.
    """
    newest = max(active.newest_ts, meta.clean_time)
    for segment in reversed(shelf.segments.values()):
        last: float = 0.0 if segment.index is not None else shelf.sidecar(segment).last_ts
        if last:
            return max(newest, last)
    return newest
