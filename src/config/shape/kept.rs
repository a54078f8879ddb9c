//! The keys about what is kept: files, by conf/forge.yaml and by a tier; usage on its way to the store.

use super::{COUNT, Key, Shape, key};

pub(super) const FILES: &[Key] = &[
    key("at", Shape::Text, "A directory, or s3://bucket/prefix."),
    key("file_bytes_max", Shape::Bytes, "Of one file; a tier may narrow it. Over it: 413."),
    key("endpoint", Shape::Text, "S3: the service's URL. Default: AWS'."),
    key("region", Shape::Text, "S3: the region. Default: AWS_REGION."),
    key("access_key", Shape::Secret, "S3: env:NAME or file:PATH. Default: AWS_ACCESS_KEY_ID, then the machine's role."),
    key("secret_key", Shape::Secret, "S3: env:NAME or file:PATH. Default: AWS_SECRET_ACCESS_KEY."),
    key("encryption", Shape::Choice(ENCRYPTION), "S3: encryption at rest that is asked for. Default: the bucket's."),
    key("kms_key", Shape::Text, "S3: the key of encryption kms or dsse. Default: the account's."),
    key("customer_key", Shape::Secret, "S3: the key of encryption customer, 32 bytes in base64."),
];

const ENCRYPTION: &[&str] = &["aes256", "kms", "dsse", "customer"];

pub(super) const FILE_LIMITS: &[Key] = &[
    key("file_bytes_max", Shape::Bytes, "Of one file. Over it: 413. Default: the process' own."),
    key("key_bytes_max", Shape::Bytes, "Of one key's files together. Over it: 403. Default: 100GiB."),
    key("key_files_max", COUNT, "Files of one key. Over it: 403. Default: 10k."),
    key("tier_bytes_max", Shape::Bytes, "Of all files of the tier's keys. Over it: 403. Default: no bound."),
    key("tier_files_max", COUNT, "Files of all the tier's keys. Over it: 403. Default: no bound."),
    key("share", Shape::Choice(&["none", "team"]), "Who else sees a key's files. Default: none."),
];

pub(super) const USAGE: &[Key] = &[
    key("journal", Shape::Text, "The folder where usage waits until the store has it."),
    key("journal_bytes_max", Shape::Bytes, "Of all that waits. Over it: lost, counted and logged."),
];
