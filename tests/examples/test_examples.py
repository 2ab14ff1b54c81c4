"""Every example runs, against a broker of its own, and says what it is there to show."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from harness.broker import serving, url_of

FOLDER = Path(__file__).resolve().parents[2] / "examples"
SECONDS = 40.0

SAID = {
    "breaker.py": [
        "model: closed -> open by",
        "model: open -> half_open by",
        "model: half_open -> closed by",
        "all are done; they were spared",
    ],
    "context.py": [
        "worth reading: {'title': 'The third quarter'}",
        "the report has 2,602,000 bytes, and ends: All is well.",
        "question: How was the third quarter?",
        "note: I will look at the figures.",
        "result: {'title': 'The third quarter'",
    ],
    "two_agents.py": [
        "ann asked (message 1)",
        "joe heard: Why are there two tides a day?",
        "late reads: ann: Why are there two tides a day?",
        "late reads: joe: Two bulges of water",
    ],
    "delegation.py": [
        "told by lead: accepted, 3 parts",
        "works on facts",
        "told by lead: 3 of 3 done",
        "user has the answer: the facts; the quotes; the pictures",
    ],
    "knowledge.py": [
        "chemistry, water: H2O",
        "history, 1969: people on the moon",
        "history, 2369: not in the books",
        "music, fugue: nobody knows this field",
    ],
    "status_reports.py": [
        "monitor: ann is there",
        "monitor: bob is there",
        "ann stops reporting",
        "monitor: ann has fallen silent",
        "monitor: bob has fallen silent",
    ],
    "workflow.py": [
        "start -> research (start) by joe",
        "research -> research (task retry) by ann",
        "ConnectionError: the library is closed",
        "analysis -> analysis (task done) by ann analysis 3 of 3",
        "synthesis -> review (done) by ann",
        "review -> published (message:approved) by joe",
        "done: 3 findings about tides",
        "stateDiagram-v2",
    ],
}
"""What each prints, among other things."""


@pytest.fixture
async def url(tmp_path: Path) -> AsyncIterator[str]:
    async with serving(tmp_path) as server:
        yield url_of(server)


async def run(name: str, url: str) -> str:
    """What an example prints. It must end by itself, and well."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(FOLDER / name),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "HUBBUB_URL": url, "NO_PROXY": "127.0.0.1", "PYTHONUNBUFFERED": "1"},
        cwd=FOLDER.parent,
    )
    try:
        async with asyncio.timeout(SECONDS):
            said, complained = await process.communicate()
    except TimeoutError:
        process.kill()
        said, complained = await process.communicate()
        pytest.fail(f"it does not end:\n{said.decode()}\n{complained.decode()}")
    assert process.returncode == 0, complained.decode()
    assert b"Traceback" not in complained, complained.decode()
    return said.decode()


@pytest.mark.parametrize("name", sorted(SAID))
async def test_an_example_does_what_it_shows(name: str, url: str) -> None:
    said = await run(name, url)
    for line in SAID[name]:
        assert line in said, said


def test_every_example_is_run_and_in_the_list() -> None:
    assert {path.name for path in FOLDER.glob("*.py")} == set(SAID)
    index = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert all(f"({name})" in index for name in SAID)
