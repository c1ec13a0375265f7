"""What is odd about a task, and why it does not learn: a registry of checks."""
