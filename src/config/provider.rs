//! `providers:` -> [`Provider`]s, each on top of its catalogue row.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};

use super::Surroundings;
use super::catalogue::{self, KeyNeed, Row};
use super::origin::{is_dns_name, is_host, origin};
use super::place::Place;
use super::probe::Probe;
use super::secret::Secrets;
use super::snapshot::*;
use crate::endpoint::{Endpoint, EndpointSet};

/// Reads every provider. One with faults is built as far as it goes, so that those who use it are not blamed too.
pub(super) fn read_all(section: &Place<'_>, secrets: &Secrets<'_>, around: &Surroundings) -> Vec<Arc<Provider>> {
    let read = |(name, place): (&str, Place<'_>)| Arc::new(read(name, &place, secrets, around));
    section.entries().map(read).collect()
}

fn read(name: &str, place: &Place<'_>, secrets: &Secrets<'_>, around: &Surroundings) -> Provider {
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'/' | b'*')) {
        place.fault("a provider's name is visible ASCII without '/' and '*'");
    }
    let row = row_of(name, place);
    let origins = origins(place, row, around);
    let auth = place.read("auth", auth).or(row.map(|row| row.auth)).unwrap_or(Auth::Bearer);
    let keys = keys(place, row, auth, secrets);
    let over_tls = origins.iter().any(|origin| origin.tls);
    let provider = Provider {
        name: name.to_owned(),
        flavor: row.map_or(Flavor::Plain, |row| row.flavor),
        auth: if keys.is_empty() { Auth::None } else { auth },
        headers: headers(place, auth, secrets),
        serves: serves(place, row),
        paths: paths(place, row),
        api_version: api_version(place, row),
        tls: tls(place, over_tls, secrets),
        http: place.read("http", |text| http_versions(text, over_tls)).unwrap_or(default_http(over_tls)),
        stream_usage: place.read("stream_usage", stream_usage).or(row.map(|row| row.stream_usage)).unwrap_or_default(),
        probe: place.get("probe").and_then(|probe| Probe::read(&probe, path)),
        origins,
        keys,
    };
    check_names(place, &provider);
    provider
}

/// `dialect` asks for a generic row, `kind` for a named one; else the provider's own name is looked up.
fn row_of(name: &str, place: &Place<'_>) -> Option<&'static Row> {
    if let Some(dialect) = place.get("dialect") {
        if place.get("kind").is_some() {
            dialect.fault("either 'kind' or 'dialect', not both");
        }
        return dialect.text().and_then(|text| catalogue::by_name(&format!("{text}-compatible")));
    }
    if let Some(kind) = place.get("kind") {
        return kind.text().and_then(catalogue::by_name);
    }
    let row = catalogue::by_name(name);
    if row.is_none() {
        let message =
            format!("no provider '{name}' in the catalogue; say 'kind: …' or 'dialect: openai' (or anthropic)");
        place.fault_near(message, name, catalogue::names());
    }
    row
}

fn origins(place: &Place<'_>, row: Option<&Row>, around: &Surroundings) -> Vec<Origin> {
    if let Some(urls) = place.get("url") {
        if row.is_some_and(|row| row.name == catalogue::DEMO) {
            urls.fault("the demo provider is built in; it has no url");
        }
        return urls.items().iter().filter_map(|url| origin_at(url)).collect();
    }
    match row {
        Some(row) if row.name == catalogue::DEMO => demo_origin(place, around).into_iter().collect(),
        Some(Row { url: Some(url), .. }) => origin(url).ok().into_iter().collect(),
        Some(row) => {
            place.fault(format!("'url' is missing: {} has no address of its own", row.name));
            Vec::new()
        }
        None => Vec::new(),
    }
}

fn demo_origin(place: &Place<'_>, around: &Surroundings) -> Option<Origin> {
    let address =
        (around.demo)().map_err(|error| place.fault(format!("the demo provider did not start: {error}"))).ok()?;
    Some(Origin {
        tls: false,
        host: address.ip().to_string(),
        port: address.port(),
        base_path: "/v1".to_owned(),
        authority: HeaderValue::try_from(address.to_string()).ok()?,
    })
}

fn origin_at(place: &Place<'_>) -> Option<Origin> {
    origin(place.text()?).map_err(|message| place.fault(message)).ok()
}

fn stream_usage(text: &str) -> Option<StreamUsage> {
    match text {
        "ask" => Some(StreamUsage::Ask),
        "leave" => Some(StreamUsage::Leave),
        _ => None,
    }
}

fn auth(text: &str) -> Option<Auth> {
    match text {
        "bearer" => Some(Auth::Bearer),
        "x-api-key" => Some(Auth::XApiKey),
        "api-key" => Some(Auth::ApiKey),
        "none" => Some(Auth::None),
        _ => None,
    }
}

fn keys(place: &Place<'_>, row: Option<&Row>, auth: Auth, secrets: &Secrets<'_>) -> Vec<ProviderKey> {
    let Some(section) = place.get_or_short("key") else {
        let own_url = place.get("url").is_none();
        if own_url && auth != Auth::None && row.is_some_and(|row| row.key == KeyNeed::Required) {
            place.fault("'key' is missing: this provider answers nobody without one; e.g. key: env:NAME");
        }
        return Vec::new();
    };
    if section.text() == Some("none") {
        if place.get("url").is_none() && row.is_some_and(|row| row.key == KeyNeed::Required) {
            section.fault("this provider answers nobody without a key");
        }
        return Vec::new();
    }
    if auth == Auth::None {
        section.fault("a key that would never be sent: auth is none");
    }
    let items = section.items();
    if items.is_empty() {
        section.fault("an empty list of keys; write key: none to send none");
    }
    items.iter().filter_map(|item| key(item, auth, secrets)).collect()
}

fn key(place: &Place<'_>, auth: Auth, secrets: &Secrets<'_>) -> Option<ProviderKey> {
    let secret = secrets.resolve(place)?;
    let text = match auth {
        Auth::Bearer => format!("Bearer {secret}"),
        Auth::XApiKey | Auth::ApiKey | Auth::None => secret.clone(),
    };
    if !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
        place.fault("the secret holds a space, a control character or one beyond ASCII; no header can carry it");
        return None;
    }
    let mut header = HeaderValue::try_from(text).ok()?;
    header.set_sensitive(true);
    let digest = Sha256::digest(format!("forge provider key {secret}"));
    let fingerprint = digest.iter().take(8).fold(0, |print, byte| (print << 8) | u64::from(*byte));
    Some(ProviderKey { header, fingerprint })
}

