"""The read-only view of a graph: nodes, values, where in the user's Python they came from, and what each operator is."""
