"""What an agent says of itself in the form of A2A (Agent2Agent, version 1.0): an agent card.

A card is kept as it came, under `card/NAME` in the state of `_hubbub`. Its skills are what the agent can be found by,
beside the capabilities of the register. An agent that brought none has one made of the register.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from hubbub_control.refusal import Refusal
from hubbub_protocol import PATH, SUBPROTOCOL, __version__, codec
from hubbub_protocol.errors import ErrorCode

from .picture import View

CARD_BYTES_MAX = 32 << 10
"""A card as JSON."""

SKILLS_MAX = 64
"""Skills of one card."""

TEXT_CHARS_MAX = 4_000
"""A name, a description, or an id in a card."""

TEAM_SKILLS_MAX = 1_000
"""Skills that the team's card shows."""

A2A_VERSION = "1.0"


def check_card(card: Any) -> dict[str, Any]:
    """A card that has what A2A requires; of the rest, whatever was given.

    Raises:
        Refusal: `bad_request`, naming the field.
    """
    if not isinstance(card, dict):
        raise _bad("a card is an object")
    if len(codec.encode_value(card)) > CARD_BYTES_MAX:
        raise Refusal(ErrorCode.TOO_LARGE, f"a card has {CARD_BYTES_MAX} bytes at most")
    for name in ("name", "description", "version"):
        _text(card, name, name)
    skills = card.get("skills")
    if not isinstance(skills, list) or len(skills) > SKILLS_MAX:
        raise _bad(f"`skills` is a list of {SKILLS_MAX} at most")
    for place, skill in enumerate(skills):
        if not isinstance(skill, dict):
            raise _bad(f"`skills[{place}]` is an object")
        for name in ("id", "name", "description"):
            _text(skill, name, f"skills[{place}].{name}")
        tags = skill.get("tags", [])
        if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
            raise _bad(f"`skills[{place}].tags` is a list of texts")
    for name in ("supportedInterfaces", "defaultInputModes", "defaultOutputModes"):
        if name in card and not isinstance(card[name], list):
            raise _bad(f"`{name}` is a list")
    if "capabilities" in card and not isinstance(card["capabilities"], dict):
        raise _bad("`capabilities` is an object")
    return card


def skills_of(card: Any) -> tuple[str, ...]:
    """The ids of a card's skills, whatever somebody put there."""
    skills = card.get("skills") if isinstance(card, dict) else None
    found = [skill.get("id") for skill in skills if isinstance(skill, dict)] if isinstance(skills, list) else []
    return tuple(dict.fromkeys(id for id in found if isinstance(id, str)))[:SKILLS_MAX]


def card_of(view: View, base_url: str) -> dict[str, Any]:
    """A card made of what the register says."""
    return _card(
        view.name,
        view.description or f"The agent {view.name} of {view.group}",
        base_url,
        [_skill(capability) for capability in view.capabilities],
    )


def team_card(capabilities: Iterable[str], base_url: str, *, secured: bool) -> dict[str, Any]:
    """The card of all agents together: what can be asked for here."""
    skills = [_skill(capability) for capability in sorted(set(capabilities))[:TEAM_SKILLS_MAX]]
    card = _card("Hubbub", "A team of agents that talk over a message bus", base_url, skills)
    if secured:
        card["securitySchemes"] = {
            "bearer": {"httpAuthSecurityScheme": {"scheme": "Bearer", "description": "A token of the bus"}}
        }
        card["securityRequirements"] = [{"schemes": {"bearer": {"list": []}}}]
        card["capabilities"]["extendedAgentCard"] = True
    return card


def _card(name: str, description: str, base_url: str, skills: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "name": name,
        "description": description,
        "version": __version__,
        "supportedInterfaces": [
            {
                "url": "ws" + base_url.removeprefix("http").rstrip("/") + PATH,
                "protocolBinding": SUBPROTOCOL,
                "protocolVersion": A2A_VERSION,
            }
        ],
        "capabilities": {"streaming": True, "pushNotifications": False},
        "defaultInputModes": ["application/json"],
        "defaultOutputModes": ["application/json"],
        "skills": skills,
    }


def _skill(capability: str) -> dict[str, Any]:
    return {"id": capability, "name": capability, "description": capability, "tags": [capability]}


def _text(fields: Mapping[str, Any], name: str, shown: str) -> None:
    value = fields.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= TEXT_CHARS_MAX:
        raise _bad(f"`{shown}` is a text of 1 to {TEXT_CHARS_MAX} characters")


def _bad(message: str) -> Refusal:
    return Refusal(ErrorCode.BAD_REQUEST, f"{message} (A2A agent card)")
