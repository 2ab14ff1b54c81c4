"""The examples of docs/resilience.md run, one after the other."""

import ast
import asyncio
import inspect
import re
from pathlib import Path
from typing import Any

from hubbub import resilience
from hubbub.resilience import BreakerPolicy

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "resilience.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


class Client:
    """Stands for what agents call."""

    def __init__(self) -> None:
        self.prompts: list[str] = []

    async def complete(self, prompt: str) -> str:
        self.prompts.append(prompt)
        return f"about {prompt}"


async def test_the_examples_run() -> None:
    client = Client()
    names: dict[str, Any] = {"client": client, "asyncio": asyncio}
    assert len(EXAMPLES) == 5
    for number, example in enumerate(EXAMPLES):
        code = compile(example, f"example {number}", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        made = eval(code, names)
        if inspect.isawaitable(made):
            await made
    assert names["answer"] == "about hello"
    assert len(client.prompts) == 6


def test_the_page_names_settings_and_tests_that_exist() -> None:
    here = Path(__file__).parent
    named = set(re.findall(r"`(?:tests/sdk/resilience/)?(test_\w+\.py)`", PAGE))
    assert len(named) >= 4
    assert [name for name in named if not (here / name).exists()] == []
    settings = set(re.findall(r"(\w+)=", EXAMPLES[1].partition("policy = BreakerPolicy(")[2].partition("\n)")[0]))
    assert settings - {"seconds", "calls"} <= set(inspect.signature(BreakerPolicy).parameters)


def test_every_public_name_has_a_docstring() -> None:
    for name in resilience.__all__:
        value = getattr(resilience, name)
        assert value.__doc__, name
        for method, function in vars(value).items():
            if inspect.isfunction(function) and not method.startswith("_"):
                assert function.__doc__, f"{name}.{method}"
