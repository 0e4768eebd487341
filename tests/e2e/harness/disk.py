"""The disk below one folder, as one program meets it: slow, or silent."""

from .preloaded import Preloaded


class Disk(Preloaded):
    def __init__(self, directory, folder):
        super().__init__(directory, "slowdisk", "ADIT_SLOW_DISK")
        self.environment["ADIT_SLOW_FOLDER"] = str(folder)

    def slow(self, millis):
        """Lets every write, and every wait for the disk, take so long."""
        self.tell(millis)

    def hang(self):
        self.tell(1 << 62)

    def go_on(self):
        self.tell(0)
