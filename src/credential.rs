//! A client's key: how one is made, and the hash that is all Forge keeps of it.

use std::fmt;

use sha2::{Digest, Sha256};

/// 192 bits: out of reach of guessing, so that a plain SHA-256 of it needs no salt and no stretching.
const RANDOM_BYTES: usize = 24;

/// The system gives no random numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system gives no random numbers")]
pub struct NoRandomness;

/// A client's key. `Debug` never shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential(String);

impl Credential {
    /// A new one: `sk-` and random hexadecimal digits.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub fn random() -> Result<Self, NoRandomness> {
        Ok(Self(format!("sk-{}", random_hex::<RANDOM_BYTES>()?)))
    }

    /// A new credential of the admin API: `adm-` and random hexadecimal digits.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub fn random_admin() -> Result<Self, NoRandomness> {
        Ok(Self(format!("adm-{}", random_hex::<RANDOM_BYTES>()?)))
    }

    /// One that exists: 8 to 1024 visible ASCII characters, or `None`.
    pub fn parse(text: &str) -> Option<Self> {
        let valid = (8..=1024).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        valid.then(|| Self(text.to_owned()))
    }

    /// What a lookup goes by.
    pub fn sha256(&self) -> [u8; 32] {
        Sha256::digest(self.0.as_bytes()).into()
    }

    /// The hash as routes.yaml holds it: `sha256:` and 64 hexadecimal digits.
    pub fn hash(&self) -> String {
        format!("sha256:{}", hex(&self.sha256()))
    }

    /// The key itself, for the one place that shows it to its owner.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(…)")
    }
}

/// `N` random bytes in hexadecimal digits.
///
/// # Errors
/// The system gives no randomness.
pub fn random_hex<const N: usize>() -> Result<String, NoRandomness> {
    let mut random = [0; N];
    let provider = rustls::crypto::ring::default_provider();
    provider.secure_random.fill(&mut random).map_err(|_| NoRandomness)?;
    Ok(hex(&random))
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_has_192_random_bits() {
        let (first, second) = (Credential::random().unwrap(), Credential::random().unwrap());
        assert_ne!(first, second);
        let digits = first.reveal().strip_prefix("sk-").unwrap();
        assert!(digits.len() == 48 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()), "{digits}");
        assert_eq!(Credential::parse(first.reveal()), Some(first));
    }

    #[test]
    fn the_hash_is_sha256_of_the_keys_bytes() {
        // RFC 4634 section 8.4, test 2 of SHA-256.
        let key = Credential::parse("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq").unwrap();
        assert_eq!(key.hash(), "sha256:248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
        assert_eq!(format!("{key:?}"), "Credential(…)");
    }

    #[test]
    fn what_cannot_be_a_header_value_is_no_key() {
        for text in ["", "short", "sk-with space", "sk-newline\n", "sk-ключ-кирил"] {
            assert_eq!(Credential::parse(text), None, "{text:?}");
        }
    }
}