/// Headers that frame a message or belong to the connection: Forge writes them itself. RFC 9110 section 7.6.1.
const RESERVED_HEADERS: &[&str] = &[
    "host",
    "content-length",
    "content-encoding",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authorization",
    "te",
    "trailer",
    "upgrade",
    "expect",
];

fn headers(place: &Place<'_>, auth: Auth, secrets: &Secrets<'_>) -> Vec<(HeaderName, HeaderValue)> {
    let Some(section) = place.get("headers") else { return Vec::new() };
    section.entries().filter_map(|(name, value)| header(name, &value, auth, secrets)).collect()
}

fn header(name: &str, place: &Place<'_>, auth: Auth, secrets: &Secrets<'_>) -> Option<(HeaderName, HeaderValue)> {
    let Ok(name) = HeaderName::try_from(name) else {
        place.fault("not a header name");
        return None;
    };
    if RESERVED_HEADERS.contains(&name.as_str()) {
        place.fault("this header is Forge's to write");
    }
    if credential_header(auth) == Some(name.as_str()) {
        place.fault("this header carries the credential; use 'key'");
    }
    let text = secrets.resolve_or_text(place)?;
    let is_secret = place.text() != Some(&text);
    match HeaderValue::try_from(text) {
        Ok(mut value) => {
            value.set_sensitive(is_secret);
            Some((name, value))
        }
        Err(_) => {
            place.fault("a header's value must not hold a line break or another control character");
            None
        }
    }
}

fn credential_header(auth: Auth) -> Option<&'static str> {
    match auth {
        Auth::Bearer => Some("authorization"),
        Auth::XApiKey => Some("x-api-key"),
        Auth::ApiKey => Some("api-key"),
        Auth::None => None,
    }
}

fn serves(place: &Place<'_>, row: Option<&Row>) -> EndpointSet {
    let Some(section) = place.get("serves") else {
        return row.map_or(EndpointSet::default(), |row| row.serves);
    };
    let items = section.items();
    if items.is_empty() {
        section.fault("an empty list: this provider would serve nothing");
    }
    let endpoints: Vec<_> = items.iter().filter_map(|item| Endpoint::by_name(item.text()?)).collect();
    EndpointSet::of(&endpoints)
}

