"""The wall clock of one program, moved, and nobody else's."""

from .preloaded import Preloaded


class Clock(Preloaded):
    def __init__(self, directory):
        super().__init__(directory, "wallclock", "ADIT_WALL_CLOCK")

    def move(self, seconds):
        self.tell(seconds)
