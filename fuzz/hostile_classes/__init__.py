"""Classes of hostile and odd models, a module each; `hostile.py` puts them together."""
