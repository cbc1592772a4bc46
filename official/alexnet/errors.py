"""The exceptions whose text is written for the person at the keyboard."""

import difflib
from collections.abc import Collection


class UserError(Exception):
    """A mistake the user can mend: one line saying what, where, and what to do."""

    # What a command exits with.
    status = 2


def check_known(name: object, known: Collection[str], what: str) -> None:
    """Checks that a name is one of the known ones.

    Args:
        name: as it was given.
        known: what there is.
        what: the error up to the name, such as `paper.yaml has no key`.

    Raises:
        UserError: it is not, with the known one that is most like it.
    """
    if name not in known:
        close = difflib.get_close_matches(str(name), known, n=1)
        advice = f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
        raise UserError(f"{what} {name!r}; {advice}")


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
