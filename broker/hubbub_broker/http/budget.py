"""`/v1/topics/TOPIC/budget`: what a conversation has used of its budget, and the way to begin again."""

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Path

from hubbub_broker.access import Operation
from hubbub_protocol.names import check_topic

from .api import BrokerApi
from .caller import FromCaller
from .models import BAD, Budget

Topic = Annotated[str, Path(description="The topic, its slashes as they are.", examples=["research/conv-42"])]


def routes(broker: BrokerApi) -> APIRouter:
    """The routes, on `broker`."""
    router = APIRouter(tags=["operation"])
    path = "/v1/topics/{topic:path}/budget"

    @router.get(path, summary="A conversation's budget", responses=BAD)
    async def budget(caller: FromCaller, topic: Topic) -> Budget:
        """What the conversation has used since it began, or since its budget was reset, and what it may use.

        Use is counted only where the topic's policy has a budget.
        """
        caller.require(Operation.HISTORY, check_topic(topic))
        return Budget(**asdict(broker.budget(check_topic(topic))))

    @router.delete(path, summary="Reset a conversation's budget", responses=BAD)
    async def reset(caller: FromCaller, topic: Topic) -> Budget:
        """Let the conversation begin again at nothing, now. The answer is what it had used before.

        The reset is on stable storage within `budget_interval`; a crash before that undoes it.
        """
        caller.require(Operation.ADMIN)
        return Budget(**asdict(broker.reset_budget(check_topic(topic))))

    return router
