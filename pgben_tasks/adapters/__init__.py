"""Everything that touches the world: the only place where vendor libraries appear."""
