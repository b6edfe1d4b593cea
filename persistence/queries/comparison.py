"""What two runs have in common, and where they part."""

from collections.abc import Sequence
from difflib import SequenceMatcher
from itertools import zip_longest
from typing import Any
from uuid import UUID

from persistence.models import Model, Run, Step
from persistence.transaction import Transaction

_ALIGNED = 1_000
"""Steps; beyond this an alignment takes seconds."""


class StepPair(Model):
    """Steps that correspond; None where one run has none. differs: the fields that are not the same; ``status``, ``input_data`` and the like."""

    left: Step | None
    right: Step | None
    differs: Sequence[str]


class Comparison(Model):
    """differs: the fields of the runs that are not the same. steps: side by side, in order. parts_at: the index in ``steps`` of the first pair
    that differs; None: all are alike. effects: status and effect type, with how many of each the runs have, where that differs.
    """

    left: Run
    right: Run
    differs: Sequence[str]
    steps: Sequence[StepPair]
    parts_at: int | None
    effects: Sequence[tuple[str, str, int, int]]


async def compare_runs(tx: Transaction, left_id: UUID, right_id: UUID) -> Comparison:
    """Lays two runs of a tenant side by side. Raises NotFound."""
    left, right = await tx.runs.get(left_id), await tx.runs.get(right_id)
    pairs = _aligned(await _steps(tx, left_id), await _steps(tx, right_id))
    return Comparison(
        left=left,
        right=right,
        differs=_differences(left, right, ("run_type", "status", "input_data", "output_result", "error_details", "retry_count")),
        steps=pairs,
        parts_at=next((index for index, pair in enumerate(pairs) if pair.differs), None),
        effects=await _effects(tx, left_id, right_id),
    )


async def _steps(tx: Transaction, run_id: UUID) -> list[Step]:
    return sorted(await tx.steps.all(run_id=run_id), key=lambda step: (step.step_index or 0, step.id))


def _aligned(left: Sequence[Step], right: Sequence[Step]) -> list[StepPair]:
    """Pairs steps of the same type in the same order; what has no partner stands alone. Very long runs are paired by position."""
    if max(len(left), len(right)) > _ALIGNED:
        return [
            _pair(a, b)
            if a and b and a.step_type == b.step_type
            else StepPair(left=a, right=b, differs=["step_type" if a and b else "missing"])
            for a, b in zip_longest(left, right)
        ]
    matcher = SequenceMatcher(None, [step.step_type for step in left], [step.step_type for step in right], autojunk=False)
    pairs: list[StepPair] = []
    for _, from_left, to_left, from_right, to_right in matcher.get_opcodes():
        mine, theirs = left[from_left:to_left], right[from_right:to_right]
        if [step.step_type for step in mine] == [step.step_type for step in theirs]:
            pairs += [_pair(a, b) for a, b in zip(mine, theirs, strict=True)]
        else:
            pairs += [StepPair(left=step, right=None, differs=["missing"]) for step in mine]
            pairs += [StepPair(left=None, right=step, differs=["missing"]) for step in theirs]
    return pairs


def _pair(left: Step, right: Step) -> StepPair:
    differs = _differences(left, right, ("status", "input_data", "output_result", "error_details", "retry_count"))
    return StepPair(left=left, right=right, differs=differs)


def _differences(left: Any, right: Any, fields: Sequence[str]) -> list[str]:
    return [name for name in fields if getattr(left, name) != getattr(right, name)]


async def _effects(tx: Transaction, left_id: UUID, right_id: UUID) -> list[tuple[str, str, int, int]]:
    counts: dict[tuple[str, str], list[int]] = {}
    for effect in await tx.effects.all(run_id=[left_id, right_id]):
        counts.setdefault((effect.effect_type, effect.status), [0, 0])[effect.run_id == right_id] += 1
    return [(kind, status, mine, theirs) for (kind, status), (mine, theirs) in sorted(counts.items()) if mine != theirs]
