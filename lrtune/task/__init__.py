"""The user's task: a model, data, a loss and an optimizer, copied and checked."""
