//! Who calls, and what they may call. Headers only: no body byte is read before this has said yes.

use std::net::IpAddr;
use std::sync::Arc;

use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, HeaderName};
use pingora::http::RequestHeader;
use sha2::{Digest, Sha256};

use super::keys::{Presented, StoredKeys};
use crate::config::{Key, Snapshot};
use crate::endpoint::Endpoint;
use crate::error::ApiError;

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const KEY_PREFIX: &[u8] = b"sk-";
/// Longer than any key Forge makes; bounds what is hashed.
const KEY_BYTES_MAX: usize = 256;

/// An authenticated caller. Only [`authenticate`] makes one.
#[derive(Debug, Clone)]
pub struct Caller {
    key: Arc<Key>,
}

/// A caller and a model it may call. Only [`authorise`] makes one.
#[derive(Debug)]
pub struct Grant {
    /// Who calls.
    pub key: Arc<Key>,
    /// The model as the client named it.
    pub model: String,
}

/// Finds out who sends this request: the SHA-256 of its one credential, looked up among the keys of the routes, then
/// among those of the store.
///
/// # Errors
/// 401 when there is no credential, more than one, a malformed or an unknown one, or one in a place where
/// it would be logged (query, cookie); 403 for a key that may not be used from `from`; 503 when the store cannot say.
pub async fn authenticate(
    (snapshot, stored): (&Snapshot, Option<&StoredKeys>),
    head: &RequestHeader,
    from: Option<IpAddr>,
) -> Result<Caller, ApiError> {
    if exposes_key(head) {
        return Err(ApiError::invalid_key());
    }
    let sha256: [u8; 32] = Sha256::digest(credential(&head.headers)?).into();
    let key = match (snapshot.find_key(&sha256), stored) {
        (Some(key), _) => Arc::clone(key),
        (None, Some(stored)) => stored.find(Presented { sha256: &sha256, from, snapshot }).await?,
        (None, None) => return Err(ApiError::invalid_key()),
    };
    if key.may_come_from(from) { Ok(Caller { key }) } else { Err(ApiError::network_not_allowed()) }
}

/// The bytes of the request's one credential.
fn credential(headers: &HeaderMap) -> Result<&[u8], ApiError> {
    let bearer = sole(headers, &AUTHORIZATION)?.map(bearer_token).transpose()?;
    let plain = sole(headers, &X_API_KEY)?.map(<[u8]>::trim_ascii);
    let credential = match (bearer, plain) {
        (Some(bearer), Some(plain)) if bearer != plain => return Err(ApiError::invalid_key()),
        (Some(credential), _) | (None, Some(credential)) => credential,
        (None, None) => return Err(ApiError::missing_key()),
    };
    let well_formed = credential.starts_with(KEY_PREFIX)
        && credential.len() <= KEY_BYTES_MAX
        && credential.iter().all(u8::is_ascii_graphic);
    if well_formed { Ok(credential) } else { Err(ApiError::invalid_key()) }
}

/// The value of a header that may stand once only.
fn sole<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a [u8]>, ApiError> {
    let mut values = headers.get_all(name).iter();
    let first = values.next().map(|value| value.as_bytes());
    if values.next().is_some() { Err(ApiError::invalid_key()) } else { Ok(first) }
}

/// `Bearer TOKEN`, the scheme in any case. RFC 6750 section 2.1, RFC 9110 section 11.1.
fn bearer_token(value: &[u8]) -> Result<&[u8], ApiError> {
    let value = value.trim_ascii();
    match value.split_at_checked(6) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"bearer") && token.starts_with(b" ") => {
            Ok(token.trim_ascii())
        }
        _ => Err(ApiError::invalid_key()),
    }
}

/// Whether a key rides where proxies and browsers write it down.
fn exposes_key(head: &RequestHeader) -> bool {
    let in_query = head.uri.query().is_some_and(|query| {
        query.split('&').any(|pair| pair.split_once('=').is_some_and(|(_, value)| value.starts_with("sk-")))
    });
    let in_cookie = head.headers.get_all(COOKIE).iter().any(|cookie| {
        memchr::memmem::find(cookie.as_bytes(), b"=sk-").is_some()
            || memchr::memmem::find(cookie.as_bytes(), b"=\"sk-").is_some()
    });
    in_query || in_cookie
}

