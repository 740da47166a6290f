"""One file for each dashboard; `panels` holds what they share."""
