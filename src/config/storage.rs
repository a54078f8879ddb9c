//! `files:` of conf/forge.yaml, where uploaded files are kept, and `files:` of a tier, how much its keys may keep.

use std::fmt;
use std::path::PathBuf;

use super::amount;
use super::place::Place;
use super::secret::Secrets;

/// Where the bytes of uploaded files are kept, and how large one may be.
#[derive(Debug, Clone)]
pub struct FilesConf {
    /// `files.at`. Default `data/files`.
    pub at: FilesAt,
    /// `files.file_bytes_max`: of one file; a tier may narrow it. Default 512 MiB. Answer: 413.
    pub file_bytes_max: u64,
}

/// A place for the bytes of files.
#[derive(Debug, Clone)]
pub enum FilesAt {
    /// A directory; made when the first file comes.
    Disk(PathBuf),
    /// A bucket of S3, or of anything that speaks its API.
    S3(S3Conf),
}

/// A bucket and how it is reached. What is left out comes from the `AWS_…` variables of the environment, then from
/// the machine's own role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Conf {
    /// The bucket of `s3://bucket/prefix`.
    pub bucket: String,
    /// The prefix there, without slashes at its ends; may be empty.
    pub prefix: String,
    /// `files.endpoint`: the service's URL, if it is not AWS'.
    pub endpoint: Option<String>,
    /// `files.region`.
    pub region: Option<String>,
    /// `files.access_key`.
    pub access_key: Option<Secret>,
    /// `files.secret_key`.
    pub secret_key: Option<Secret>,
    /// `files.encryption`, `files.kms_key`, `files.customer_key`.
    pub encryption: Encryption,
}

/// Encryption at rest that is asked for with each object.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/serv-side-encryption.html>
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Encryption {
    /// Whatever the bucket does by itself.
    #[default]
    Bucket,
    /// `aes256`: SSE-S3.
    Aes256,
    /// `kms`: SSE-KMS with this key, or the account's own.
    Kms(Option<String>),
    /// `dsse`: twice, by KMS.
    Dsse(Option<String>),
    /// `customer`: SSE-C with this key of 32 bytes in base64; nobody reads the files without it.
    Customer(Secret),
}

/// A secret that was resolved. `Debug` never shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The secret itself, for whoever presents it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// How much a tier's keys may keep. `None` is without a bound of the tier's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileLimits {
    /// `file_bytes_max`: of one file. Answer: 413.
    pub file_bytes_max: Option<u64>,
    /// `key_bytes_max`: of one key's files together. Default 100 GiB. Answer: 403.
    pub key_bytes_max: u64,
    /// `key_files_max`: files of one key. Default 10 000. Answer: 403.
    pub key_files_max: u64,
    /// `tier_bytes_max`: of all files of the tier's keys. Answer: 403.
    pub tier_bytes_max: Option<u64>,
    /// `tier_files_max`: files of all the tier's keys. Answer: 403.
    pub tier_files_max: Option<u64>,
    /// `share`: who else sees a key's files. Default nobody.
    pub share: ShareFiles,
}

/// Who sees the files of a key besides the key itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ShareFiles {
    /// Nobody.
    #[default]
    None,
    /// Keys of the same team whose own tier says the same.
    Team,
}

impl Default for FilesConf {
    fn default() -> Self {
        Self { at: FilesAt::Disk(PathBuf::from("data/files")), file_bytes_max: 512 << 20 }
    }
}

impl Default for FileLimits {
    fn default() -> Self {
        Self {
            file_bytes_max: None,
            key_bytes_max: 100 << 30,
            key_files_max: 10_000,
            tier_bytes_max: None,
            tier_files_max: None,
            share: ShareFiles::None,
        }
    }
}

impl FilesConf {
    pub(super) fn read(files: &Place<'_>, secrets: &Secrets<'_>) -> Self {
        let default = Self::default();
        let at = files.get_or_short("at").and_then(|at| FilesAt::read(&at, (files, secrets)));
        Self {
            at: at.unwrap_or(default.at),
            file_bytes_max: files.read("file_bytes_max", amount::bytes).unwrap_or(default.file_bytes_max),
        }
    }
}

impl FilesAt {
    fn read(at: &Place<'_>, (files, secrets): (&Place<'_>, &Secrets<'_>)) -> Option<Self> {
        let text = at.text()?;
        match text.strip_prefix("s3://") {
            Some(bucket) => S3Conf::read(at, bucket, (files, secrets)).map(Self::S3),
            None if text.contains("://") => {
                at.fault("neither a directory nor s3://bucket/prefix");
                None
            }
            None => {
                for name in ["endpoint", "region", "access_key", "secret_key", "encryption", "kms_key", "customer_key"]
                {
                    files.get(name).inspect(|key| key.fault("means something with s3:// only"));
                }
                Some(Self::Disk(PathBuf::from(text)))
            }
        }
    }
}

