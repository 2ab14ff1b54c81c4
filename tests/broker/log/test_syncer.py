"""The syncer: jobs run elsewhere, callbacks here, and closing finishes what was asked for."""

import asyncio
import threading
from functools import partial

import pytest

from hubbub_broker.log import LogMisused, Syncer


def _note_thread(threads: list[threading.Thread]) -> None:
    threads.append(threading.current_thread())


async def test_jobs_run_in_a_thread_and_callbacks_on_the_loop():
    syncer = Syncer(1)
    loop = asyncio.get_running_loop()
    for submit in (syncer.submit, syncer.submit_slow):
        done = loop.create_future()
        threads: list[threading.Thread] = []
        submit(partial(_note_thread, threads), loop, done.set_result)
        assert await done is None
        assert threads[0] is not threading.main_thread()
    syncer.close()


async def test_what_a_job_raises_comes_back():
    syncer = Syncer(1)
    done = asyncio.get_running_loop().create_future()
    error = OSError("broken")

    def job() -> None:
        raise error

    syncer.submit(job, asyncio.get_running_loop(), done.set_result)
    assert await done is error
    syncer.close()


async def test_closing_finishes_what_was_submitted():
    syncer = Syncer(1)
    ran: list[int] = []
    for number in range(20):
        syncer.submit(partial(ran.append, number), asyncio.get_running_loop(), lambda _: None)
    syncer.close()
    syncer.close()
    assert ran == list(range(20))
    with pytest.raises(LogMisused):
        syncer.submit(lambda: None, asyncio.get_running_loop(), lambda _: None)
