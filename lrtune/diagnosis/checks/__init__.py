"""One file for each kind of check: pure functions of what was observed."""
