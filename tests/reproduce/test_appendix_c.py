"""Appendix C holds the search to 2 % and 10 probes."""

from __future__ import annotations

import pytest

from fpdm.reproduce.appendix_c import AppendixC
from tests.reproduce.made import unmeasured, verdicts


@pytest.mark.parametrize(
    ("probes", "off", "verdict"),
    [(10, 0.02, "holds"), (11, 0.01, "does not hold here"), (5, 0.03, "does not hold here")],
)
def test_the_search_has_to_be_close_and_short(probes: int, off: float, verdict: str) -> None:
    found = {name: {"probes": probes, "off": off} for name in ("3", "5", "8")}
    assert verdicts(AppendixC(), lambda _: 1.0, **found) == [verdict]
    assert {claim.verdict for claim in unmeasured(AppendixC())} == {"not measured"}
