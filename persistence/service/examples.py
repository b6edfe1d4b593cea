"""What answers look like, for the OpenAPI document: the life of one order, as all operations would tell it."""

from typing import Any, Final

_TENANT: Final = "0198c5f0-0000-7000-8000-000000000001"
_SIGNAL: Final = "0198c5f0-7a01-7000-8000-00000000a001"
_RUN: Final = "0198c5f0-7a02-7000-8000-00000000b001"
_STEP: Final = "0198c5f0-7a03-7000-8000-00000000c001"
_EFFECT: Final = "0198c5f0-7a04-7000-8000-00000000d001"
_MEMORY: Final = "0198c5f0-7a07-7000-8000-00000000a701"
_INDEX: Final = "0198c5f0-7a08-7000-8000-00000000a801"
_CORRELATION: Final = "0198c5f0-7a00-7000-8000-00000000e001"
_EVENTS: Final = tuple(f"0198c5f0-7a0{number}-7000-8000-00000000f00{number}" for number in range(1, 8))
_TIMES: Final = tuple(f"2026-01-31T12:00:0{number}.250000Z" for number in range(8))
_ERROR: Final = {"type": "ConnectError", "message": "the mail server does not answer"}


def _life(status: str, version: int, event: int, cause: int | None) -> dict[str, Any]:
    """What every aggregate has."""
    return {
        "tenant_id": _TENANT,
        "status": status,
        "version": version,
        "correlation_id": _CORRELATION,
        "causation_id": None if cause is None else _EVENTS[cause],
        "actor": "agent:order-desk",
        "last_event_id": _EVENTS[event],
        "created_at": _TIMES[0],
        "updated_at": _TIMES[event],
    }


