"""The exceptions whose text is written for the person at the keyboard."""


class UserError(Exception):
    """A mistake the user can mend: one line saying what, where, and what to do."""

    # What a command exits with.
    status = 2


class NoRoom(UserError):
    """A disk is full; what was done is kept, and the line advises the same command."""


class WorkerLost(UserError):
    """Another worker of the run is gone; started again, the run is resumed."""

    # EX_UNAVAILABLE of sysexits.h.
    status = 69


class Interrupted(BaseException):
    """A signal stopped the work: one line saying what is saved and how to resume.

    Like KeyboardInterrupt no Exception, so that no library takes it for its own.

    Args:
        line: what happened.
        is_saved: whether all workers ended the same step, which is saved.
    """

    def __init__(self, line: str, *, is_saved: bool = False):
        super().__init__(line)
        self.is_saved = is_saved
