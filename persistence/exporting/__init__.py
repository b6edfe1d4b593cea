"""Writers of the log for other tools: process mining reads XES and OCEL 2.0."""
