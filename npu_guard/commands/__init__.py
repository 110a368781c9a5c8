"""One file a command; `command` in it is what runs."""
