"""Errors that say which argument broke which rule, and what to do about it.

Every message reads: **`argument`: expected ⟨rule⟩, got ⟨value⟩. ⟨What to do⟩.**
"""

from collections.abc import Mapping


class LatensError(Exception):
    """Base of every error that latens raises on purpose.

    Args:
        argument: Name of the argument, file or option at fault.
        expected: The rule it broke, as a phrase that follows "expected".
        got: What was found instead: a value, a shape, a type.
        remedy: One or two sentences that say what to do.
    """

    exit_code = 2

    def __init__(self, argument: str, expected: str, got: object, remedy: str) -> None:
        self.argument = argument
        self.expected = expected
        self.got = got
        self.remedy = remedy
        super().__init__(f"`{argument}`: expected {expected}, got {got}. {remedy}")

    def __reduce__(self):
        return type(self), (self.argument, self.expected, self.got, self.remedy)


class ConfigError(LatensError, ValueError):
    """A setting is unknown, contradictory or does not apply."""


class ShapeError(LatensError, ValueError):
    """A tensor does not have the shape that the operation needs."""


class DataError(LatensError, ValueError):
    """A file or an array cannot be used as data."""


class UnsupportedError(LatensError, NotImplementedError):
    """The request is meaningful, but not for this object."""


class NumericalError(LatensError, ArithmeticError):
    """A computation left the finite numbers.

    Args:
        step: Optimiser step at which it happened.
        terms: Value of each loss term at that step.

    Attributes:
        history: Rows `(stage, step, quantity, value)` of the training until then; empty elsewhere.
    """

    exit_code = 3

    def __init__(
        self,
        argument: str,
        expected: str,
        got: object,
        remedy: str,
        step: int | None = None,
        terms: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(argument, expected, got, remedy)
        self.step = step
        self.terms = dict(terms or {})
        self.history: list[tuple[str, int, str, float]] = []

    def __reduce__(self):
        base = (self.argument, self.expected, self.got, self.remedy)
        return type(self), (*base, self.step, self.terms)


class SolverError(LatensError, RuntimeError):
    """A solver did not reach a usable answer.

    Args:
        status: Status word of the solver, for example `collapsed`.
        statistics: Numbers that led to this status.
    """

    exit_code = 4

    def __init__(
        self,
        argument: str,
        expected: str,
        got: object,
        remedy: str,
        status: str = "failed",
        statistics: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(argument, expected, got, remedy)
        self.status = status
        self.statistics = dict(statistics or {})

    def __reduce__(self):
        base = (self.argument, self.expected, self.got, self.remedy)
        return type(self), (*base, self.status, self.statistics)
