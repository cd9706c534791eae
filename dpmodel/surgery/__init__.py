"""Changes to a finished model: its types, its output bias; and writing models only after they have been tried."""
