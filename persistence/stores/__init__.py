"""What holds data beside the log: each a projection of it, which can be made again."""
