"""Data to learn from: in batches, in an order that a seed decides, as the Variables that operations take."""

from backtalk.data.collation import collate
from backtalk.data.datasets import Dataset, Subset, random_split
from backtalk.data.loader import DataLoader
from backtalk.data.samplers import RandomSampler, Sampler, SequentialSampler, WeightedRandomSampler

__all__ = [
    "DataLoader",
    "Dataset",
    "RandomSampler",
    "Sampler",
    "SequentialSampler",
    "Subset",
    "WeightedRandomSampler",
    "collate",
    "random_split",
]
