"""Checkpoints: the machine CHECKPOINT of the canon."""

from collections.abc import Sequence
from hashlib import sha256
from typing import Any, Final, Unpack
from uuid import UUID

from persistence.database.tables import RUN_CHECKPOINTS
from persistence.encoding import check, encode_bytes
from persistence.models import Checkpoint, Run, Step
from persistence.repositories.base import AggregateRepository, Details, checked

# Those whose labels begin with a text, the last label first; before: labels before this one.
_LABELLED: Final = """
SELECT c.id, c.label
FROM persistence.run_checkpoints AS c
WHERE c.tenant_id = $1
  AND ($2::uuid[] IS NULL OR c.run_id = ANY ($2))
  AND c.status = 'SAVED'
  AND c.label >= $3
  AND starts_with(c.label, $3)
  AND ($4::text IS NULL OR c.label < $4)
ORDER BY c.label DESC, c.id DESC
LIMIT $5
"""


class CheckpointRepository(AggregateRepository[Checkpoint]):
    """Saved states of runs. The log keeps their digest and size only."""

    table = RUN_CHECKPOINTS
    model = Checkpoint

    def save(
        self,
        origin: Run | Step,
        state: Any,
        *,
        label: str | None = None,
        checkpoint_id: UUID | None = None,
        **details: Unpack[Details],
    ) -> Checkpoint:
        """Saves a state (JSON) to resume from, after a step or at any moment of a run. label: at most 200 characters."""
        checked(origin, "origin", Run, Step)
        check(state, "state")
        text = encode_bytes(state)
        data = {
            "run_id": origin.run_id if isinstance(origin, Step) else origin.id,
            "step_id": origin.id if isinstance(origin, Step) else None,
            "label": label,
            "digest": sha256(text).hexdigest(),
            "size_bytes": len(text),
        }
        return self._begin(
            "CHECKPOINT_SAVED",
            data,
            details,
            cause=origin,
            item_id=checkpoint_id,
            attachment=text.decode(),
            fields={"state": state},
        )

    async def latest(self, run: Run) -> Checkpoint | None:
        """The newest state of a run that was not discarded."""
        page = await self.list(limit=1, newest_first=True, run_id=run.id, status="SAVED")
        return page.items[0] if page.items else None

    async def labelled(
        self, beginning: str, runs: Sequence[Run] | None = None, *, before: str | None = None, limit: int | None = None
    ) -> list[Checkpoint]:
        """Those that are not discarded and whose labels begin so, in the falling order of their labels. runs: only of these; before: only those whose
        labels come before this one; limit: at most so many.
        """
        ids = None if runs is None else [run.id for run in runs]
        rows = await self._work.fetch(_LABELLED, self._work.context.tenant_id, ids, beginning, before, limit)
        found = {item.id: item for item in await self.get_many([row["id"] for row in rows])}
        return [found[row["id"]] for row in rows if row["id"] in found]

    def restore(self, checkpoint: Checkpoint, **details: Unpack[Details]) -> Checkpoint:
        """Notes that a run was resumed from this state."""
        return self._advance(checkpoint, "CHECKPOINT_RESTORED", {}, details)

    def discard(self, checkpoint: Checkpoint, **details: Unpack[Details]) -> Checkpoint:
        """Drops the state; its digest stays."""
        return self._advance(checkpoint, "CHECKPOINT_DISCARDED", {}, details)
