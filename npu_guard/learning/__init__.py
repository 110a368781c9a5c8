"""A device file from a compiler's answers: which questions are worth asking, and what follows from what was said.

A form writes models of one operator from knobs; a search turns them; rules that no answer contradicts become limits.
"""
