"""Following a tenant's log as it grows: channels of it, for any number of followers, none of whom misses anything or is told anything twice.

One feed for each tenant reads the log and hands its events on to those who follow. Each has a queue of its own that ends somewhere: who is too slow
for it is told so, reads from the log what he has not had, at his own pace, and joins the others again.
"""

from persistence.streams.channels import Channel
from persistence.streams.hub import Hub, Told

__all__ = ["Channel", "Hub", "Told"]
