"""Flows: orchestrations that run themselves. What a flow is, what it has in its hands, and how it is started; ``persistence.executor`` executes
them.
"""

from persistence.flows.attempt import Attempt, attempt, heartbeat
from persistence.flows.client import FlowClient, Handle
from persistence.flows.definitions import Definition, Flows, Retry
from persistence.flows.flow import Flow

__all__ = ["Attempt", "Definition", "Flow", "FlowClient", "Flows", "Handle", "Retry", "attempt", "heartbeat"]
