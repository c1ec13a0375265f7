"""The strategies: range test, search, comparison. Each is handed what trains runs."""
