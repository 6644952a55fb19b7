"""Tools that code in the REPL calls: packed in the driver, run in a process of their own that holds no provider key."""
