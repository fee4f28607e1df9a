"""The one exception that users meet."""

from __future__ import annotations

__all__ = ["InputError"]


class InputError(ValueError):
    """Something that the user gave cannot be used.

    The message is one line that names the file or setting, says what is wrong and what to do about it. Programs print
    it as it stands and keep the traceback for the log file.

    Args:
        where: the file, folder or id at fault.
        problem: what is wrong with it.
        remedy: what the user can do.
    """

    def __init__(self, where: object, problem: str, remedy: str) -> None:
        self.where, self.problem, self.remedy = str(where), problem, remedy
        super().__init__(" ".join(f"{where}: {problem}; {remedy}".split()))

    def __reduce__(self) -> tuple[type, tuple[str, str, str]]:
        # An exception that crosses from a loader's worker process is pickled; the default would call __init__ wrongly.
        return type(self), (self.where, self.problem, self.remedy)
