"""Faults that can be switched on; the names and the clauses that each one breaks are in bugs.json."""

active = set()
without_resumption = without_hints = False


def bug(name):
    return name in active
