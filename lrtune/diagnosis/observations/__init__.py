"""What can be seen of a task, one kind of thing in each module; nobody judges it here."""
