"""How many workers KEDA asks for: the rules of a HorizontalPodAutoscaler on an average value, with the base's limits."""

from collections import deque
from dataclasses import dataclass, field
from math import ceil

from benchmarks.scaling.scenario import Scaling

# a HorizontalPodAutoscaler leaves a ratio alone that is this near to one
TOLERANCE = 0.1


@dataclass
class Scaler:
    """Remembers what was asked for lately: it follows a rise at once, and a fall when it lasts."""

    scaling: Scaling
    value: float
    asked: deque[tuple[float, int]] = field(default_factory=deque)
    removed: deque[tuple[float, int]] = field(default_factory=deque)

    def decide(self, now: float, messages: int, current: int) -> int:
        """The number of workers from now on; `messages` wait or are being worked on."""
        wanted = min(max(self.by_length(messages, current), self.scaling.least), self.scaling.most)
        self.asked.append((now, wanted))
        while self.asked[0][0] < now - self.scaling.calm_seconds:
            self.asked.popleft()
        if wanted > current:
            return min(wanted, self.highest(current))
        # the most that was asked for while it was to be calm
        calm = min(current, max(one for _, one in self.asked))
        fewer = max(calm, self.lowest(now, current))
        if fewer < current:
            self.removed.append((now, current - fewer))
        return fewer

    def by_length(self, messages: int, current: int) -> int:
        if abs(messages / (self.value * current) - 1) <= TOLERANCE:
            return current
        return ceil(messages / self.value)

    def highest(self, current: int) -> int:
        return max(ceil(current * (1 + self.scaling.up_share)), current + self.scaling.up_pods)

    def lowest(self, now: float, current: int) -> int:
        while self.removed and self.removed[0][0] <= now - self.scaling.down_period_seconds:
            self.removed.popleft()
        before = current + sum(count for _, count in self.removed)
        return min(current, int(before * (1 - self.scaling.down_share)))
