"""A handful of orchestrations to look at: loan applications that are approved, declined, retried, failed, and not delivered."""

from persistence.sample.loans import add_sample_handlers, play

__all__ = ["add_sample_handlers", "play"]
