"""An agent asks others what they know.

A question is a request to a topic: whoever reads it may answer, the first answer counts, and one that gives up (by its
time-out) calls the question off. Here each librarian knows one field, and says so in the register.
"""

import asyncio

from hubbub import Agent, Message, NoResponder

BOOKS = {
    "chemistry": {"water": "H2O"},
    "history": {"1969": "people on the moon"},
}


async def run_librarian(librarian: Agent, field: str) -> None:
    # Librarians of one field share its questions; here each field has one.
    @librarian.on(f"library/{field}", consumer="librarians")
    async def answer(question: Message) -> None:
        known = BOOKS[field].get(question.data["about"])
        await question.reply({"answer": known, "found": known is not None})

    await librarian.consumption(f"library/{field}", "librarians").ready()


async def ask(agent: Agent, field: str, about: str) -> str:
    try:
        # `mandatory`: if nobody is there to hear it, say so at once instead of waiting.
        answer = await agent.request(f"library/{field}", {"about": about}, timeout=10, mandatory=True)
    except NoResponder:
        return "nobody knows this field"
    return str(answer.data["answer"]) if answer.data["found"] else "not in the books"


async def main() -> None:
    async with (
        Agent("curie", group="library", capabilities=["chemistry"]) as curie,
        Agent("clio", group="library", capabilities=["history"]) as clio,
        Agent("reader", group="library") as reader,
    ):
        await run_librarian(curie, "chemistry")
        await run_librarian(clio, "history")
        for field, about in (("chemistry", "water"), ("history", "1969"), ("history", "2369"), ("music", "fugue")):
            print(f"{field}, {about}: {await ask(reader, field, about)}")


asyncio.run(main())
