"""The study: everything that was measured on one task, in one database, and what it leads to."""
