"""Reading histories from elsewhere into the log.

A *case* is one orchestration as somebody else recorded it; it goes in whole or not at all. The ids of its events are made from what it is, so
that reading the same file again adds nothing.
"""
