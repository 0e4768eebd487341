"""What was measured, what it is held to, and the table of both."""

import dataclasses
import json


@dataclasses.dataclass
class Figure:
    """Many measurements of one fault. `goal` is (least, most); with `at` the most holds for that quantile only."""

    fault: str
    unit: str
    values: list
    goal: tuple
    at: float = 1.0

    def quantile(self, share):
        ordered = sorted(self.values)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    def met(self):
        least, most = self.goal
        return bool(self.values) and least <= min(self.values) and self.quantile(self.at) <= most

    def goal_text(self):
        least, most = (f"{bound:g}" for bound in self.goal)
        if least == most:
            return f"{most}"
        if self.at < 1.0:
            return f"p{100 * self.at:g} ≤ {most}"
        return f"≤ {most}" if self.goal[0] <= 0 else f"{least} to {most}"

    def row(self):
        cells = [short(self.quantile(share)) for share in (0.0, 0.5, 0.99, 1.0)] if self.values else ["-"] * 4
        name = f"{self.fault}, {self.unit}" if self.unit else self.fault
        return f"| {name} | {len(self.values)} | {' | '.join(cells)} | {self.goal_text()} | {'yes' if self.met() else 'NO'} |"

    def json(self):
        return json.dumps(dataclasses.asdict(self))


HEAD = "| fault | times | least | median | p99 | most | goal | met |\n|---|--:|--:|--:|--:|--:|---|---|"


def short(value):
    return f"{value:.2f}".rstrip("0").rstrip(".") if abs(value) < 100 else f"{value:.0f}"
