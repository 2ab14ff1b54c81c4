"""What is said of a schema that can't be used."""


class BadSchema(ValueError):
    """What was given is no schema that can be used here.

    Args:
        place: where it is wrong, as a JSON pointer into the schema; empty is the whole.
        why: what is wrong there.
    """

    def __init__(self, place: str, why: str) -> None:
        super().__init__(f"{place or 'the schema'}: {why}")
        self.place = place
