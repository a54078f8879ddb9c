//! A base URL, taken apart and checked.

use std::net::IpAddr;

use http::uri::{PathAndQuery, Scheme};
use http::{HeaderValue, Uri};
use rustls::pki_types::ServerName;

use super::snapshot::Origin;

/// Takes a base URL apart; the error says what is wrong with it.
pub(super) fn origin(url: &str) -> Result<Origin, String> {
    let uri: Uri = url.parse().map_err(|error| format!("'{url}' is not a URL: {error}"))?;
    let tls = match uri.scheme() {
        Some(scheme) if *scheme == Scheme::HTTPS => true,
        Some(scheme) if *scheme == Scheme::HTTP => false,
        _ => return Err(format!("'{url}' must begin with https:// or http://")),
    };
    let authority = uri.authority().ok_or_else(|| format!("'{url}' names no host"))?;
    if authority.as_str().contains('@') {
        return Err("a URL must not hold a user or password; use 'key'".to_owned());
    }
    let path_and_query = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    if path_and_query.contains(['?', '#']) || url.contains('#') {
        return Err(format!("'{url}' must not have a query or fragment"));
    }
    let host = authority.host().trim_matches(['[', ']']).to_ascii_lowercase();
    let scheme_port = if tls { 443 } else { 80 };
    let port = port_of(authority.as_str(), authority.port_u16(), scheme_port)
        .ok_or_else(|| format!("'{url}' has a port that is not 1 to 65535"))?;
    let shown_host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    let shown = if port == scheme_port { shown_host } else { format!("{shown_host}:{port}") };
    let authority = HeaderValue::try_from(shown).map_err(|_| format!("'{url}' names no usable host"))?;
    let base_path = path_and_query.trim_end_matches('/').to_owned();
    Ok(Origin { tls, host, port, base_path, authority })
}

/// `None` for a port that is written but is not one.
fn port_of(authority: &str, port: Option<u16>, scheme_port: u16) -> Option<u16> {
    let after_host = authority.rsplit(']').next().unwrap_or(authority);
    match port {
        Some(0) => None,
        Some(port) => Some(port),
        None => (!after_host.contains(':')).then_some(scheme_port),
    }
}

/// Whether a certificate can be checked against `text`: a DNS name, not an address.
pub(super) fn is_dns_name(text: &str) -> bool {
    matches!(ServerName::try_from(text), Ok(ServerName::DnsName(_)))
}

/// Whether something can be reached at `host`.
pub(super) fn is_host(host: &str) -> bool {
    host.parse::<IpAddr>().is_ok() || is_dns_name(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let o = origin("https://API.example.com/v1/").unwrap();
        assert_eq!((o.tls, o.host.as_str(), o.port, o.base_path.as_str()), (true, "api.example.com", 443, "/v1"));
        assert_eq!(o.authority, "api.example.com");
        let o = origin("http://[::1]:8000").unwrap();
        assert_eq!((o.tls, o.host.as_str(), o.port, o.base_path.as_str()), (false, "::1", 8000, ""));
        assert_eq!(o.authority, "[::1]:8000");
        for bad in [
            "",
            "api.example.com",
            "ftp://a",
            "https://",
            "https://u:p@a/",
            "http://a/?q",
            "http://a/#f",
            "http://a:0",
            "http://a:99999",
            "http://a b",
            "http://a\r\nb",
            "/v1",
        ] {
            assert!(origin(bad).is_err(), "{bad}");
        }
    }
}
