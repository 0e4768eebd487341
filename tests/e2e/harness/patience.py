"""How long programs were ready to run and got no processor: what a test that measures a time must not hold against them."""

import pathlib

# Where the system does not tell, on a machine that is as busy as may be.
UNKNOWN = 10.0


class Starved:
    """Counts from its making on, over every thread of `pids` and of this process, so that it is rather too much than too little."""

    def __init__(self, *pids):
        self.pids = ["self", *pids]
        self.before = self._waited()

    def seconds(self):
        after = self._waited()
        if not after:
            return UNKNOWN
        return sum(waited - self.before.get(thread, 0) for thread, waited in after.items()) / 1e9

    def _waited(self):
        """Nanoseconds that each thread has waited for a processor (Documentation/scheduler/sched-stats.rst)."""
        waited = {}
        for pid in self.pids:
            for thread in pathlib.Path(f"/proc/{pid}/task").glob("*"):
                try:
                    waited[f"{pid}/{thread.name}"] = int((thread / "schedstat").read_text().split()[1])
                except (OSError, IndexError):
                    pass  # it has ended, or the system does not tell
        return waited
