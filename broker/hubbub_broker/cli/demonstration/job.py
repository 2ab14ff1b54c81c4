"""The whole job, in order.

     1  find the text, and divide it among conversations
     2  start a broker on a fresh directory
     3  start the workers; their agents connect and subscribe
     4  let the conversations begin
     5  when half of the messages have their receipts: kill the broker, and start it again
     6  wait until every member has heard every message, and a moment longer, for copies that come late
     7  let the agents leave; collect what they counted
     8  read every conversation again over HTTP
     9  stop the broker in order
    10  count, and write the report

However it ends, the processes are ended, and the directory is removed unless the user wants to keep it.
"""

import asyncio
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from hubbub_broker.cli.exit_code import ExitCode, Failure

from .assignment import Assignment
from .audit import Verdict
from .broker import Broker
from .clock import now
from .conclusion import Course, Records, conclude
from .corpus import Corpus, library, of_folder, sample
from .crew import Crew
from .display import Display
from .open_files import allow_open_files
from .options import Options
from .outcome import Outcome
from .plan import PIECE_BYTES_MAX, Conversation, TooLittleText, convene
from .replay import replay_all
from .run_directory import run_directory
from .watch import Watch


async def run(options: Options, display: Display) -> tuple[Outcome, Verdict]:
    """Do it all.

    Raises:
        Failure: if it can't be done, as opposed to: done, and something is wrong.
    """
    started = now()
    corpus = choose_text(options)
    try:
        conversations = convene(corpus, agents=options.agents, conversations=options.conversations)
    except TooLittleText as error:
        raise Failure(str(error), ExitCode.USAGE) from None
    allow_open_files(options.agents)
    display.tell(f"text: {len(corpus.files):,} files of {corpus.folder}")
    with run_directory(options.data_dir, keep=options.keep) as directory:
        broker = Broker(directory / "log", directory / "broker.log")
        crew = Crew(options.workers, directory)
        try:
            await _assemble(options, corpus.folder, conversations, broker, crew, display)
            began, ended = await _converse(options, conversations, broker, crew, display)
            records = await _collect(conversations, broker, crew, display)
        finally:
            await crew.stop()
            await broker.stop()
        if options.keep:
            display.tell(f"kept: {directory}")
    course = Course(started, began, ended, broker.killed_at, broker.up_at, now())
    outcome, verdict, report = conclude(options, corpus, conversations, course, records)
    write_report(options.report, report)
    return outcome, verdict


def choose_text(options: Options) -> Corpus:
    """The text that is read: the user's, or the Python library.

    Raises:
        Failure: if there is none.
    """
    try:
        corpus = library() if options.folder is None else of_folder(options.folder)
    except OSError as error:
        raise Failure(f"--folder {options.folder}: {error.strerror or error}", ExitCode.USAGE) from None
    return sample(corpus, options.pieces * PIECE_BYTES_MAX, random.Random(options.seed))


def assignments(
    options: Options, folder: Path, url: str, conversations: Sequence[Conversation]
) -> Iterator[Assignment]:
    """What each worker does. Whole conversations go round; the editor is in the first."""
    researchers = sum(len(conversation.researchers) for conversation in conversations)
    for number in range(options.workers):
        yield Assignment(
            url=url,
            folder=str(folder.resolve()),
            conversations=[asdict(conversation) for conversation in conversations[number :: options.workers]],
            interval=researchers / options.rate if options.rate else 0.0,
            seed=f"{options.seed}-{number}",
            edits=number == 0,
        )


def write_report(path: Path, text: str) -> None:
    """Write the report.

    Raises:
        Failure: if that can't be done.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Failure(f"--report {path}: {error.strerror or error}") from None


async def _assemble(
    options: Options,
    folder: Path,
    conversations: Sequence[Conversation],
    broker: Broker,
    crew: Crew,
    display: Display,
) -> None:
    await broker.start()
    display.tell(f"the broker listens on port {broker.port}; {options.agents:,} agents connect")
    await crew.start(list(assignments(options, folder, broker.url, conversations)))


async def _converse(
    options: Options, conversations: Sequence[Conversation], broker: Broker, crew: Crew, display: Display
) -> tuple[float, float]:
    """From the first message to the last delivery, with the crash in the middle. When it began, and when it ended."""
    planned = sum(conversation.messages for conversation in conversations)
    heard_by_all = sum(conversation.messages * (len(conversation.members) + 1) for conversation in conversations)
    display.tell(f"every agent is online and subscribed; {planned:,} messages to come")
    watch = Watch(crew, display, planned, options.stall)
    began = now()
    crew.begin()
    if options.kill and await watch.until_confirmed(planned // 2):
        await _crash(broker, display)
    if await watch.until_handled(heard_by_all):
        ended = now()
        display.tell("everyone has heard every message; listening on for copies")
    else:
        ended = now()
        display.tell(f"nothing has happened for {options.stall:g} s: what there is will be counted")
    await asyncio.sleep(options.linger)
    return began, ended


async def _crash(broker: Broker, display: Display) -> None:
    display.tell("the broker is killed (SIGKILL)")
    await broker.kill()
    await broker.start_again()
    assert broker.killed_at is not None
    display.tell(f"it listens again, {broker.up_at - broker.killed_at:.2f} s later, on the same directory")


async def _collect(conversations: Sequence[Conversation], broker: Broker, crew: Crew, display: Display) -> Records:
    results, samples = await crew.finish()
    display.tell("the agents have left; everything is read again over HTTP")
    replay = await replay_all(broker.url, [conversation.topic for conversation in conversations])
    code = await broker.stop()
    if code != 0:
        raise Failure(f"the broker ended with code {code} when it was told to stop")
    return Records(results, samples, replay)
