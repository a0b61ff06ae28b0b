"""The one exception that a person is meant to read."""


class UserError(ValueError):
    """Bad input. Its text is one line that names the thing and the next command."""
