"""A tenant's or a service's place on one machine: what keeps its files where they belong."""
