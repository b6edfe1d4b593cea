"""Following what happens in a tenant, for any number of followers, none of whom misses anything unawares or is told anything twice.

``hub``: for each tenant that somebody follows the log is read once and handed on. Each follower has a queue of his own that ends somewhere: who is
too slow for it is told so, reads what he has not had at his own pace, and joins the others again. ``consumers``: who follows and says how far he is.
``client``: the same from elsewhere, over a WebSocket. ``archive``: the log in files that are signed. ``nats``, ``targets``: to other brokers and
back.
"""

from persistence.models import Channel, Consumer, LivePosition
from persistence.streams.feeds import Told
from persistence.streams.hub import Follower, Hub

__all__ = ["Channel", "Consumer", "Follower", "Hub", "LivePosition", "Told"]