_SIGNAL_: Final = {
    **_life("PROCESSED", 2, 2, None),
    "id": _SIGNAL,
    "source_channel": "web",
    "source_id": "order-4711",
    "signal_type": "order.placed",
    "signal_key": None,
    "payload": {"amount": 20},
    "error_details": None,
    "retry_count": 0,
    "received_at": _TIMES[0],
    "processed_at": _TIMES[2],
    "is_new": None,
}
_RUN_: Final = {
    **_life("COMPLETED", 2, 5, 0),
    "id": _RUN,
    "signal_id": _SIGNAL,
    "parent_run_id": None,
    "run_type": "order",
    "flow_version": None,
    "flow_key": None,
    "ordering_key": None,
    "priority": None,
    "starts_at": None,
    "deadline": None,
    "input_data": {"amount": 20},
    "output_result": {"charged": 20},
    "error_details": None,
    "wait_reason": None,
    "retry_count": 0,
    "started_at": _TIMES[1],
    "completed_at": _TIMES[5],
}
_RUN_LINE: Final = {
    name: _RUN_[name]
    for name in (
        "id", "run_type", "status", "version", "retry_count", "correlation_id", "signal_id", "actor", "wait_reason", "created_at", "started_at",
        "completed_at",
    )
} | {"error": None}  # fmt: skip
_EFFECT_: Final = {
    **_life("DEAD_LETTER", 3, 6, 3),
    "id": _EFFECT,
    "run_id": _RUN,
    "step_id": _STEP,
    "memory_id": None,
    "effect_type": "SEND_EMAIL",
    "idempotency_key": "order-4711/mail",
    "effect_spec": {"to": "ada@example.org", "idempotency_key": "order-4711/mail"},
    "retry_count": 2,
    "next_retry_at": None,
    "execution_result": None,
    "error_details": _ERROR,
    "executed_at": None,
    "cancel_requested_at": None,
    "is_awaited": None,
}
_MEMORY_: Final = {
    **_life("ACTIVE", 1, 1, 0),
    "id": _MEMORY,
    "agent": "agent:order-desk",
    "context": "workflow",
    "tags": ["delivery"],
    "run_id": _RUN,
    "step_id": _STEP,
    "supersedes": None,
    "superseded_by": None,
    "importance": 0.7,
    "valid_from": _TIMES[0],
    "valid_until": None,
    "ended_at": None,
    "is_embedded": None,
    "digest": "9c0a1c4c9c9e4d6e9a3c8b1df2a8b0a4b7f6c1a1c58b5d4d0a3a3c26f0f1a9c2",
    "size_bytes": 33,
    "content": "the customer prefers the mornings",
}
_RECALL_: Final = {
    **_life("RECALLED", 1, 4, 0),
    "id": "0198c5f0-7a09-7000-8000-00000000a901",
    "agent": "agent:order-desk",
    "run_id": _RUN,
    "step_id": None,
    "index_id": _INDEX,
    "memories": [_MEMORY],
}
_INDEX_: Final = {
    **_life("ACTIVE", 2, 3, 2),
    "id": _INDEX,
    "store": "pgvector",
    "model": "hashing-256",
    "dimensions": 256,
    "activated_at": _TIMES[3],
}
_FOUND: Final = {
    "score": 0.0325,
    "why": {"words_rank": 1, "words_score": 0.1, "vectors_rank": 2, "vectors_score": 0.61},
    "memory": _MEMORY_,
}
_ENTRY: Final = {
    **_life("DEAD_LETTER", 3, 6, 3),
    "id": _EFFECT,
    "aggregate_type": "EFFECT",
    "aggregate_id": _EFFECT,
    "event_type": "SEND_EMAIL",
    "idempotency_key": "order-4711/mail",
    "payload": {"to": "ada@example.org", "idempotency_key": "order-4711/mail"},
    "retry_count": 2,
    "next_retry_at": None,
    "error_details": _ERROR,
    "published_at": None,
    "priority": 0,
    "ordering_key": None,
    "destination": "mail.example.org",
    "traceparent": None,
    "blocks_key": None,
}
_EVENT: Final = {
    "tenant_id": _TENANT,
    "id": _EVENTS[6],
    "sequence_number": 4712,
    "transaction_id": 1234,
    "event_type": "EFFECT_DEAD_LETTERED",
    "event_version": 1,
    "aggregate_type": "EFFECT",
    "aggregate_id": _EFFECT,
    "aggregate_version": 3,
    "event_data": {"retry_count": 2, "error_details": _ERROR},
    "correlation_id": _CORRELATION,
    "causation_id": _EVENTS[5],
    "actor": "system:outbox-worker/w-1",
    "source": "outbox",
    "occurred_at": _TIMES[6],
    "created_at": _TIMES[6],
    "updated_at": _TIMES[6],
}
_TOKEN: Final = {
    "tenant_id": _TENANT,
    "id": "0198c5f0-7a09-7000-8000-000000001001",
    "name": "dashboard",
    "role": "reader",
    "acts_as": "agent:dashboard",
    "user_id": "00000000-0000-7000-8000-000000000001",
    "expires_at": "2026-05-01T12:00:00Z",
    "revoked_at": None,
    "created_at": _TIMES[0],
}
_BAR: Final = {
    "depth": 0,
    "kind": "run",
    "id": _RUN,
    "name": "order",
    "status": "COMPLETED",
    "begun": _TIMES[1],
    "ended": _TIMES[5],
}
_CAUSED: Final = {
    "event_id": _EVENTS[0],
    "event_type": "SIGNAL_RECEIVED",
    "aggregate_type": "SIGNAL",
    "aggregate_id": _SIGNAL,
    "aggregate_version": 1,
    "sequence_number": 4701,
    "occurred_at": _TIMES[0],
    "actor": "agent:order-desk",
    "causation_id": None,
    "depth": 0,
}
_NODE: Final = {"kind": "run", "id": _RUN, "name": "order", "status": "COMPLETED", "life": [], "children": []}

