"""What the audit log of an agent says."""

import json

from .process import wait_until


def audited(adit, kind, **fields):
    """Waits for a record with these fields; `adit` runs a command for the agent and returns what it prints."""

    def look():
        records = [json.loads(line) for line in adit("audit", "show", "--output", "json").splitlines()]
        fit = [one for one in records if one["kind"] == kind and all(one.get(key) == value for key, value in fields.items())]
        return fit[-1] if fit else None

    return wait_until(look, f"{kind} {fields} in the audit log")