fn paths(place: &Place<'_>, row: Option<&Row>) -> std::collections::HashMap<Endpoint, String> {
    let own = row.map_or(&[][..], |row| row.paths).iter().map(|(endpoint, path)| (*endpoint, (*path).to_owned()));
    let written = place.get("paths").into_iter().flat_map(|section| section.entries());
    let written = written.filter_map(|(name, value)| Some((Endpoint::by_name(name)?, path(&value)?)));
    own.chain(written).collect()
}

fn path(place: &Place<'_>) -> Option<String> {
    let text = place.text()?;
    if text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#' | b'\\'))
    {
        return Some(text.to_owned());
    }
    place.fault(format!("'{text}' is not a path: it begins with '/' and has no query, space or backslash"));
    None
}

fn api_version(place: &Place<'_>, row: Option<&Row>) -> Option<String> {
    let Some(version) = place.get("api_version") else {
        return row.and_then(|row| row.api_version).map(str::to_owned);
    };
    if row.is_some_and(|row| row.flavor == Flavor::Plain) {
        version.fault("only a provider of kind azure has an api_version");
    }
    let text = version.text()?;
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        version.fault(format!("'{text}' is not an api-version, e.g. 2024-10-21"));
    }
    Some(text.to_owned())
}

fn http_versions(text: &str, over_tls: bool) -> Option<HttpVersions> {
    match text {
        "auto" => Some(default_http(over_tls)),
        "1" => Some(HttpVersions::Http1),
        "2" => Some(HttpVersions::Http2),
        _ => None,
    }
}

fn default_http(over_tls: bool) -> HttpVersions {
    if over_tls { HttpVersions::Auto } else { HttpVersions::Http1 }
}

fn tls(place: &Place<'_>, over_tls: bool, secrets: &Secrets<'_>) -> ProviderTls {
    let Some(section) = place.get("tls") else { return ProviderTls::default() };
    if !over_tls {
        section.fault("no url of this provider is https");
    }
    ProviderTls {
        ca: section.get("ca").and_then(|ca| certificates(&ca, secrets)),
        client: client_certificate(&section, secrets),
        server_name: section.get("server_name").and_then(|name| server_name(&name)),
    }
}

fn server_name(place: &Place<'_>) -> Option<String> {
    let text = place.text()?;
    if is_dns_name(text) {
        return Some(text.to_ascii_lowercase());
    }
    place.fault(format!("'{text}' is not a DNS name"));
    None
}

fn client_certificate(section: &Place<'_>, secrets: &Secrets<'_>) -> Option<ClientCertificate> {
    match (section.get("cert"), section.get("key")) {
        (Some(cert), Some(key)) => {
            let chain = certificates(&cert, secrets);
            let key = private_key(&key, secrets);
            Some(ClientCertificate { chain: chain?, key: key? })
        }
        (Some(lone), None) | (None, Some(lone)) => {
            lone.fault("'cert' and 'key' come together");
            None
        }
        (None, None) => None,
    }
}

fn certificates(place: &Place<'_>, secrets: &Secrets<'_>) -> Option<Vec<Vec<u8>>> {
    let pem = secrets.read(place, place.text()?)?;
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match parsed {
        Ok(certificates) if !certificates.is_empty() => {
            Some(certificates.into_iter().map(|certificate| certificate.to_vec()).collect())
        }
        Ok(_) => {
            place.fault("the file holds no PEM certificate");
            None
        }
        Err(error) => {
            place.fault(format!("the file is not valid PEM: {error}"));
            None
        }
    }
}

fn private_key(place: &Place<'_>, secrets: &Secrets<'_>) -> Option<Vec<u8>> {
    let pem = secrets.read(place, place.text()?)?;
    match PrivateKeyDer::from_pem_slice(&pem) {
        Ok(key) => Some(key.secret_der().to_vec()),
        Err(_) => {
            place.fault("the file holds no PEM private key (PKCS#8, PKCS#1 or SEC1)");
            None
        }
    }
}

/// Verification needs a name: an address as host has none, and the engine would skip the check.
fn check_names(place: &Place<'_>, provider: &Provider) {
    let named = |origin: &Origin| provider.tls.server_name.is_some() || is_dns_name(&origin.host);
    for origin in provider.origins.iter().filter(|origin| origin.tls && !named(origin)) {
        let url = place.get("url").unwrap_or_else(|| place.clone());
        url.fault(format!("https to {} needs tls.server_name: the name in its certificate", origin.host));
    }
    for origin in provider.origins.iter().filter(|origin| !is_host(&origin.host)) {
        place.fault(format!("'{}' is not a host name or address", origin.host));
    }
}
