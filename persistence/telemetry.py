"""What this package tells of itself while it works: Prometheus metrics, and OpenTelemetry spans.

Metrics go to the default registry of prometheus_client. Spans go to whatever tracer provider the process has set up; where it has set up none,
they cost nothing. A trace crosses the outbox: a request stores where it stands (W3C Trace Context), and its delivery goes on from there.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Protocol
from uuid import UUID

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from prometheus_client import Counter, Gauge, Histogram

_HANDLER_BUCKETS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300)
_WRITE_BUCKETS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5)
_WAIT_BUCKETS: Final = (0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 30, 60, 300, 3600)

EVENTS = Counter("persistence_events_appended", "Events that transactions of this process appended.")
TRANSACTIONS = Counter(
    "persistence_transactions", "Transactions that wrote, by outcome: committed, conflict or failed.", ["outcome"]
)
WRITE_SECONDS = Histogram(
    "persistence_transaction_seconds", "From leaving a transaction's block to its commit.", buckets=_WRITE_BUCKETS
)
RETRIES = Counter("persistence_transaction_retries", "Attempts that were repeated after a failure that passes.")
CLAIMED = Counter("persistence_outbox_claimed", "Entries leased by this process.", ["effect_type"])
SETTLED = Counter(
    "persistence_outbox_settled",
    "Attempts settled, by outcome: executed, failed (to be retried) or dead.",
    ["effect_type", "outcome"],
)
LEASES_LOST = Counter(
    "persistence_outbox_leases_lost", "Attempts whose lease had been lost when they were to be settled.", ["effect_type"]
)
HANDLER_SECONDS = Histogram("persistence_handler_seconds", "How long handlers took.", ["effect_type"], buckets=_HANDLER_BUCKETS)
WAIT_SECONDS = Histogram(
    "persistence_commit_to_start_seconds",
    "First attempts: from the request's record to the handler's start, by the clocks of database and host.",
    ["effect_type"],
    buckets=_WAIT_BUCKETS,
)
LISTENING = Gauge(
    "persistence_listener_up", "Whether a process that is to hear notifications does; otherwise it polls.", ["channel"]
)
POOL = Gauge("persistence_pool_connections", "Connections of this process's newest pool, by state: idle or busy.", ["state"])
DATA_POSTS = Counter(
    "persistence_data_posts", "Posts of data, by outcome: stored, known (this content or key came before) or refused.", ["outcome"]
)
DATA_UNRECORDED = Gauge("persistence_data_unrecorded", "Changes of data files that the database has not been told of yet.")

LOG_LINES = Counter("persistence_log_lines", "Lines that this process wrote into its log files.")
LOG_LINES_DROPPED = Counter("persistence_log_lines_dropped", "Lines that found no room, in the queue or on the disk.")
LOG_LINES_SHIPPED = Counter("persistence_log_lines_shipped", "Lines that a receiver of logs has acknowledged.")

_TRACER: Final = trace.get_tracer("persistence")
_PROPAGATOR: Final = TraceContextTextMapPropagator()
OUTCOMES: Final = {"EXECUTED": "executed", "FAILED": "failed", "DEAD": "dead", "BLOCKED": "dead"}
"""How the outcomes of ``settle_outbox`` are counted."""


def watch_pool(pool: Any) -> None:
    """Lets POOL tell of this pool from now on. pool: asyncpg's."""
    POOL.labels("busy").set_function(lambda: pool.get_size() - pool.get_idle_size())
    POOL.labels("idle").set_function(pool.get_idle_size)


def is_tracing() -> bool:
    """Whether this process has set up a tracer provider."""
    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider | trace.NoOpTracerProvider)


def traceparent() -> str | None:
    """Where the current span stands, as the W3C header has it; None where there is none."""
    if not is_tracing():
        return None
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return carrier.get("traceparent")


def trace_ids() -> dict[str, str]:
    """The ids of the current trace and span, in hexadecimal; nothing where there is none."""
    if not is_tracing():
        return {}
    where = trace.get_current_span().get_span_context()
    return {"trace_id": f"{where.trace_id:032x}", "span_id": f"{where.span_id:016x}"} if where.is_valid else {}


def continued(header: str | None) -> Context | None:
    """The context that a stored header names."""
    return _PROPAGATOR.extract({"traceparent": header}) if header else None


@contextmanager
def span(name: str, context: Context | None = None, kind: SpanKind = SpanKind.INTERNAL, **attributes: str | int) -> Iterator[None]:
    """A span around a block, where spans are kept. attributes: ``tenant_id`` becomes ``persistence.tenant_id``."""
    if not is_tracing():
        yield
        return
    named = {f"persistence.{key}": value for key, value in attributes.items()}
    with _TRACER.start_as_current_span(name, context, kind, named, record_exception=True, set_status_on_exception=True):
        yield


class Delivered(Protocol):
    """What a span around a handler says of a delivery."""

    @property
    def tenant_id(self) -> UUID: ...
    @property
    def effect_id(self) -> UUID: ...
    @property
    def attempt(self) -> int: ...
    @property
    def traceparent(self) -> str | None: ...


@contextmanager
def delivering(effect_type: str, deliveries: Sequence[Delivered]) -> Iterator[None]:
    """A span around a handler, in the trace that its request was made in; around a batch, in that of the first."""
    if not is_tracing():
        yield
        return
    first = deliveries[0]
    with span(
        f"persistence.deliver {effect_type}",
        continued(first.traceparent),
        SpanKind.CONSUMER,
        tenant_id=str(first.tenant_id),
        effect_id=str(first.effect_id),
        attempt=first.attempt,
        deliveries=len(deliveries),
    ):
        yield
