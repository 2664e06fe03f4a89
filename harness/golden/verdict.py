# SPDX-License-Identifier: GPL-2.0-or-later
"""Who is wrong: the verdict on three texts of the same scenario.

=======  =======  =======  ====================================================
golden   model    QEMU     verdict
=======  =======  =======  ====================================================
=        =        =        pass
=        =        other    QEMU deviates
other    =        =        the golden output is stale
=        other    =        the model is wrong, or lacks a capability
other    other    other    no two agree
=======  =======  =======  ====================================================

Two rows more: no golden output yet (``missing`` if model and QEMU agree), and no QEMU at hand
(then golden and model are compared, which cannot tell which of the two is wrong).  Three verdicts
are on two QEMUs, of one of which there are logs (:mod:`harness.golden.logs`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from .differences import difference
from .steps import without_marks


class Verdict(Enum):
    """The rows of the table; the value is the sentence that the user reads."""

    PASS = "golden output, model and QEMU agree"
    PASS_UNCONFIRMED = "golden output and model agree; no QEMU was asked"
    QEMU_DEVIATES = "QEMU deviates from the model and the golden output"
    GOLDEN_STALE = "the golden output is stale: model and QEMU agree on another one"
    MODEL_WRONG = "the model is wrong or lacks a capability: golden output and QEMU agree"
    NO_TWO_AGREE = "no two of golden output, model and QEMU agree"
    UNCONFIRMED = "golden output and model differ; no QEMU was asked which of them is right"
    MISSING = "there is no golden output yet; model and QEMU agree"
    MISSING_UNCONFIRMED = "there is no golden output yet; no QEMU was asked"
    MISSING_DIVERGES = "there is no golden output yet, and model and QEMU differ"
    AS_LOGGED = "QEMU says the same as the other QEMU's log"
    OTHERWISE = "QEMU says something else than the other QEMU's log"
    NOT_LOGGED = "there is no log of the other QEMU"

    @property
    def passes(self) -> bool:
        """Whether a check may go on."""
        return self in (Verdict.PASS, Verdict.PASS_UNCONFIRMED, Verdict.AS_LOGGED)

    @property
    def diverges(self) -> bool:
        """Whether model and QEMU differ: then no text is fit to be golden."""
        return self in (Verdict.QEMU_DEVIATES, Verdict.MODEL_WRONG, Verdict.NO_TWO_AGREE,
                        Verdict.MISSING_DIVERGES)

    @property
    def confirmed(self) -> bool:
        """Whether model and QEMU agree, so that their text may become the golden output."""
        return self in (Verdict.PASS, Verdict.GOLDEN_STALE, Verdict.MISSING)


@dataclass(frozen=True, slots=True)
class Witnesses:
    """The three texts.  ``golden`` None: no file; ``qemu`` None: nobody asked."""

    golden: str | None
    model: str
    qemu: str | None

    def verdict(self) -> Verdict:
        """The row of the table."""
        if self.golden is None:
            if self.qemu is None:
                return Verdict.MISSING_UNCONFIRMED
            return Verdict.MISSING if self.model == self.qemu else Verdict.MISSING_DIVERGES
        if self.qemu is None:
            return (Verdict.PASS_UNCONFIRMED if self.golden == self.model
                    else Verdict.UNCONFIRMED)
        if self.model == self.qemu:
            return Verdict.PASS if self.golden == self.model else Verdict.GOLDEN_STALE
        if self.golden == self.model:
            return Verdict.QEMU_DEVIATES
        said = without_marks(self.qemu)
        return Verdict.MODEL_WRONG if self.golden == said else Verdict.NO_TWO_AGREE

    def explain(self, golden_name: str, limit: int | None = None) -> str:
        """The differences that the verdict speaks of, a few lines or (no limit) all of them."""
        pairs: list[tuple[str, str, tuple[str, str]]] = []
        golden = "" if self.golden is None else self.golden
        verdict = self.verdict()
        if verdict in (Verdict.GOLDEN_STALE, Verdict.UNCONFIRMED, Verdict.MISSING,
                       Verdict.MISSING_UNCONFIRMED):
            pairs.append((golden, self.model, (golden_name, _AGREED[verdict])))
        elif verdict is Verdict.QEMU_DEVIATES and self.qemu is not None:
            pairs.append((self.model, self.qemu, (f"{golden_name}, model", "QEMU")))
        elif verdict is Verdict.MODEL_WRONG:
            pairs.append((golden, self.model, (f"{golden_name}, QEMU", "model")))
        elif verdict.diverges and self.qemu is not None:
            pairs.append((self.model, self.qemu, ("model", "QEMU")))
            if verdict is Verdict.NO_TWO_AGREE:
                pairs.append((golden, self.model, (golden_name, "model")))
        return "\n".join(difference(one, other, names, limit) for one, other, names in pairs)


_AGREED: Final = {
    Verdict.GOLDEN_STALE: "model, QEMU",
    Verdict.MISSING: "model, QEMU",
    Verdict.UNCONFIRMED: "model",
    Verdict.MISSING_UNCONFIRMED: "model",
}
