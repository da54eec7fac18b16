"""A folder of work: one line of a table is one video. On this machine's processes, or on a Ray cluster."""
