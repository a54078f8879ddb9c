"""An S3 server on a free port of loopback: moto's, with a bucket and a user whose signatures it checks.

Prints one line of JSON: endpoint, access_key, secret_key, bucket. Then each line on standard input is answered by one
line of JSON that says what the bucket holds: objects with their encryption, and unfinished multipart uploads. Ends
when its standard input is closed, so it does not outlive the test that started it.
"""

import contextlib
import json
import logging
import os
import sys

# moto knows who may do what once this many requests were made without it: those of `main` below.
SETUP_REQUESTS = 4
os.environ["INITIAL_NO_AUTH_ACTION_COUNT"] = str(SETUP_REQUESTS)
# Parts of a multipart upload as AWS bounds them.
os.environ.setdefault("S3_UPLOAD_PART_MIN_SIZE", str(5 << 20))

import boto3  # noqa: E402
from moto.server import ThreadedMotoServer  # noqa: E402

BUCKET = "forge-test"
ALLOWED = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}


def main():
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    nobody = dict(endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
    iam = boto3.client("iam", **nobody)
    iam.create_user(UserName="forge")
    iam.put_user_policy(UserName="forge", PolicyName="s3", PolicyDocument=json.dumps(ALLOWED))
    key = iam.create_access_key(UserName="forge")["AccessKey"]
    boto3.client("s3", **nobody).create_bucket(Bucket=BUCKET)
    known = {"endpoint": endpoint, "access_key": key["AccessKeyId"], "secret_key": key["SecretAccessKey"]}
    print(json.dumps({**known, "bucket": BUCKET}), flush=True)
    signed = dict(aws_access_key_id=known["access_key"], aws_secret_access_key=known["secret_key"])
    s3 = boto3.client("s3", **{**nobody, **signed})
    for _ in sys.stdin:
        print(json.dumps(held(s3)), flush=True)
    server.stop()


def held(s3):
    keys = [found["Key"] for found in s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])]
    encryption = {}
    for key in keys:
        # It may be deleted between the two requests.
        with contextlib.suppress(s3.exceptions.ClientError):
            encryption[key] = s3.head_object(Bucket=BUCKET, Key=key).get("ServerSideEncryption")
    uploads = s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])
    return {"objects": encryption, "uploads": [upload["Key"] for upload in uploads]}


main()
