"""What the tests of the assignments are written with: short messages, no literal answers.

A test cell calls a student's function `on_its_own`, so that it cannot hand the question on to this
library, and says with `expect`, `expect_close` or `expect_number` what should have come out.
"""

from __future__ import annotations

import functools
import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

import dytemp

P = ParamSpec("P")
R = TypeVar("R")

LIBRARY = Path(dytemp.__file__).parent


class NotYetError(AssertionError):
    """A test that failed: Jupyter shows its message and no traceback."""

    def _render_traceback_(self) -> list[str]:
        return [f"Not yet: {self}"]


def expect(true: bool | Tensor, message: str) -> None:
    """Fail with a message unless something is true.

    Parameters
    ----------
    true : bool or boolean tensor
        What has to hold, everywhere.
    message : str
        What was expected, and for which input.

    Raises
    ------
    NotYetError
        If it does not hold.
    """
    if not bool(torch.as_tensor(true).all()):
        raise NotYetError(message)


def expect_close(
    found: Any, wanted: Tensor | float, what: str, rtol: float = 1e-6, atol: float = 1e-9
) -> None:
    """Fail unless a result agrees with a number or a tensor that another way leads to.

    Parameters
    ----------
    found : Any
        What the student's function returned.
    wanted : Tensor or float
        What it should be: computed in the test by other means, never typed in.
    what : str
        What it is, and for which input; the message begins with it.
    rtol, atol : float
        Tolerances, relative and absolute.

    Raises
    ------
    NotYetError
        If it is no number or tensor, of another shape, not finite, or too far off.
    """
    ours, theirs = torch.as_tensor(wanted).detach().double(), _numbers(found, what)
    expect(
        theirs.shape == ours.shape,
        f"{what}: expected the shape {tuple(ours.shape)}, got {tuple(theirs.shape)}",
    )
    excess = (theirs - ours).abs() - (atol + rtol * ours.abs())
    if bool((excess > 0).any()):
        place = int(excess.argmax())
        expected, got = ours.flatten()[place], theirs.flatten()[place]
        raise NotYetError(f"{what}: expected {expected:.6g}, got {got:.6g}")


def expect_number(found: Any, print_of_answer: str, what: str, decimals: int = 4) -> None:
    """Fail unless the rounded result has a fingerprint; the answer itself is not in the test.

    Parameters
    ----------
    found : Any
        What the student's function returned: a number or a tensor.
    print_of_answer : str
        The `fingerprint` of the right answer.
    what : str
        What it is, and for which input.
    decimals : int
        To how many decimals it has to be right.

    Raises
    ------
    NotYetError
        If it is no finite number or tensor, or another one.
    """
    if fingerprint(_numbers(found, what), decimals) != print_of_answer:
        raise NotYetError(f"{what}: expected another value (compared to {decimals} decimals)")


def fingerprint(values: Any, decimals: int = 4) -> str:
    """Return a hash of rounded numbers, for `expect_number`."""
    numbers = torch.as_tensor(values).detach().double().flatten().tolist()
    text = " ".join(f"{round(number, decimals) + 0.0:.{decimals}f}" for number in numbers)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def on_its_own(function: Callable[P, R]) -> Callable[P, R]:
    """Return a function that fails as soon as it calls this library.

    An assignment asks for a formula of `dytemp.losses`, `dytemp.schedules` or `dytemp.metrics`;
    a solution that imports it does not pass, under whatever name.

    Raises
    ------
    NotYetError
        (The returned function) if any code of the library runs inside.
    """

    @functools.wraps(function)
    def alone(*args: P.args, **kwargs: P.kwargs) -> R:
        def watch(frame: FrameType, event: str, argument: object) -> None:
            file = frame.f_code.co_filename
            if event == "call" and file != __file__ and Path(file).is_relative_to(LIBRARY):
                raise NotYetError(
                    f"{function.__name__} calls {Path(file).stem}.{frame.f_code.co_name} of the "
                    "library: write the formula yourself"
                )

        before = sys.getprofile()
        sys.setprofile(watch)
        try:
            return function(*args, **kwargs)
        finally:
            sys.setprofile(before)

    return alone


def _numbers(found: Any, what: str) -> Tensor:
    try:
        numbers = torch.as_tensor(found).detach().double()
    except (TypeError, ValueError, RuntimeError):
        kind = type(found).__name__
        raise NotYetError(f"{what}: expected a number or a tensor, got {kind}") from None
    expect(numbers.isfinite(), f"{what}: expected finite numbers, got NaN or infinity")
    return numbers
