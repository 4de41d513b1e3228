"""How gradients change what may learn."""

from backtalk.optim.tgd import TGD

__all__ = ["TGD"]
