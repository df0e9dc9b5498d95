"""Tables, transactions, the outbox, encryption and migrations. PostgreSQL only."""
