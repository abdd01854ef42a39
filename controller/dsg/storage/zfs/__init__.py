"""OpenZFS: one interface, the command line behind it, and a model of it in memory."""
