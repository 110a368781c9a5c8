"""Sample networks through everything."""
