"""What became of messages, and who is how fast."""

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Path, Query

from hubbub_broker.access import Operation

from .caller import FromCaller
from .models import BAD, UNAVAILABLE
from .operator_api import OperatorApi
from .operator_models import AgentFigures, ConsumerFigures, ReceiptItem, Receipts, TopAnswer

LIMIT_DEFAULT = 20
LIMIT_MAX = 1000
"""Consumers, and agents, in one answer."""


def routes(operators: OperatorApi) -> APIRouter:
    """The routes, on a broker."""
    router = APIRouter(tags=["consumers"])

    @router.get("/v1/receipts/{id:path}", summary="What became of a message", responses=BAD)
    async def receipts(
        caller: FromCaller, id: Annotated[str, Path(description="The message's id.", examples=["018f-1"])]
    ) -> Receipts:
        """The newest state, with each consumer, of the messages with this id that were published with `track`.

        Publishers see their own. None: it was not tracked, has reached no consumer yet, or is too long ago
        (`receipt_window`, `receipts_kept`).
        """
        found = [
            ReceiptItem(
                publisher=publisher,
                id=receipt.id,
                topic=receipt.topic,
                seq=receipt.seq,
                state=receipt.state,  # type: ignore[arg-type] # the model checks it
                consumer=receipt.consumer,
                by=receipt.by,
                reason=receipt.reason,
                ts=receipt.ts,
            )
            for publisher, receipt in operators.receipts(id)
            if caller.may(Operation.RECEIPTS, publisher) or caller.may(Operation.ADMIN)
        ]
        return Receipts(receipts=found)

    @router.get("/v1/top", summary="Who is how fast", responses={**BAD, **UNAVAILABLE})
    async def top(
        caller: FromCaller,
        limit: Annotated[int, Query(ge=1, le=LIMIT_MAX, description="Of each, at most.")] = LIMIT_DEFAULT,
    ) -> TopAnswer:
        """The consumers that are furthest behind, and the agents that need a look most.

        An agent is `deaf` (connected, but takes nothing), `slow` (late with a message, or much slower than the others),
        `gone` (was here within the hour, and is not), `busy` (says that it is at work), `working`, or `idle`.
        """
        caller.require(Operation.METRICS)
        found = await operators.top(limit)
        return TopAnswer(
            now=found.now,
            consumers_total=found.consumers_total,
            consumers=[ConsumerFigures(**asdict(row)) for row in found.consumers],
            agents_total=found.agents_total,
            agents=[AgentFigures(**asdict(row)) for row in found.agents],
        )

    return router
