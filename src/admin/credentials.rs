//! Who may use the admin API: tokens of conf/forge.yaml and of the store, known by their hash only.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::api::Caller;
use super::problem::{Kind, Problem};
use crate::allowance::{Allowance, Rate};
use crate::config::AdminToken;
use crate::metrics;
use crate::store::{Store, now_unix_ms};

/// The longest token that is hashed.
const TOKEN_BYTES_MAX: usize = 1024;
/// Wrong credentials of one address; over it, the address is not listened to.
const FAILURES: Rate = Rate { times: 10, period: Duration::from_secs(60) };
/// Wrong credentials of all addresses.
const FAILURES_OF_ALL: Rate = Rate { times: 300, period: Duration::from_secs(60) };

/// See the module.
pub struct Credentials {
    fixed: Vec<AdminToken>,
    store: Option<Arc<dyn Store>>,
    failures: Mutex<Allowance>,
}

impl Credentials {
    /// The tokens of conf/forge.yaml, and those of `store`.
    pub fn new(fixed: Vec<AdminToken>, store: Option<Arc<dyn Store>>) -> Self {
        Self { fixed, store, failures: Mutex::new(Allowance::new(FAILURES, FAILURES_OF_ALL)) }
    }

    /// Finds out who sends this `Authorization`, from this address.
    ///
    /// # Errors
    /// 401 for no credential, a wrong, revoked or expired one; 429 after too many of them.
    pub async fn check(&self, authorization: Option<&[u8]>, from: IpAddr) -> Result<Caller, Problem> {
        if let Some(wait) = self.failures.lock().wait(from, Instant::now()) {
            metrics::admin_refused(metrics::AdminRefusal::TooMany);
            let detail = "Too many wrong credentials came from this address.";
            return Err(Problem { retry_after: Some(wait), ..Problem::new(Kind::TooManyFailures, detail) });
        }
        let missing = || Problem::new(Kind::Unauthorized, "Send an admin token as 'Authorization: Bearer adm-…'.");
        let token = bearer(authorization.ok_or_else(missing)?);
        let found = match token {
            Some(token) => self.find(&Sha256::digest(token).into()).await?,
            None => None,
        };
        found.ok_or_else(|| {
            metrics::admin_refused(metrics::AdminRefusal::WrongToken);
            log::warn!("admin: a wrong credential from {from}");
            // A bucket that is empty by now is as good as one taken from.
            let _ = self.failures.lock().take(from, Instant::now());
            Problem::new(Kind::Unauthorized, "The admin token is not valid.")
        })
    }

    async fn find(&self, sha256: &[u8; 32]) -> Result<Option<Caller>, Problem> {
        // All are compared, so that the time says nothing about which one matched.
        let mut found = None;
        for token in &self.fixed {
            if bool::from(token.sha256.ct_eq(sha256)) {
                found = Some(token);
            }
        }
        if let Some(token) = found {
            let name = format!("config:{}", token.name);
            return Ok(Some(Caller { name, via: "admin-api", role: token.role }));
        }
        let Some(store) = &self.store else { return Ok(None) };
        let valid = |token: &crate::store::AdminToken| {
            token.revoked_unix_ms.is_none() && token.expires_unix_ms.is_none_or(|end| now_unix_ms() < end)
        };
        // The index of hashes is looked up, not the token: what its time tells is nothing about the token.
        let found = store.find_admin_token(sha256).await?.filter(valid);
        Ok(found.map(|token| Caller { name: token.name, via: "admin-api", role: token.role }))
    }
}

/// `Bearer TOKEN`, the scheme in any case. RFC 6750 section 2.1.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.trim_ascii().split_at_checked(7)?;
    let token = token.trim_ascii();
    let well_formed = (8..=TOKEN_BYTES_MAX).contains(&token.len()) && token.iter().all(u8::is_ascii_graphic);
    (scheme.eq_ignore_ascii_case(b"bearer ") && well_formed).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Role;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn credentials() -> Credentials {
        let sha256 = Sha256::digest("adm-right-token").into();
        Credentials::new(vec![AdminToken { name: "ops".into(), sha256, role: Role::Operate }], None)
    }

    #[tokio::test]
    async fn a_token_is_known_by_its_hash() {
        let credentials = credentials();
        for right in ["Bearer adm-right-token", "bearer   adm-right-token "] {
            let caller = credentials.check(Some(right.as_bytes()), HERE).await.unwrap();
            assert_eq!((caller.name.as_str(), caller.role), ("config:ops", Role::Operate));
        }
        for wrong in
            ["", "adm-right-token", "Basic adm-right-token", "Bearer adm-right-toke", "Bearer adm-right-token x"]
        {
            let problem = credentials.check(Some(wrong.as_bytes()), HERE).await.unwrap_err();
            assert_eq!(problem.kind, Kind::Unauthorized, "{wrong:?}");
        }
    }

    #[tokio::test]
    async fn an_address_that_guesses_is_not_listened_to() {
        let credentials = credentials();
        for _ in 0..FAILURES.times {
            assert_eq!(
                credentials.check(Some(b"Bearer wrong-token"), HERE).await.unwrap_err().kind,
                Kind::Unauthorized
            );
        }
        let problem = credentials.check(Some(b"Bearer adm-right-token"), HERE).await.unwrap_err();
        assert_eq!(problem.kind, Kind::TooManyFailures);
        assert!(problem.retry_after.unwrap() <= FAILURES.period / FAILURES.times);
        let elsewhere = IpAddr::from([10, 0, 0, 1]);
        assert!(credentials.check(Some(b"Bearer adm-right-token"), elsewhere).await.is_ok());
        // No credential at all is no guess.
        for _ in 0..30 {
            assert_eq!(credentials.check(None, elsewhere).await.unwrap_err().kind, Kind::Unauthorized);
        }
    }
}
