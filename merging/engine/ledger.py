"""What every tensor got: rule, inputs, norms, dtypes, non-finite entries. Refuses merges that did nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite, sqrt
from typing import Any

from merging.errors import MergingError, SilentMergeError
from merging.lazy import Float, Tensor, torch
from merging.planning.plan import Job, Plan

Row = dict[str, Any]


@dataclass
class Account:
    """Sums over the blocks of one span; spans are added in order.

    squares    per operand: sum of squares of what the method saw of it
    shares     per operand: sum over entries of (what the operand saw) x (merged), the operand's part of the result
    same       per operand: whether every output entry so far equals the operand's, bit for bit
    """

    operands: int
    squares: list[float] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    same: list[bool] = field(default_factory=list)
    non_finite_inputs: list[int] = field(default_factory=list)
    merged_square: float = 0.0
    non_finite: int = 0
    digests: list[bytes] = field(default_factory=list)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.squares = self.squares or [0.0] * self.operands
        self.shares = self.shares or [0.0] * self.operands
        self.same = self.same or [True] * self.operands
        self.non_finite_inputs = self.non_finite_inputs or [0] * self.operands

    def add_operand(self, position: int, x: Float[Tensor, " n"]) -> None:
        """Count one operand's block: its square and, when that is not finite, the entries to blame."""
        square = float(torch.dot(x, x))
        if not isfinite(square):
            finite = torch.isfinite(x)
            self.non_finite_inputs[position] += x.numel() - int(finite.sum())
            square = float(torch.where(finite, x, 0.0).double().square().sum())
        self.squares[position] += square

    def add_merged(self, merged: Float[Tensor, " n"]) -> None:
        """Count one merged block's square; entries that are not finite leave it out."""
        square = float(torch.dot(merged, merged))
        if not isfinite(square):
            square = float(torch.nan_to_num(merged, 0.0, 0.0, 0.0).double().square().sum())
        self.merged_square += square

    def add_output(self, block: Float[Tensor, " n"], stored: Tensor, narrow: bool) -> None:
        """Count output entries that are not finite; `narrow` dtypes can overflow in the last rounding."""
        if narrow or not isfinite(float(torch.dot(block, block))):
            self.non_finite += stored.numel() - int(torch.isfinite(stored.to(torch.float32)).sum())

    def compare(self, position: int, raw: Tensor, stored: Tensor) -> None:
        """Keep track of whether the output is still equal to this operand."""
        if self.same[position]:
            seen = raw if raw.dtype == stored.dtype else raw.to(stored.dtype)
            self.same[position] = torch.equal(_bits(seen), _bits(stored))


def _bits(x: Tensor) -> Tensor:
    return x.view(torch.uint8)


def total(accounts: Sequence[Account]) -> Account:
    """The sum of spans, in their order."""
    whole = Account(accounts[0].operands)
    for part in accounts:
        for i in range(whole.operands):
            whole.squares[i] += part.squares[i]
            whole.shares[i] += part.shares[i]
            whole.same[i] = whole.same[i] and part.same[i]
            whole.non_finite_inputs[i] += part.non_finite_inputs[i]
        whole.merged_square += part.merged_square
        whole.non_finite += part.non_finite
        whole.digests += part.digests
        whole.seconds += part.seconds
    return whole


def row(job: Job, account: Account, digest: str, span: int, coefficients: Sequence[float] | None = None) -> Row:
    """One tensor's ledger entry as JSON data.

    `norm` of an operand is that of its task vector, or of its difference from the first operand when the method sees
    models; `share` is the norm of what it adds for linear methods, else its inner product with the merged tensor.
    `digest` is taken over spans of `span` entries.
    """
    operands = []
    for i, operand in enumerate(job.operands):
        entry: Row = {"model": operand.model, "tensor": operand.name, "same": account.same[i]}
        if job.rule == "merge":
            entry["norm"] = sqrt(account.squares[i])
            if coefficients is not None:
                entry["coefficient"] = coefficients[i]
                entry["share"] = abs(coefficients[i]) * entry["norm"]
            else:
                entry["share"] = account.shares[i]
        if account.non_finite_inputs[i]:
            entry["non_finite"] = account.non_finite_inputs[i]
        operands.append(entry)
    return {
        "tensor": job.spec.name,
        "shape": list(job.spec.shape),
        "dtype": job.spec.dtype,
        "rule": job.rule,
        "method": job.method,
        "parameters": {name: list(v) if isinstance(v, tuple) else v for name, v in job.parameters.items()},
        "layer": job.layer,
        "role": job.role,
        "note": job.note,
        "counted": job.counted,
        "base": [job.base.model, job.base.name] if job.base else None,
        "operands": operands,
        "merged_norm": sqrt(account.merged_square) if job.rule == "merge" else None,
        "non_finite": account.non_finite,
        "digest": digest,
        "span": span,
        "seconds": round(account.seconds, 4),
    }


def refuse_silent(plan: Plan, rows: Iterable[Row]) -> list[MergingError]:
    """What the merge silently did not do: inputs without effect, an output that is one of its inputs.

    Tensors that have one operand and no base model cannot be but what they are, and are not judged.
    """
    useful: dict[int, bool] = {}
    same: dict[int, bool] = {}
    reasons: dict[int, set[str]] = {}
    merged_any = False
    for entry in rows:
        if entry["rule"] != "merge" or (len(entry["operands"]) < 2 and entry["base"] is None):
            continue
        merged_any = True
        for i, operand in enumerate(entry["operands"]):
            model = operand["model"]
            if [model, operand["tensor"]] == entry["base"]:
                # It stands in for a model that lacks the tensor.
                continue
            # A model that equals the first one still adds its weight to it; a task vector of zeros adds nothing.
            linear = entry["base"] is None and "coefficient" in operand
            active = operand["coefficient"] != 0.0 if linear else operand["share"] != 0.0
            useful[model] = useful.get(model, False) or active
            same[model] = same.get(model, True) and operand["same"]
            if not active:
                reasons.setdefault(model, set()).add(_why_unused(operand, entry["parameters"], i))
    problems = [
        SilentMergeError(
            f"{plan.models[model].location} contributed nothing to any tensor: {', '.join(sorted(reasons[model]))}",
            must_be="an input that changes the result",
            fix="delete it from the recipe, give it a weight, or pass --allow-unused",
        )
        for model, active in useful.items()
        if not active
    ]
    equal = [model for model, value in same.items() if value] if merged_any else []
    problems += [
        SilentMergeError(
            f"the merge equals its input {plan.models[model].location} in every tensor",
            must_be="something other than one of the inputs",
            fix="check weights, densities and base_model in the recipe, or pass --allow-unused",
        )
        for model in equal
    ]
    return list[MergingError](problems)


def _why_unused(operand: Mapping[str, Any], parameters: Mapping[str, Any], position: int) -> str:
    weight = parameters.get("weight")
    value = weight[position] if isinstance(weight, list) else weight
    if operand["norm"] == 0.0 and value != 0.0:
        return "it does not differ from the model it is measured against"
    if value == 0.0:
        return "its weight is 0"
    return "nothing of it was kept"
