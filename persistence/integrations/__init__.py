"""What frameworks for agents ask of a store, on the plane: one file an interface, each with an extra of its own."""
