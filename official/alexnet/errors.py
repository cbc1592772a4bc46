"""The one exception whose text is written for the person at the keyboard."""


class UserError(Exception):
    """A mistake the user can mend: one line saying what, where, and what to do."""
