"""The state of the database as Prometheus gauges, looked at when somebody asks, but not more often than every few seconds."""

import asyncio
from datetime import UTC, datetime
from typing import Final

import structlog
from prometheus_client import Gauge

from persistence.errors import PersistenceError
from persistence.plane import Plane
from persistence.queries.database_state import DatabaseState, database_state, standstill

_log = structlog.get_logger(__name__)

_PAUSE: Final = 5.0
_LONG_PAUSE: Final = 60.0

_UP = Gauge("persistence_database_up", "Whether the state of the database could be read.")
_ENTRIES = Gauge("persistence_outbox_entries", "Entries in the outbox's work list.", ["effect_type", "state"])
_OLDEST = Gauge("persistence_outbox_oldest_seconds", "How long the entry that is due longest has waited.", ["effect_type"])
_UNHANDLED = Gauge(
    "persistence_outbox_unhandled_entries",
    "Entries due for five minutes and more, of types that no worker handles.",
    ["effect_type"],
)
_TENANT = Gauge("persistence_outbox_tenant_entries", "Entries of the tenants that have the most.", ["tenant", "state"])
_TENANT_OLDEST = Gauge(
    "persistence_outbox_tenant_oldest_seconds", "How long the entry of theirs that is due longest has waited.", ["tenant"]
)
_RESTING = Gauge("persistence_destinations_resting", "Destinations that failed too often and rest.")
_STALLED = Gauge("persistence_stalled", "Runs under way, and tool calls, in which nothing has happened for an hour.", ["kind"])
_HORIZON = Gauge(
    "persistence_log_horizon_lag_seconds", "How long readers of the log have waited for the oldest open transaction.", ["holder"]
)
_BEHIND = Gauge(
    "persistence_consumer_behind_events",
    "Events of its channel that a consumer has not dealt with, among the next 2,000 of the log.",
    ["tenant", "consumer"],
)
_BEHIND_SECONDS = Gauge("persistence_consumer_behind_seconds", "The age of the first of them.", ["tenant", "consumer"])
_GATES = Gauge("persistence_gates", "Checks of the last recorded run of the gates.", ["verdict", "severity"])
_GATE = Gauge("persistence_gate_violations", "Objects that break the law, by check; only checks that are not green.", ["check"])
_GATES_AGE = Gauge("persistence_gates_age_seconds", "Since the gates were last run; nothing before the first time.", ["scope"])


class Collector:
    """Reads the database as an auditor."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane
        self._lock = asyncio.Lock()
        self._read_at: float | None = None
        self._looked_at: float | None = None

    async def refresh(self) -> None:
        """Sets the gauges, unless that was done a moment ago. A database that cannot be read is a gauge, too."""
        async with self._lock:
            now = asyncio.get_running_loop().time()
            if self._read_at is not None and now - self._read_at < _PAUSE:
                return
            try:
                _set(await database_state(self._plane.server.audit_dsn, self._plane.settings))
                if self._looked_at is None or now - self._looked_at >= _LONG_PAUSE:
                    found = await standstill(self._plane.server.audit_dsn, self._plane.settings)
                    _STALLED.labels("run").set(found.runs)
                    _STALLED.labels("tool_call").set(found.tool_calls)
                    self._looked_at = now
                _UP.set(1)
            except PersistenceError as error:
                _log.warning("metrics_without_database", error=str(error))
                _UP.set(0)
            self._read_at = now


def _set(state: DatabaseState) -> None:
    for gauge in (_ENTRIES, _OLDEST, _UNHANDLED, _TENANT, _TENANT_OLDEST, _HORIZON, _GATES, _GATE, _BEHIND, _BEHIND_SECONDS):
        gauge.clear()
    for item in state.types:
        for name in ("due", "waiting", "leased", "held", "dead"):
            _ENTRIES.labels(item.effect_type, name).set(getattr(item, name))
        _OLDEST.labels(item.effect_type).set(item.oldest_seconds)
        _UNHANDLED.labels(item.effect_type).set(item.unhandled)
    for tenant in state.tenants:
        _TENANT.labels(tenant.tenant, "dead").set(tenant.dead)
        _TENANT.labels(tenant.tenant, "open").set(tenant.entries - tenant.dead)
        _TENANT_OLDEST.labels(tenant.tenant).set(tenant.oldest_seconds)
    for lag in state.behind:
        _BEHIND.labels(lag.tenant, lag.consumer).set(lag.events)
        _BEHIND_SECONDS.labels(lag.tenant, lag.consumer).set(lag.seconds)
    _RESTING.set(state.resting_destinations)
    holder = state.holder
    name = (holder.application or holder.login or "?") if holder else "nobody"
    _HORIZON.labels(name).set(holder.seconds if holder else 0.0)
    if state.gates is not None:
        for verdict in ("passed", "violated", "failed", "skipped"):
            for severity in ("error", "warning"):
                number = sum(check.verdict == verdict and check.severity == severity for check in state.gates.checks)
                _GATES.labels(verdict, severity).set(number)
        for check in state.gates.broken:
            _GATE.labels(check.id).set(check.violations)
        _GATES_AGE.labels("database").set((datetime.now(UTC) - state.gates.ran_at).total_seconds())
