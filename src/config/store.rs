//! `store:` in conf/forge.yaml: which database, and its secret.

use std::fmt;
use std::path::PathBuf;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::place::Place;
use super::secret::Secrets;

/// Where keys, usage and the rest are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreConf {
    /// `none`: nowhere; only the static keys of routes.yaml are known.
    None,
    /// `sqlite:PATH`, made on first start.
    Sqlite(PathBuf),
    /// `postgres://USER:PASSWORD@HOST/DATABASE`.
    Postgres(ConnectionUrl),
}

impl StoreConf {
    /// Reads it; says what is wrong with it.
    pub(super) fn read(place: &Place<'_>, secrets: &Secrets<'_>) -> Option<Self> {
        const EXPECTED: &str = "not 'none', 'sqlite:PATH' or 'postgres://USER:PASSWORD@HOST/DATABASE'";
        let text = secrets.resolve_or_text(place)?;
        if text == "none" {
            return Some(Self::None);
        }
        if let Some(path) = text.strip_prefix("sqlite:").filter(|path| !path.is_empty()) {
            return Some(Self::Sqlite(PathBuf::from(path)));
        }
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return ConnectionUrl::read(place, secrets, &text).map(Self::Postgres);
        }
        place.fault(EXPECTED);
        None
    }
}

impl Default for StoreConf {
    fn default() -> Self {
        Self::Sqlite(PathBuf::from("data/forge.db"))
    }
}

/// A URL that may hold a password. `Debug` never shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct ConnectionUrl(String);

impl ConnectionUrl {
    /// Reads `SCHEME://USER:PASSWORD@HOST…`, where the password may be `env:NAME` or `file:PATH`.
    pub(super) fn read(place: &Place<'_>, secrets: &Secrets<'_>, text: &str) -> Option<Self> {
        let plain = Self(text.to_owned());
        let Some((scheme, rest)) = text.split_once("://") else { return Some(plain) };
        let Some((user_info, host)) = rest.split_once('@') else { return Some(plain) };
        let Some((user, password)) = user_info.split_once(':') else { return Some(plain) };
        match secrets.resolve_text(place, password) {
            None => Some(plain),
            Some(password) => {
                let password = password?;
                let password = utf8_percent_encode(&password, NON_ALPHANUMERIC);
                Some(Self(format!("{scheme}://{user}:{password}@{host}")))
            }
        }
    }

    /// The URL with its password, for whoever connects.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Scheme, host and path, for logs.
    pub fn shown(&self) -> String {
        match self.0.split_once("://") {
            Some((scheme, rest)) => {
                let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
                format!("{scheme}://{}", host.split('?').next().unwrap_or(host))
            }
            None => String::new(),
        }
    }
}

impl fmt::Debug for ConnectionUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnectionUrl({})", self.shown())
    }
}
