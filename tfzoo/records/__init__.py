"""Records of tasks in plain Python: what their answers and references consist of."""
