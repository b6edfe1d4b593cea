"""The plane side by side with its peers, on one server, in one run: ``make bench``.

``work`` says what is measured, ``systems/`` how each system does it with its documented best settings, ``server`` where, ``report`` writes the
table and the chart. Each measurement runs in processes of its own.
"""
