"""The read side, one file a question. Nothing here changes anything, and no command decides on what it says."""
