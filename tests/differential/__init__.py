"""Random inputs, the same to tfzoo and to a reference implementation in a process of its own, and what differs."""
