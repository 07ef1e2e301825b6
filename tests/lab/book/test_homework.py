"""The words of the tests of assignments: short, and no way around the work."""

from __future__ import annotations

import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell

from dytemp import losses, schedules
from dytemp.lab.book.homework import (
    NotYetError,
    expect,
    expect_close,
    expect_number,
    fingerprint,
    on_its_own,
)


def test_expect_takes_truths_and_tensors_of_truths() -> None:
    expect(True, "fine")
    expect(torch.tensor([True, True]), "fine")
    with pytest.raises(NotYetError, match="the message"):
        expect(torch.tensor([True, False]), "the message")


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (torch.tensor([1.0, 2.5]), "values: expected 2, got 2.5"),
        (torch.tensor([1.0]), r"values: expected the shape \(2,\), got \(1,\)"),
        (torch.tensor([1.0, torch.nan]), "values: expected finite numbers"),
        (None, "values: expected a number or a tensor, got NoneType"),
        ("two", "values: expected a number or a tensor, got str"),
    ],
)
def test_expect_close_says_what_was_expected(found: object, words: str) -> None:
    with pytest.raises(NotYetError, match=words):
        expect_close(found, torch.tensor([1.0, 2.0]), "values")


def test_expect_close_takes_numbers_lists_and_tensors_of_any_dtype() -> None:
    expect_close(1, 1.0, "a number")
    expect_close([1.0, 2.0], torch.tensor([1.0, 2.0], dtype=torch.float64), "a list")
    expect_close(torch.tensor(1 / 3), 1 / 3, "float32")


def test_fingerprints_do_not_depend_on_noise_below_the_rounding() -> None:
    values = torch.tensor([0.12344, -0.00001])
    assert fingerprint(values) == fingerprint(values.double() + 1e-9) == fingerprint([0.1234, 0.0])
    assert fingerprint(values) != fingerprint(values, decimals=5)
    expect_number(values, fingerprint(values), "values")
    with pytest.raises(NotYetError, match="values: expected another value"):
        expect_number(values + 1, fingerprint(values), "values")


def borrowed(z1: torch.Tensor, z2: torch.Tensor) -> torch.Tensor:
    other_name = losses.NTXent
    result: torch.Tensor = other_name(0.5)(z1, z2)
    return result


def test_the_library_is_refused_under_any_name() -> None:
    views = torch.randn(2, 4, 3)
    with pytest.raises(NotYetError, match=r"borrowed calls .* of the library"):
        on_its_own(borrowed)(*views)
    with pytest.raises(NotYetError, match="schedules"):
        on_its_own(schedules.Cosine(0.1, 1.0, 10).at)(3)
    assert borrowed(*views).isfinite(), "outside of a test the library works again"


def test_own_work_passes_and_errors_come_through() -> None:
    def own(x: float) -> float:
        return 1 / x

    assert on_its_own(own)(4) == 0.25
    with pytest.raises(ZeroDivisionError):
        on_its_own(own)(0)


def test_a_failed_test_shows_one_line_in_jupyter() -> None:
    shell = InteractiveShell()
    shown: list[list[str]] = []
    shell._showtraceback = lambda etype, value, lines: shown.append(lines)  # type: ignore[method-assign]
    result = shell.run_cell(
        "from dytemp.lab.book.homework import expect\nexpect(False, 'loss of 8 anchors: above 0')"
    )
    assert not result.success
    assert shown == [["Not yet: loss of 8 anchors: above 0"]]
