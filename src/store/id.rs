//! Ids: a prefix that says what it names, and 96 random bits.

use crate::credential::{NoRandomness, random_hex};

/// Keys.
pub const KEY: &str = "key_";
/// Applications.
pub const APPLICATION: &str = "app_";
/// Audit entries.
pub const AUDIT: &str = "aud_";
/// Credentials of the admin API.
pub const ADMIN_TOKEN: &str = "adm_";

/// A new id. 96 bits: two of a billion billion are alike once in ten billion years of a thousand a second.
pub fn new(prefix: &str) -> Result<String, NoRandomness> {
    Ok(format!("{prefix}{}", random_hex::<12>()?))
}
