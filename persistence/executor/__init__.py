"""Executing flows: claiming runs, driving them, recording what they do, handing them over."""

from persistence.executor.executor import Executor

__all__ = ["Executor"]
