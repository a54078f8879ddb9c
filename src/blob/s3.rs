//! A bucket's client, from our settings.

use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::{ClientOptions, RetryConfig};

use super::BlobError;
use crate::config::{Encryption, S3Conf};

/// The longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest wait for the next bytes of an answer.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// Tries beyond the first, and how long they may take together. A client waits for this.
const RETRIES_MAX: usize = 4;
const RETRY_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) fn client(conf: &S3Conf) -> Result<AmazonS3, BlobError> {
    let http = conf.endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://"));
    let options = ClientOptions::new()
        .with_allow_http(http)
        .with_connect_timeout(CONNECT_TIMEOUT)
        .with_read_timeout(READ_TIMEOUT)
        // A large part takes as long as it takes; a stall is noticed by the read timeout.
        .with_timeout_disabled();
    let retry = RetryConfig { max_retries: RETRIES_MAX, retry_timeout: RETRY_TIMEOUT, ..RetryConfig::default() };
    let mut builder =
        AmazonS3Builder::from_env().with_bucket_name(&conf.bucket).with_client_options(options).with_retry(retry);
    if let Some(endpoint) = &conf.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    if let Some(region) = &conf.region {
        builder = builder.with_region(region);
    }
    if let (Some(access), Some(secret)) = (&conf.access_key, &conf.secret_key) {
        builder = builder.with_access_key_id(access.reveal()).with_secret_access_key(secret.reveal());
    }
    Ok(encrypted(builder, &conf.encryption)?.build()?)
}

fn encrypted(builder: AmazonS3Builder, encryption: &Encryption) -> Result<AmazonS3Builder, BlobError> {
    let algorithm: AmazonS3ConfigKey = "aws_server_side_encryption".parse()?;
    Ok(match encryption {
        Encryption::Bucket => builder,
        Encryption::Aes256 => builder.with_config(algorithm, "AES256"),
        Encryption::Kms(Some(id)) => builder.with_sse_kms_encryption(id),
        Encryption::Kms(None) => builder.with_config(algorithm, "aws:kms"),
        Encryption::Dsse(Some(id)) => builder.with_dsse_kms_encryption(id),
        Encryption::Dsse(None) => builder.with_config(algorithm, "aws:kms:dsse"),
        Encryption::Customer(secret) => builder.with_ssec_encryption(secret.reveal()),
    })
}
