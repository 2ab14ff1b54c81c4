"""`hubbub demo`: a thousand agents at work, a broker that is killed, and the count."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .exit_code import ExitCode, Failure, ends_well
from .output import emit

if TYPE_CHECKING:
    from .demonstration.audit import Verdict
    from .demonstration.options import Options
    from .demonstration.outcome import Outcome


@ends_well
def demo(
    folder: Annotated[
        Path | None, typer.Option("--folder", "-f", help="What they read: every text file in it, at any depth.")
    ] = None,
    report: Annotated[Path, typer.Option("--report", "-r", help="Where the report is written.")] = Path(
        "hubbub-demo-report.md"
    ),
    agents: Annotated[int, typer.Option(min=3, max=20_000, help="Agents, each with a socket of its own.")] = 1000,
    conversations: Annotated[int, typer.Option(min=1, max=5_000, help="Conversations that they are in.")] = 200,
    pieces: Annotated[int, typer.Option(min=1, help="Pieces of text to read, about; of 800 bytes each.")] = 16_000,
    rate: Annotated[float, typer.Option(min=0, help="Pieces to read a second; 0 is as fast as it goes.")] = 500.0,
    kill: Annotated[
        bool, typer.Option("--kill/--no-kill", help="Whether to kill the broker when half of the messages are there.")
    ] = True,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes for the agents.")] = 2,
    data_dir: Annotated[
        Path | None, typer.Option(help="The broker's directory, new or empty; a temporary one if not given.")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Do not remove that directory at the end.")] = False,
    seed: Annotated[int, typer.Option(help="Decides which text is drawn, and who begins when.")] = 1,
    tamper: Annotated[
        str | None,
        typer.Option(
            metavar="ANOMALY", help="Falsify one record before the count: lost, duplicated or out-of-order must show."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", "-j", help="The figures as one JSON object.")] = False,
) -> None:
    """Let agents work through real text together, kill their broker in the middle, and count what became of it.

    Starts a broker of its own. In each conversation researchers publish what they find in pieces of text, analysts
    combine the findings that they hear, and a synthesizer writes a section from that; the sections become a report.
    Research, analysis and synthesis are the stages of a workflow, and each transition stands on the log.
    When half of the messages are there, the broker is killed (SIGKILL) and started again on the same directory.

    At the end every agent must have been handed every message of its conversation exactly once and in order. The
    agents write down what they get; that is held against every receipt, and against the whole history read again
    over HTTP. The exit code is 0 only if nothing is lost, duplicated or out of order, and every workflow went through
    its stages once. About a minute on two cores.

    Without --folder they read the Python library that this command runs on.

    Examples:
      hubbub demo
      hubbub demo --folder ~/notes --report notes.md
      hubbub demo --agents 50 --conversations 10 --pieces 1000
      hubbub demo --keep --data-dir ./demo-data
      hubbub demo --agents 15 --conversations 3 --pieces 300 --tamper lost
    """
    from .demonstration.options import Options

    _check(agents, conversations, tamper)
    options = Options(
        agents=agents,
        conversations=conversations,
        workers=min(workers, conversations),
        folder=folder,
        pieces=pieces,
        rate=rate,
        kill=kill,
        seed=seed,
        data_dir=data_dir,
        keep=keep,
        report=report,
        tamper=tamper,
    )
    outcome, verdict = asyncio.run(_run(options))
    _print(outcome, verdict, as_json)
    if not outcome.good:
        raise typer.Exit(ExitCode.FAILED)


def _check(agents: int, conversations: int, tamper: str | None) -> None:
    from .demonstration.plan import MEMBERS_MIN
    from .demonstration.tamper import TAMPERS

    if agents < conversations * MEMBERS_MIN:
        raise Failure(
            f"--agents {agents}: {conversations} conversations need {MEMBERS_MIN} members each, so "
            f"{conversations * MEMBERS_MIN} agents at least, or --conversations {agents // MEMBERS_MIN} at most",
            ExitCode.USAGE,
        )
    if tamper is not None and tamper not in TAMPERS:
        raise Failure(f"--tamper {tamper}: one of {', '.join(TAMPERS)} is wanted", ExitCode.USAGE)


async def _run(options: Options) -> tuple[Outcome, Verdict]:
    from .demonstration.display import display_on
    from .demonstration.job import run

    job = asyncio.current_task()
    assert job is not None
    ended_by: list[int] = []

    def end(number: int) -> None:
        ended_by.append(number)
        job.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, end, number)
    try:
        with display_on(sys.stderr, options.agents + 1) as display:
            return await run(options, display)
    except asyncio.CancelledError:
        if ended_by:  # not Ctrl-C, which asyncio.run turns into a KeyboardInterrupt
            raise typer.Exit(128 + ended_by[0]) from None
        raise


def _print(outcome: Outcome, verdict: Verdict, as_json: bool) -> None:
    if as_json:
        emit(json.dumps(outcome.as_dict() | {"evidence": verdict.evidence}))
        return
    from .demonstration.display import print_outcome

    print_outcome(outcome, verdict.evidence, sys.stdout)
