"""How agents and services log."""

from typing import Any
from uuid import UUID

from persistence.errors import InvalidInput
from persistence.logs.sink import LogSink, check_stream, traced

_current: LogSink | None = None


def use_sink(sink: LogSink | None) -> None:
    """Makes this the sink that agents' logs of this process write to."""
    global _current  # noqa: PLW0603
    _current = sink


def current_sink() -> LogSink | None:
    return _current


class AgentLog:
    """The log of one agent: ``log.info("plan_generated", "Plan created for task: draft UI skeleton")``.

    Every line may carry more: ``attributes={"task": 7}``, JSON or what can be written as text; tenant_id and correlation_id lead to the log of
    events.
    """

    __slots__ = ("_sink", "agent", "stream")

    def __init__(self, agent: str, *, stream: str | None = None, sink: LogSink | None = None) -> None:
        """agent: who logs, such as ``kAI.dev.assistant``. stream: the file it goes to, such as ``engine``; none: the common one. sink: none: the
        process's.
        """
        if not 1 <= len(agent) <= 200 or not agent.isprintable():
            raise InvalidInput("agent: must have 1 to 200 printable characters", field="agent")
        self.agent = agent
        self.stream = check_stream(stream)
        self._sink = sink

    def log(
        self,
        level: str,
        event: str,
        summary: str = "",
        *,
        tenant_id: UUID | None = None,
        correlation_id: UUID | None = None,
        attributes: dict[str, Any] | None = None,
    ) -> None:
        """A line. event: a word for programs; summary: a sentence for people."""
        sink = self._sink or _current
        if sink is None:
            return
        fields: dict[str, Any] = traced()
        if tenant_id is not None:
            fields["tenant_id"] = tenant_id
        if correlation_id is not None:
            fields["correlation_id"] = correlation_id
        if attributes:
            fields.update(attributes)
        sink.put(level, self.agent, event, summary, stream=self.stream, fields=fields)

    def debug(
        self,
        event: str,
        summary: str = "",
        *,
        tenant_id: UUID | None = None,
        correlation_id: UUID | None = None,
        attributes: dict[str, Any] | None = None,
    ) -> None:
        self.log("debug", event, summary, tenant_id=tenant_id, correlation_id=correlation_id, attributes=attributes)

    def info(
        self,
        event: str,
        summary: str = "",
        *,
        tenant_id: UUID | None = None,
        correlation_id: UUID | None = None,
        attributes: dict[str, Any] | None = None,
    ) -> None:
        self.log("info", event, summary, tenant_id=tenant_id, correlation_id=correlation_id, attributes=attributes)

    def warning(
        self,
        event: str,
        summary: str = "",
        *,
        tenant_id: UUID | None = None,
        correlation_id: UUID | None = None,
        attributes: dict[str, Any] | None = None,
    ) -> None:
        self.log("warning", event, summary, tenant_id=tenant_id, correlation_id=correlation_id, attributes=attributes)

    def error(
        self,
        event: str,
        summary: str = "",
        *,
        tenant_id: UUID | None = None,
        correlation_id: UUID | None = None,
        attributes: dict[str, Any] | None = None,
    ) -> None:
        self.log("error", event, summary, tenant_id=tenant_id, correlation_id=correlation_id, attributes=attributes)


def agent_log(agent: str, *, stream: str | None = None) -> AgentLog:
    """The log of an agent, into the files of this process (``persistence worker`` and ``serve`` open them; programs of your own call
    ``open_logs``).
    """
    return AgentLog(agent, stream=stream)
