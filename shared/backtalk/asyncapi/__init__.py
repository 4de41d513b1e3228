"""The AsyncAPI document: what the models and the topology say, in the form that other languages' tools read.

Nothing here is typed twice: names, arguments and constants come from the code that uses them. Only words are added.
"""

from backtalk.asyncapi.document import as_yaml, document
from backtalk.asyncapi.examples import NoExamples, read_examples

__all__ = ["NoExamples", "as_yaml", "document", "read_examples"]
