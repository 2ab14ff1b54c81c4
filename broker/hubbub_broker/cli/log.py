"""`hubbub log verify|stat|dump`: look into a data directory at rest. Nothing in it is changed."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .exit_code import ExitCode, Failure, ends_well
from .options import AsJson
from .output import emit, note, table

if TYPE_CHECKING:
    from hubbub_broker.log.inspect import Dumped, Report

Directory = Annotated[Path, typer.Argument(help="A data directory that no broker has open.")]


@ends_well
def log_verify(directory: Directory, as_json: AsJson = False) -> None:
    """Check every checksum, the seqs of every topic, and every index. Exit code 1 if anything is damaged.

    What a broker mends by itself when it opens the directory (a torn tail after a crash, a missing index) is noted,
    and no damage.

    Examples:
      hubbub log verify ./hubbub-data
      hubbub log verify ./hubbub-data --json | jq .problems
    """
    from hubbub_broker.log.inspect import verify

    with failing(directory):
        report = verify(directory)
    if as_json:
        emit(json.dumps({"ok": report.ok, **asdict(report)}))
    else:
        _show(report)
    if not report.ok:
        raise Failure(f"{len(report.problems)} problems in {directory}")


@ends_well
def log_stat(directory: Directory, as_json: AsJson = False) -> None:
    """Say how large each shard is, and from which segment to which it goes.

    Examples:
      hubbub log stat ./hubbub-data
    """
    from hubbub_broker.log.inspect import stat

    with failing(directory):
        found = stat(directory)
    if as_json:
        for shard in found:
            emit(json.dumps(asdict(shard)))
        return
    rows = [
        (
            shard.number,
            shard.epoch,
            shard.segments,
            shard.first_segment,
            shard.last_segment,
            shard.bytes,
            shard.sidecar_bytes,
        )
        for shard in found
    ]
    table(
        ("shard", "epoch", "segments", "first", "last", "bytes", "index bytes"),
        [[str(cell) for cell in row] for row in rows],
    )


@ends_well
def log_dump(
    directory: Directory,
    pattern: Annotated[
        str | None, typer.Argument(help="Only messages of these topics: `*` is one segment, a last `**` the rest.")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=1, help="Records at most.")] = None,
    at: Annotated[bool, typer.Option("--at", help="Say where each record is: SHARD/SEGMENT@OFFSET.")] = False,
) -> None:
    """Print the records as JSON, one a line, shard by shard: messages as subscribers get them.

    Damaged records are left out; `hubbub log verify` tells of them.

    Examples:
      hubbub log dump ./hubbub-data 'research/**'
      hubbub log dump ./hubbub-data --at --limit 10
    """
    from hubbub_broker.log.inspect import dump
    from hubbub_protocol.errors import BadName
    from hubbub_protocol.names import check_pattern

    if pattern is not None:
        try:
            check_pattern(pattern)
        except BadName as error:
            raise Failure(str(error), ExitCode.USAGE) from None
    with failing(directory):
        for dumped in dump(directory, pattern, limit):
            emit(_line(dumped, at))


@contextmanager
def failing(path: Path) -> Iterator[None]:
    """Turn what the log and the file system refuse into a `Failure`."""
    from hubbub_broker.log import LogError

    try:
        yield
    except LogError as error:
        raise Failure(str(error)) from None
    except BrokenPipeError:  # that is our own output, not the log
        raise
    except OSError as error:
        raise Failure(f"{error.filename or path}: {error.strerror or error}") from None


def _show(report: Report) -> None:
    counts = ("shards", "segments", "records", "messages", "topics", "bytes")
    table(counts, [[str(getattr(report, name)) for name in counts]])
    for remark in report.notes:
        note(f"note: {remark.file} at {remark.offset}: {remark.what}")
    for problem in report.problems:
        emit(f"damaged: {problem.file} at {problem.offset}: {problem.what}")


def _line(dumped: Dumped, at: bool) -> str:
    fields = _fields(dumped.record)
    if at:
        fields = {"at": f"{dumped.shard}/{dumped.segment}@{dumped.offset}", **fields}
    return json.dumps(fields, ensure_ascii=False)


def _fields(record: Any) -> dict[str, Any]:
    from hubbub_broker.log.record import Message, State

    if isinstance(record, Message):
        return _message(record.line, record.header_size, record.expires)
    if isinstance(record, State):
        return {"record": "state", "kind": record.kind, "key": _text(record.key), "body": _text(record.body)}
    return {"record": "tail", "topic": record.topic, "head": record.head, "lc": record.lc, "ts": record.last_ts}


def _message(line: bytes, header_size: int, expires: float) -> dict[str, Any]:
    payload = None
    if header_size:
        line, payload = line[:header_size], line[header_size:]
    try:
        fields: dict[str, Any] = json.loads(line)
    except ValueError:  # the publisher's own data: the broker passes it on unread
        fields = {"unreadable": _text(line)}
    if payload is not None:
        fields["data_base64"] = base64.b64encode(payload).decode()
    return fields | ({"expires": expires} if expires else {})


def _text(content: bytes) -> str:
    return content.decode(errors="backslashreplace")
