"""Proofs that a database keeps the law."""
