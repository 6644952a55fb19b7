"""Pure logic: frozen values and functions of them. No clock, no async, no third-party import."""