_FILE: Final = {
    "scope": "github.issues",
    "collectedAt": "2026-01-31T12:00:00Z",
    "createdAt": "2026-01-31T12:00:00.250Z",
    "sizeBytes": 12288,
    "sha256": "93a23971a914e5eacbf0a8d25154cda309c3c1c72fbb9914d47c60f3cb681588",
    "path": "github/issues/2026-01-31T12-00-00Z.json",
    "recorded": True,
    "signalId": _SIGNAL,
}
_SNAPSHOT_: Final[dict[str, Any]] = {
    **_life("VERIFIED", 2, 4, None),
    "id": "0198c5f0-7a09-7000-8000-00000000a009",
    "snapshot_kind": "agent",
    "folder": "2026-01-31T120005Z",
    "subject": "agent:order-desk",
    "position": "0-1042-7",
    "digest": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "size_bytes": 4711,
    "cause": "manual",
    "verified_at": _TIMES[5],
    "restored_at": None,
    "findings": {"events": 7, "rows": {"runs": 1}, "seconds": 0.1},
    "error_details": None,
}
_DIFFERENCE_: Final[dict[str, Any]] = {
    "run_id": _RUN,
    "run_type": "order",
    "what": "status",
    "then": "WAITING",
    "now": "RUNNING",
    "action": "suspend",
    "reason": None,
}

