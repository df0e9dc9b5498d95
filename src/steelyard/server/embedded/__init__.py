"""The embedded platform: one supervisor that keeps every process of a home folder alive."""
