"""Profiles: samples to shares of areas and functions, and those to microseconds."""

from dataclasses import replace
from pathlib import Path

import pytest

from hubbub_bench.documents import write_part
from hubbub_bench.measurement import Reading, Run
from hubbub_bench.profiling.page import page
from hubbub_bench.profiling.run import NoProfiler, Profiled, find
from hubbub_bench.profiling.samples import ELSEWHERE, parse
from hubbub_bench.scenario import FOLDER, ClosedLoop, load

RAW = """thread (0x1): "MainThread";serve (hubbub_broker/cli/serve.py);append_message (hubbub_broker/log/log.py) 30
thread (0x1): "MainThread";serve (hubbub_broker/cli/serve.py);find (/x/hubbub_broker/log/dedup.py:9) 10
thread (0x1): "MainThread";decode (hubbub_protocol/codec.py) 5
thread (0x1): "MainThread";run (asyncio/runners.py) 5
thread (0x2): "sync_0";fdatasync (hubbub_broker/log/syncer.py) 500
nothing that counts
"""


def profiled() -> Profiled:
    scenario = load(FOLDER / "publish-64.toml")
    assert isinstance(scenario, ClosedLoop)
    return Profiled(scenario, Run([Reading("publishes", 1.0, "publishes/s")]), parse(RAW), "publish", 10.0, 2.0)


def test_samples_are_counted_at_their_topmost_function_and_threads_left_out() -> None:
    found = parse(RAW)
    assert found.total == 50
    assert found.areas == {"log": 40, "protocol": 5, ELSEWHERE: 5}
    assert found.functions["`log/log.py` `append_message`"] == 30
    assert found.functions["`log/dedup.py` `find`"] == 10


def test_shares_become_microseconds() -> None:
    text = page([profiled()], "1", "today", "a machine")
    assert "10.00 µs of the event loop, looked at 50 times, and 2.00 µs of the threads" in text
    assert "| log | 8.00 | 80% |" in text
    assert "| `log/log.py` `append_message` | 6.00 | 60% |" in text


def test_without_a_profiler_it_is_said_how_to_get_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(tmp_path))
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(NoProfiler, match="pip install"):
        find()


def test_no_samples_are_no_shares() -> None:
    empty = replace(profiled(), profile=parse(""))
    assert "| area | µs a publish | share |" in page([empty], "1", "today", "a machine")


@pytest.mark.parametrize("part", ["profile-now", "profile-before"])
def test_the_page_has_the_parts_that_are_written(tmp_path: Path, part: str) -> None:
    copy = tmp_path / "copy.md"
    copy.write_text((Path(__file__).resolve().parents[2] / "docs" / "performance.md").read_text())
    write_part(copy, part, "measured")
    assert "measured" in copy.read_text()