EXAMPLES: Final[dict[str, Any]] = {
    "Signal": _SIGNAL_,
    "IngestResponse": {"scope": "github.issues", "collectedAt": _FILE["collectedAt"], "status": "stored", "recorded": False},
    "DataFiles": {"scope": "github.issues", "items": [_FILE], "next": None},
    "Scopes": {
        "items": [{"scope": "github.issues", "files": 12, "sizeBytes": 147456, "latest": _FILE["collectedAt"], "unrecorded": 0}]
    },
    "Run": _RUN_,
    "RunLine": _RUN_LINE,
    "RunPage": {"items": [_RUN_LINE], "next": None},
    "Effect": _EFFECT_,
    "OutboxEntry": _ENTRY,
    "Event": _EVENT,
    "Entry": {"position": "0-1234-4712", "event": _EVENT},
    "EventPage": {"items": [{"position": "0-1234-4712", "event": _EVENT}], "next": "0-1234-4712"},
    "Page_Signal_": {"items": [_SIGNAL_], "next": None},
    "Page_Effect_": {"items": [_EFFECT_], "next": None},
    "DeadLetter": {"entry": _ENTRY, "attempts": [_EVENT]},
    "DeadLetterPage": {"items": [_ENTRY], "next": None},
    "DeadLetterGroup": {
        "effect_type": "SEND_EMAIL",
        "error_type": "ConnectError",
        "destination": "mail.example.org",
        "entries": 12,
        "first_at": _TIMES[0],
        "last_at": _TIMES[6],
    },
    "Moved": {"moved": [_EFFECT], "left": []},
    "ApiToken": _TOKEN,
    "Issued": {"token": "pp_…", "about": _TOKEN},
    "Trace": {"tenant_id": _TENANT, "correlation_id": _CORRELATION, "events": 7, "roots": [_NODE]},
    "Waterfall": {"begun": _TIMES[1], "ended": _TIMES[5], "bars": [_BAR]},
    "Causation": {"correlation_id": _CORRELATION, "events": [_CAUSED], "breaks": []},
    "RunDiagnosis": {
        "run": _RUN_,
        "moved_at": _TIMES[6],
        "quiet_seconds": None,
        "conclusion": "The run was completed. 1 effect could not be delivered: SEND_EMAIL was given up after 2 attempts, "
        "ConnectError: the mail server does not answer.",
        "next": f"persistence diagnose effect {_EFFECT}",
        "failed_steps": [],
        "waits_for": [],
        "effects": [_EFFECT_],
        "breaks": [],
    },
    "EffectDiagnosis": {
        "effect": _EFFECT_,
        "state": "dead",
        "conclusion": "It was given up at 2026-01-31 12:00:06 UTC after 2 attempts: ConnectError: the mail server does not answer.",
        "next": f"persistence dlq requeue {_EFFECT} once the cause is gone, or persistence dlq discard {_EFFECT} --reason …",
        "attempts": [_EVENT],
    },
    "Comparison": {"left": _RUN_, "right": _RUN_, "differs": [], "steps": [], "parts_at": None, "effects": []},
    "Overview": {
        "at": _TIMES[7],
        "seconds": 60.0,
        "events": {"RUN_STARTED": 120, "RUN_COMPLETED": 118, "EFFECT_EXECUTED": 117},
        "runs": {"RUNNING": 2, "COMPLETED": 10000, "FAILED": 3},
        "types": [{"run_type": "order", "runs": 2000, "failed": 3, "median_seconds": 0.8, "p95_seconds": 2.5}],
    },
    "Stalled": {
        "kind": "RUN",
        "run_id": _RUN,
        "run_type": "order",
        "status": "RUNNING",
        "actor": "agent:planner",
        "wait_reason": None,
        "tool_call_id": None,
        "tool_name": None,
        "moved_at": _TIMES[6],
        "seconds": 5400.0,
    },
    "Snapshot": _SNAPSHOT_,
    "Memory": _MEMORY_,
    "MemoryRecall": _RECALL_,
    "MemoryIndex": _INDEX_,
    "Page_Memory_": {"items": [_MEMORY_], "next": None},
    "MessagesOut": {"position": "0198c5f07a0a70008000000000000001-42"},
    "Consumers": {
        "items": [
            {
                "name": "billing",
                "channel": "type:RUN_COMPLETED",
                "position": "1-1234-5678",
                "behind": 3,
                "since": _TIMES[4],
                "actor": "user:ada",
                "created_at": _TIMES[0],
                "updated_at": _TIMES[3],
            }
        ]
    },
    "MemoryActivity": {"day": "2026-01-31", "agent": "agent:order-desk", "learned": 3, "used": 12},
    "MemoryStory": {
        "memory": _MEMORY_,
        "earlier": [],
        "later": [],
        "events": [],
        "effects": [],
        "indexes": [_INDEX_],
        "recalls": [_RECALL_],
    },
    "FoundOut": _FOUND,
    "FindingsOut": {"found": [_FOUND], "index": _INDEX_, "without": None},
    "DifferenceOut": _DIFFERENCE_,
    "RestorationOut": {"differences": [_DIFFERENCE_], "before": None, "snapshot": _SNAPSHOT_},
    "Secret": {
        **_life("HELD", 1, 1, None),
        "id": "0198c5f0-7a05-7000-8000-00000000a005",
        "name": "stripe",
        "number": 3,
        "secret_kind": "api_key",
        "key_id": "0198c5f0-7a06-7000-8000-00000000a006",
        "digest": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "expires_at": None,
        "max_reads": None,
    },
    "VaultAccess": {
        **_life("READ", 1, 4, 3),
        "id": "0198c5f0-7a07-7000-8000-00000000a007",
        "secret_id": "0198c5f0-7a05-7000-8000-00000000a005",
        "key_id": None,
        "purpose": "attempt 1 at effect 0198c5f0-7a04-7000-8000-00000000d001 (SEND_EMAIL)",
    },
    "SecretIn": {"value": "sk_live_…", "secret_kind": "api_key", "expires_at": None, "max_reads": None, "keep": 10},
    "SecretOut": {"name": "stripe", "version": 3, "value": "sk_live_…", "encoding": "utf-8"},
    "Erased": {"proofs": ["0198c5f0-7a08-7000-8000-00000000a008"]},
    "OutboxState": {
        "depth": [
            {"effect_type": "SEND_EMAIL", "due": 0, "waiting": 2, "leased": 1, "held": 0, "dead": 12, "lag_seconds": 0.0},
        ],
        "leases": [],
        "attendance": [{"effect_type": "SEND_EMAIL", "handled_at": _TIMES[6], "is_attended": True}],
        "destinations": [{"destination": "mail.example.org", "failures": 10, "open_until": _TIMES[7], "rests": True}],
    },
    "GatesRun": {
        "ran_at": _TIMES[7],
        "actor": "system:gates",
        "seconds": 2.4,
        "since": None,
        "sample": 100.0,
        "checks": [
            {
                "id": "FIT-DATA-QUALITY-001/state_is_the_fold",
                "verdict": "passed",
                "severity": "error",
                "violations": 0,
                "more": False,
                "seconds": 0.2,
            }
        ],
    },
}
"""By the name that a schema has in the document."""


def illustrated(document: dict[str, Any]) -> dict[str, Any]:
    """The document, its schemas with their examples."""
    for name, schema in document["components"]["schemas"].items():
        if name in EXAMPLES:
            schema["examples"] = [EXAMPLES[name]]
    return document
