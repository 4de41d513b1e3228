"""Learning without a loop of one's own: epochs, measures, checkpoints, and when to stop."""

from backtalk.trainer.curve import draw
from backtalk.trainer.fitting import Fit
from backtalk.trainer.trainer import Trainer

__all__ = ["Fit", "Trainer", "draw"]
