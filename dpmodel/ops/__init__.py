"""Pure functions of arrays: no settings, no parameters, no state."""
