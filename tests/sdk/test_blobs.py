"""Large bodies by reference: stored once, fetched whole or not at all."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from harness.until import until
from hubbub import Agent, BlobCorrupt, BlobGone, Message, TooLarge
from hubbub.blob import Blob
from hubbub.testing import MemoryBroker, any_of
from hubbub_protocol.blobs import PIECE_BYTES, BlobRef
from hubbub_protocol.frames import Err, Pub

BODY = os.urandom(PIECE_BYTES * 2 + 1000)


def topic_of(body: bytes, group: str = "g") -> str:
    return f"{group}/_blobs/{hashlib.sha256(body).hexdigest()}"


def names_in(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


async def in_parts(body: bytes, size: int) -> AsyncIterator[bytes]:
    for at in range(0, len(body), size):
        yield body[at : at + size]


async def read(blob: Blob) -> bytes:
    return b"".join([piece async for piece in blob])


class TestAttach:
    @pytest.mark.parametrize("body", [b"", b"x", BODY[:PIECE_BYTES], BODY])
    async def test_what_is_attached_is_fetched(
        self, joe: Agent, ann: Agent, body: bytes, tmp_path: Path, broker: MemoryBroker
    ) -> None:
        incoming = ann.subscribe("c")
        await incoming.caught_up()
        conversation = joe.topic("c")
        ref = await conversation.attach(body, name="report.pdf")
        assert (ref.size, ref.topic, ref.media_type, ref.by) == (len(body), topic_of(body), "application/pdf", "joe")
        await conversation.publish({"text": "done"}, attachments=[ref], headers={"mine": 1})
        message = await anext(incoming)
        assert (message.data, message.attachments, message.headers["mine"]) == ({"text": "done"}, [ref], 1)
        assert await message.fetch() == body
        assert (await message.fetch_to(tmp_path / "got")).read_bytes() == body
        assert await read(message.blob("report.pdf")) == body
        assert names_in(tmp_path) == ["got"]
        assert max(len(stored) for stored in self.payloads(broker, body)) <= PIECE_BYTES

    def payloads(self, broker: MemoryBroker, body: bytes) -> list[bytes]:
        return [stored.payload or b"" for stored in broker.log(topic_of(body)).messages]

    async def test_a_file_and_what_comes_bit_by_bit(self, joe: Agent, tmp_path: Path) -> None:
        path = tmp_path / "data.json"
        path.write_bytes(BODY)
        ref = await joe.attach("g", path)
        assert (ref.name, ref.media_type, ref.sha256) == (
            "data.json",
            "application/json",
            hashlib.sha256(BODY).hexdigest(),
        )
        again = await joe.attach("g", in_parts(BODY, 1000), name="other")
        assert again == replace(ref, name="other", media_type="")
        assert await joe.blob(again).fetch() == BODY

    async def test_the_same_content_is_stored_once_whoever_attaches_it(
        self, joe: Agent, ann: Agent, broker: MemoryBroker
    ) -> None:
        first = await joe.attach("g", BODY)
        count = len(broker.stored(first.topic))
        assert await joe.attach("g", BODY) == first
        assert await ann.attach("g", BODY) == first
        assert len(broker.stored(first.topic)) == count == 3

    async def test_a_copy_that_goes_soon_is_written_anew(self, joe: Agent, broker: MemoryBroker) -> None:
        now = broker.clock()
        broker.max_age = 1000.0
        broker.clock = lambda: now
        first = await joe.attach("g", BODY)
        broker.clock = lambda: now + 490
        assert await joe.attach("g", BODY) == first
        broker.clock = lambda: now + 510
        second = await joe.attach("g", BODY)
        assert second.copy != first.copy
        assert await joe.attach("g", BODY) == second, "the newer one is there for the next"
        assert len(broker.stored(first.topic)) == 6

    async def test_an_interrupted_upload_is_gone_on_with(self, make_agent: Any, broker: MemoryBroker) -> None:
        stop = asyncio.Event()

        def after_two(pub: Pub) -> Err | None:
            if len(broker.stored(pub.topic)) >= 2:
                stop.set()
                return Err(code="forbidden", message="stop here")
            return None

        broker.verdict = after_two
        async with make_agent("joe") as joe:
            with pytest.raises(Exception, match="stop here"):
                await joe.attach("g", BODY)
        broker.verdict = None
        assert len(broker.stored(topic_of(BODY))) == 2
        async with make_agent("joe") as joe:
            ref = await joe.attach("g", BODY)
            assert len(broker.stored(ref.topic)) == 3
            assert await joe.blob(ref).fetch() == BODY

    async def test_a_connection_that_breaks_meanwhile_changes_nothing(self, joe: Agent, broker: MemoryBroker) -> None:
        broker.commit_delay = 0.01
        upload = asyncio.create_task(joe.attach("g", BODY))
        await until(lambda: bool(broker.stored(topic_of(BODY))))
        broker.crash()
        broker.start()
        ref = await upload
        assert len(broker.stored(ref.topic)) == 3
        assert await joe.blob(ref).fetch() == BODY

    async def test_two_at_a_time_may_store_it_twice_and_both_are_whole(self, joe: Agent, ann: Agent) -> None:
        first, second = await asyncio.gather(joe.attach("g", BODY), ann.attach("g", BODY))
        assert await joe.blob(second).fetch() == await ann.blob(first).fetch() == BODY

    async def test_a_copy_that_is_not_what_it_says_is_not_referred_to(self, joe: Agent, ann: Agent) -> None:
        headers = {"blob": {"at": 0, "len": 4, "size": 4, "copy": "bad"}}
        await ann.publish(topic_of(b"good"), b"evil", type="blob", headers=headers)
        ref = await joe.attach("g", b"good")
        assert ref.by == "joe"
        assert await ann.blob(ref).fetch() == b"good"
        # A reference to the bad one falls back to the good one, where that can be: not in the middle of a stream.
        bad = replace(ref, by="ann", copy="bad")
        assert await ann.blob(bad).fetch() == b"good"
        with pytest.raises(BlobCorrupt):
            await read(ann.blob(bad))

    async def test_an_upload_that_was_begun_with_something_else_is_begun_anew(self, joe: Agent) -> None:
        headers = {"blob": {"at": 0, "len": 2, "size": 4, "copy": "odd"}}
        await joe.publish(topic_of(b"good"), b"ev", type="blob", headers=headers)
        ref = await joe.attach("g", b"good")
        assert ref.copy != "odd"
        assert await joe.blob(ref).fetch() == b"good"

    async def test_a_file_that_changes_meanwhile_is_an_error_and_leaves_nothing_whole(
        self, joe: Agent, tmp_path: Path, broker: MemoryBroker
    ) -> None:
        path = tmp_path / "data"
        path.write_bytes(BODY)

        def change(pub: Pub) -> Err | None:
            if pub.topic == topic_of(BODY):
                path.write_bytes(BODY[:PIECE_BYTES] + b"!" + BODY[PIECE_BYTES + 1 :])
            return None

        broker.verdict = change
        with pytest.raises(ValueError, match="changed while it was read"):
            await joe.attach("g", path)
        with pytest.raises(BlobGone):
            await joe.blob(BlobRef(sha256=hashlib.sha256(BODY).hexdigest(), size=len(BODY), group="g")).fetch()

    async def test_where_only_small_messages_are_taken_pieces_are_small(self, joe: Agent, broker: MemoryBroker) -> None:
        def small(pub: Pub) -> Err | None:
            headers = pub.headers
            assert b'"len":' in bytes(headers)
            length = int(bytes(headers).split(b'"len":')[1].split(b",")[0])
            return Err(code="too_large", message="max_message is 65536") if length > 65_536 else None

        broker.verdict = any_of(small)
        ref = await joe.attach("g", BODY)
        assert await joe.blob(ref).fetch() == BODY

    @pytest.mark.parametrize("content", ["text", 7, None, ["x"]])
    async def test_what_can_be_attached(self, joe: Agent, content: Any) -> None:
        with pytest.raises(TypeError, match="can't be attached"):
            await joe.attach("g", content)

    async def test_a_message_that_is_too_large_says_what_to_do(self, make_agent: Any) -> None:
        async with make_agent("joe", buffer_bytes=5000) as joe:
            with pytest.raises(TooLarge, match="attach"):
                await joe.publish("c", "x" * 6000)
        async with make_agent("joe") as joe:
            with pytest.raises(TooLarge, match="attach"):
                await joe.publish("c", "x" * (2 << 20))


class TestFetch:
    async def test_what_retention_took_is_gone(self, joe: Agent, broker: MemoryBroker, tmp_path: Path) -> None:
        ref = await joe.attach("g", BODY)
        broker.trim(ref.topic, 2)
        for fetch in (joe.blob(ref).fetch(), joe.blob(ref).fetch_to(tmp_path / "got"), read(joe.blob(ref))):
            with pytest.raises(BlobGone, match="no whole copy"):
                await fetch
        assert names_in(tmp_path) == []
        again = await joe.attach("g", BODY)
        assert await joe.blob(ref).fetch() == await joe.blob(again).fetch() == BODY

    async def test_too_much_for_memory_is_said_before(self, joe: Agent) -> None:
        ref = await joe.attach("g", BODY)
        with pytest.raises(ValueError, match="fetch_to"):
            await joe.blob(ref).fetch(max_bytes=len(BODY) - 1)

    async def test_a_message_without_one(self, joe: Agent) -> None:
        incoming = joe.subscribe("c")
        await incoming.caught_up()
        await joe.publish("c", 1, headers={"attachments": [{"sha256": "no"}]})
        message = await anext(incoming)
        assert message.attachments == []
        with pytest.raises(BlobGone, match="refers to 0"):
            await message.fetch()

    async def test_nothing_is_handed_out_before_the_whole_was_checked_but_its_beginning(
        self, joe: Agent, broker: MemoryBroker
    ) -> None:
        ref = await joe.attach("g", BODY)
        last = broker.log(ref.topic).messages[-1]
        last.payload = b"!" * len(last.payload or b"")
        got: list[bytes] = []

        async def keep() -> None:
            async for piece in joe.blob(ref):
                got.append(piece)  # noqa: PERF401 - what came before the error is to be seen

        with pytest.raises(BlobCorrupt):
            await keep()
        assert b"".join(got) == BODY[: 2 * PIECE_BYTES]

    async def test_readers_of_everything_are_spared_the_pieces(self, joe: Agent, ann: Agent) -> None:
        everything = ann.subscribe("g/**")
        await everything.caught_up()
        conversation = joe.topic("c")
        await conversation.publish("done", attachments=[await conversation.attach(BODY)])
        message: Message = await anext(everything)
        assert (message.topic, everything.buffered) == ("g/c", 0)
        assert await message.fetch() == BODY
