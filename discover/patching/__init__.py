"""Path patching: the plain reference and the self-check that both engines pass."""
