"""Models: versions with their lineage in our database, mirrored to MLflow."""
