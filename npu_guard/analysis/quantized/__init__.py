"""Quantized networks read as what they compute: operators on numbers that are held as integers with scale and zero point."""
