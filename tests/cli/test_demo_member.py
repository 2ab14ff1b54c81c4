"""Whoever listens to every conversation of the demonstration hears these, and nothing else that is said there."""

import asyncio

from harness.until import until
from hubbub import Agent
from hubbub.testing import MemoryBroker
from hubbub_broker.cli.demonstration.member import Editor
from hubbub_broker.cli.demonstration.tally import Tally


async def test_the_editor_hears_conversations_and_nothing_else() -> None:
    broker = MemoryBroker()
    async with (
        Agent("editor", transport=broker.transport(), local=False) as agent,
        Agent("joe", transport=broker.transport(), local=False) as joe,
    ):
        editor = Editor(agent, Tally())
        await editor.join()
        listening = asyncio.create_task(editor.take_part())
        await joe.publish("_hubbub/reports", {"load": 1})  # as agents tell the control plane how they are
        await joe.publish("desk-01/reading-001", {"at": 0.0, "title": "The river"}, type="section")
        await until(lambda: editor.sections or listening.done())
        assert set(editor.sections) == {"desk-01/reading-001"}
        assert [statement["topic"] for statement in editor.statements()] == ["desk-01/reading-001"]
        await editor.leave()
        await listening
