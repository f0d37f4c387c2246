"""What the limited child says of a file that it cannot use."""


class Problem(Exception):
    """What is wrong with one file: a stable code, a sentence without names or paths."""

    def __init__(self, code: str, happened: str) -> None:
        super().__init__(happened)
        self.code, self.happened = code, happened