impl S3Conf {
    fn read(at: &Place<'_>, bucket: &str, (files, secrets): (&Place<'_>, &Secrets<'_>)) -> Option<Self> {
        let (bucket, prefix) = bucket.split_once('/').unwrap_or((bucket, ""));
        if bucket.is_empty() {
            at.fault("names no bucket: s3://bucket/prefix");
            return None;
        }
        let secret = |name: &str| files.get(name).and_then(|place| secrets.resolve(&place)).map(Secret);
        let text = |name: &str| files.get(name).and_then(|place| place.text()).map(str::to_owned);
        if let Some(endpoint) = files.get("endpoint").filter(|place| !is_http(place.text().unwrap_or_default())) {
            endpoint.fault("not a URL that begins in https:// or http://");
        }
        if files.get("access_key").is_some() != files.get("secret_key").is_some() {
            at.fault("'access_key' and 'secret_key' go together");
        }
        Some(Self {
            bucket: bucket.to_owned(),
            prefix: prefix.trim_matches('/').to_owned(),
            endpoint: text("endpoint"),
            region: text("region"),
            access_key: secret("access_key"),
            secret_key: secret("secret_key"),
            encryption: encryption(files, (text("kms_key"), secret("customer_key"))),
        })
    }
}

fn encryption(files: &Place<'_>, (kms_key, customer_key): (Option<String>, Option<Secret>)) -> Encryption {
    let Some(place) = files.get("encryption") else { return Encryption::Bucket };
    match (place.text(), customer_key) {
        (Some("aes256"), _) => Encryption::Aes256,
        (Some("kms"), _) => Encryption::Kms(kms_key),
        (Some("dsse"), _) => Encryption::Dsse(kms_key),
        (Some("customer"), Some(key)) => Encryption::Customer(key),
        (Some("customer"), None) => {
            place.fault("needs 'customer_key'");
            Encryption::Bucket
        }
        // The shape has reported every other word.
        _ => Encryption::Bucket,
    }
}

fn is_http(url: &str) -> bool {
    url.starts_with("https://") || url.starts_with("http://")
}

impl FileLimits {
    pub(super) fn read(files: &Place<'_>) -> Self {
        let default = Self::default();
        let share = |word: &str| Some(if word == "team" { ShareFiles::Team } else { ShareFiles::None });
        Self {
            file_bytes_max: files.read("file_bytes_max", amount::bytes),
            key_bytes_max: files.read("key_bytes_max", amount::bytes).unwrap_or(default.key_bytes_max),
            key_files_max: files.read("key_files_max", amount::count).unwrap_or(default.key_files_max),
            tier_bytes_max: files.read("tier_bytes_max", amount::bytes),
            tier_files_max: files.read("tier_files_max", amount::count),
            share: files.read("share", share).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::ProcessConf;
    use super::*;

    fn files(text: &str) -> Result<FilesConf, String> {
        ProcessConf::parse(text, "forge.yaml").map(|conf| conf.files).map_err(|faults| faults.to_string())
    }

    #[test]
    fn a_directory_or_a_bucket() {
        assert!(
            matches!(files("files: /srv/files").unwrap().at, FilesAt::Disk(path) if path.as_os_str() == "/srv/files")
        );
        let text = "files: { at: s3://b/p/q/, endpoint: http://localhost:9, access_key: plain:a, secret_key: plain:hush, \
                    encryption: kms, kms_key: k, file_bytes_max: 1GiB }";
        let conf = files(text).unwrap();
        let FilesAt::S3(s3) = &conf.at else { panic!("{conf:?}") };
        assert_eq!((s3.bucket.as_str(), s3.prefix.as_str(), conf.file_bytes_max), ("b", "p/q", 1 << 30));
        assert_eq!(s3.encryption, Encryption::Kms(Some("k".into())));
        assert!(!format!("{conf:?}").contains("hush"), "{conf:?}");
        assert_eq!(s3.secret_key.as_ref().unwrap().reveal(), "hush");
    }

    #[test]
    fn faults_are_named() {
        for (text, expected) in [
            ("files: s3://", "names no bucket"),
            ("files: gs://b", "neither a directory nor s3"),
            ("files: { at: data, region: x }", "means something with s3:// only"),
            ("files: { at: s3://b, access_key: plain:a }", "go together"),
            ("files: { at: s3://b, endpoint: localhost }", "not a URL"),
            ("files: { at: s3://b, encryption: customer }", "needs 'customer_key'"),
            ("files: { at: s3://b, encryption: rot13 }", "is not one of"),
            ("files: { at: s3://b, access_key: a, secret_key: b }", "must not stand here itself"),
        ] {
            let found = files(text).unwrap_err();
            assert!(found.contains(expected), "{text}: {found}");
        }
    }
}
