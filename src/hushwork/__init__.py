"""hushwork: speech enhancement with stacked, bidirectional and clockwork recurrent networks."""

__version__ = "0.1.0"
