"""The error of all that is wrong with images."""


class DataError(ValueError):
    """Data that cannot be used; the message is one line naming what is wrong and what is possible."""

    def __init__(self, message):
        super().__init__(" ".join(message.splitlines()))
