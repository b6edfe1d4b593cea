"""Structured logs: JSON Lines in files, one line a thing that happened.

A line has ``timestamp``, ``agent``, ``event`` and ``summary``, where it is known ``tenant_id``, ``correlation_id`` and ``trace_id``, and whatever
else was said:

    {"timestamp":"2025-06-21T20:55:00.000000Z","level":"info","agent":"kAI.dev.assistant","event":"plan_generated","summary":"Plan created for
    task: …"}

Calling a log puts the line into a bounded queue; a thread makes it JSON, takes secrets out (``redaction``) and appends it (``files``). So a call
takes microseconds, and no event loop waits for a disk. What does not fit, or finds no room on the disk, is counted, and the count is a line as
soon as lines go again. Each write is of whole lines; several processes share the files. ``shipping`` sends them on to Logstash from the files
themselves, so that what it was away for is there when it is back.

These are not the log of events: they explain a process, and are removed after ``max_days``.
"""

from persistence.logs.agents import AgentLog, agent_log
from persistence.logs.configuration import LogConfig, read_log_config
from persistence.logs.redaction import REDACTED, Redactions
from persistence.logs.sink import LogSink, open_logs

__all__ = ["REDACTED", "AgentLog", "LogConfig", "LogSink", "Redactions", "agent_log", "open_logs", "read_log_config"]