/// The endpoint a caller asks for.
///
/// # Errors
/// 404 for a path that no endpoint has, 405 for a method that the endpoint does not take, 403 for an endpoint that the
/// key may not call.
pub fn endpoint(caller: &Caller, head: &RequestHeader) -> Result<Endpoint, ApiError> {
    let endpoint = Endpoint::by_path(head.uri.path()).ok_or_else(ApiError::unknown_path)?;
    let row = endpoint.row();
    if !row.takes(head.method.as_str()) {
        return Err(ApiError::method_not_allowed(row.method));
    }
    if caller.key.may_use(endpoint) { Ok(endpoint) } else { Err(ApiError::endpoint_not_allowed(endpoint.name())) }
}

/// Grants `caller` the model it names.
///
/// # Errors
/// 404 for a model that nothing knows, 403 for one that this key may not call.
pub fn authorise(caller: Caller, snapshot: &Snapshot, model: &str) -> Result<Grant, ApiError> {
    // With rules, a name need not be a model of the file: a rule may send it to one.
    if snapshot.rules.is_empty() && snapshot.models.find(model).is_none() {
        return Err(ApiError::unknown_model(model));
    }
    if !caller.key.may_call(model) {
        return Err(ApiError::model_not_allowed(model));
    }
    Ok(Grant { key: caller.key, model: model.to_owned() })
}

impl Caller {
    /// The key that was recognised.
    pub fn key(&self) -> &Arc<Key> {
        &self.key
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::config::{FileLimits, LimitSet, Pattern, Tier};

    const KEY: &str = "sk-forge-0123456789";

    fn snapshot() -> Snapshot {
        let tier = Arc::new(Tier {
            name: "t".into(),
            models: vec![Pattern::parse("m-*").unwrap()],
            limits: LimitSet::default(),
            shared: LimitSet::default(),
            files: FileLimits::default(),
        });
        let key = Arc::new(Key::of_routes("k", tier));
        let keys = HashMap::from([(Sha256::digest(KEY).into(), key)]);
        Snapshot { keys, ..Snapshot::default() }
    }

    fn status(path: &str, headers: &[(&str, &str)]) -> Option<u16> {
        let mut head = RequestHeader::build("POST", path.as_bytes(), None).unwrap();
        for (name, value) in headers {
            head.append_header(name.to_string(), value.to_string()).unwrap();
        }
        futures::executor::block_on(authenticate((&snapshot(), None), &head, None)).err().map(|error| error.status)
    }

    #[test]
    fn one_credential_in_one_of_two_places() {
        let bearer = format!("Bearer {KEY}");
        for accepted in [
            &[("authorization", bearer.as_str())][..],
            &[("authorization", &format!("bEARER   {KEY} "))],
            &[("x-api-key", KEY)],
            &[("authorization", &bearer), ("x-api-key", KEY)],
        ] {
            assert_eq!(status("/v1/x", accepted), None, "{accepted:?}");
        }
        for refused in [
            &[][..],
            &[("authorization", KEY)],
            &[("authorization", &format!("Basic {KEY}"))],
            &[("authorization", &format!("Bearer{KEY}"))],
            &[("authorization", "Bearer ")],
            &[("authorization", &bearer), ("authorization", &bearer)],
            &[("x-api-key", KEY), ("x-api-key", KEY)],
            &[("authorization", &bearer), ("x-api-key", "sk-other")],
            &[("authorization", "Bearer sk-unknown")],
            &[("authorization", &format!("Bearer {KEY} {KEY}"))],
            &[("x-api-key", &format!("sk-{}", "a".repeat(300)))],
            &[("authorization", &bearer), ("cookie", &format!("a=b; key={KEY}"))],
        ] {
            assert_eq!(status("/v1/x", refused), Some(401), "{refused:?}");
        }
        assert_eq!(status(&format!("/v1/x?beta=true&api_key={KEY}"), &[("authorization", &bearer)]), Some(401));
        assert_eq!(status("/v1/x?beta=true", &[("authorization", &bearer)]), None);
    }

    #[test]
    fn a_stored_hash_is_not_a_key() {
        let hash: [u8; 32] = Sha256::digest(KEY).into();
        let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        for presented in [hex.clone(), format!("sha256:{hex}"), format!("sk-{hex}")] {
            assert_eq!(status("/v1/x", &[("x-api-key", &presented)]), Some(401));
        }
    }
}
