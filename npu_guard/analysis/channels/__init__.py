"""Widths in whole blocks of channels: which nodes have to agree on them, and what padding them takes."""
