"""What workflows may do to the world: parse, call one service, heartbeat."""
