"""The exceptions whose text is written for the person at the keyboard."""


class UserError(Exception):
    """A mistake the user can mend: one line saying what, where, and what to do."""


class Interrupted(BaseException):
    """A signal stopped the work: one line saying what is saved and how to go on.

    Like KeyboardInterrupt no Exception, so that no library takes it for its own.
    """
