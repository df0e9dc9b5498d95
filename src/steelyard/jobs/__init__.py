"""The job: submission, commands, the lives of its attempts, and what people see of it."""
