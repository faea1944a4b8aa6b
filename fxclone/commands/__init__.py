"""Commands of the ground floor. Each module has `register(app)`; heavy imports stay inside the functions."""
