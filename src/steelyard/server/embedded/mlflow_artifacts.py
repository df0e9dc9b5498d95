"""Where MLflow keeps its copies of models: in the bucket too, where there is one and MLflow can use it.

MLflow speaks to S3 by boto3 alone (`pip install 'steelyard[s3]'`), and can't bring a customer's key along:
without the one, or with the other, its copies stay in the local folder.
"""

import importlib.util
import json
import os

from steelyard.storage.bucket_settings import BucketSettings, read_settings, uses_bucket

DESTINATION = "_MLFLOW_SERVER_ARTIFACT_DESTINATION"
_FOLDER = "mlflow"


def artifacts_in_bucket() -> dict[str, str] | None:
    """Return MLflow's variables for artifacts in the bucket; None where they stay local.

    Raises:
        BucketMisconfigured: the settings can't be right.
    """
    if not uses_bucket() or why_artifacts_stay() is not None:
        return None
    settings = read_settings()
    found = {DESTINATION: f"{(settings.url or '').rstrip('/')}/{_FOLDER}"}
    if settings.encryption != "bucket-default":
        found["MLFLOW_S3_UPLOAD_EXTRA_ARGS"] = json.dumps(_encryption(settings))
    # boto3 knows the region by another name than the other clients do.
    region = os.environ.get("AWS_DEFAULT_REGION") or os.environ.get("AWS_REGION")
    return found | ({"AWS_DEFAULT_REGION": region} if region else {})


def why_artifacts_stay() -> str | None:
    """Return why MLflow's copies stay in the local folder though there is a bucket; None where they don't."""
    if importlib.util.find_spec("boto3") is None:
        return "boto3 isn't installed; `pip install 'steelyard[s3]'`"
    if read_settings().encryption == "sse-c":
        return "MLflow can't use a customer's key"
    return None


def _encryption(settings: BucketSettings) -> dict[str, str]:
    found: dict[str, str] = {"ServerSideEncryption": settings.encryption}
    if settings.kms_key_id is not None:
        found["SSEKMSKeyId"] = settings.kms_key_id
    return found
