"""The order of the steps: of `check`, of `fix`, of `verify`."""
