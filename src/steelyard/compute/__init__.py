"""Where attempts run and in what order: the scheduler, and executors behind one contract."""
