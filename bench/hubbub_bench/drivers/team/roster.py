"""Who is in which conversation, and which part of a team each process has. Pure."""

from dataclasses import dataclass

from hubbub_bench.scenario import Team


@dataclass(frozen=True)
class Part:
    """One process's part of a team: its own conversations, with all of their members."""

    number: int
    agents: int
    conversations: int
    rate: float
    churn: float
    slow: int


def parts(team: Team) -> list[Part]:
    """The team divided among its processes. Everybody who hears a message is in the process that sends it."""
    processes = team.processes
    return [
        Part(
            number=number,
            agents=team.agents // processes,
            conversations=team.conversations // processes,
            rate=team.rate / processes,
            churn=team.churn / processes,
            slow=team.slow // processes + (number < team.slow % processes),
        )
        for number in range(processes)
    ]


def members_of(conversation: int, members: int, agents: int) -> list[int]:
    """The agents in a conversation: a stretch of them, so that everyone is in about as many as everyone else."""
    first = conversation * members
    return [(first + index) % agents for index in range(members)]
