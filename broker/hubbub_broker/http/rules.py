"""`/v1/policies`, `/v1/schemas`: what is in force in this broker, why, and what a change would do. For operators.

They are set through the control plane (`/v1/control/policies`, `/v1/control/schemas`), or in the state of `_hubbub`.
"""

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Query, Request

from hubbub_broker.access import Operation

from .body import body_of, read_model
from .caller import FromCaller
from .models import BAD
from .rules_api import RulesApi, VerdictInfo
from .rules_models import (
    PoliciesInForce,
    PolicyItem,
    PolicyOutcome,
    PolicyTrial,
    SchemaItem,
    SchemaOutcome,
    SchemasInForce,
    SchemaTrial,
    SettingItem,
    SkippedItem,
    TrialItem,
    VerdictItem,
)


def routes(rules: RulesApi) -> APIRouter:
    """The routes, on `rules`."""
    router = APIRouter(tags=["policies and schemas"])
    settings = rules.settings

    @router.get("/v1/policies", summary="Policies in force")
    async def policies(caller: FromCaller) -> PoliciesInForce:
        """The policies that were set at run time, first those that win; then the rules that the broker was started
        with.

        Of the run-time policies that match a topic the first lies over the rule: what it leaves out, the rule says.
        """
        caller.require(Operation.ADMIN)
        found = rules.policies()
        return PoliciesInForce(
            policies=[
                PolicyItem(
                    name=each.name,
                    pattern=each.pattern,
                    priority=each.priority,
                    version=each.version,
                    settings=dict(each.changes),
                    by=each.by,
                    at=each.at,
                    note=each.note,
                )
                for each in found.policies
            ],
            rules=[dict(rule) for rule in found.rules],
            skipped=[SkippedItem(**asdict(each)) for each in found.skipped],
        )

    @router.get("/v1/policies/test", summary="What holds for a topic", responses=BAD)
    async def verdict(
        caller: FromCaller, topic: Annotated[str, Query(description="The topic; it need not exist.")]
    ) -> VerdictItem:
        """Every setting that holds for a topic now, and where it comes from."""
        caller.require(Operation.ADMIN)
        return _verdict(rules.verdict(topic))

    @router.post(
        "/v1/policies/test",
        summary="What a policy would change",
        responses=BAD,
        openapi_extra={"requestBody": body_of(PolicyTrial)},
    )
    async def try_policy(caller: FromCaller, request: Request) -> PolicyOutcome:
        """What would hold for some topics if a policy were set. Nothing is changed."""
        caller.require(Operation.ADMIN)
        trial = await read_model(request, PolicyTrial, settings.max_frame, settings.hello_timeout)
        outcome = []
        for before, after in rules.try_policy(trial.name, trial.policy, trial.topics):
            changed = [name for name in after.settings if before.settings[name].value != after.settings[name].value]
            outcome.append(TrialItem(before=_verdict(before), after=_verdict(after), changed=changed))
        return PolicyOutcome(topics=outcome)

    @router.get("/v1/schemas", summary="Schemas in force")
    async def schemas(caller: FromCaller) -> SchemasInForce:
        """The JSON Schemas that messages are held to, by group and type."""
        caller.require(Operation.ADMIN)
        found, skipped = rules.schemas()
        return SchemasInForce(
            schemas=[
                SchemaItem(
                    group=each.group,
                    type=each.type,
                    version=each.version,
                    schema=each.document,
                    by=each.by,
                    at=each.at,
                    note=each.note,
                )
                for each in found
            ],
            skipped=[SkippedItem(**asdict(each)) for each in skipped],
        )

    @router.post(
        "/v1/schemas/test",
        summary="Whether data fits a schema",
        responses=BAD,
        openapi_extra={"requestBody": body_of(SchemaTrial)},
    )
    async def try_schema(caller: FromCaller, request: Request) -> SchemaOutcome:
        """Hold some data to a schema: the one in force, or another that is sent along. Changes and counts nothing."""
        caller.require(Operation.ADMIN)
        trial = await read_model(request, SchemaTrial, settings.max_frame, settings.hello_timeout)
        reason = rules.try_schema(trial.group, trial.type, trial.schema_, trial.data)
        return SchemaOutcome(fits=reason is None, reason=reason)

    return router


def _verdict(info: VerdictInfo) -> VerdictItem:
    return VerdictItem(
        topic=info.topic,
        policy=info.policy,
        rule=info.rule,
        settings={name: SettingItem(value=each.value, source=each.source) for name, each in info.settings.items()},
    )
