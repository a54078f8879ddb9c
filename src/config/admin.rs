//! `admin:` and `apply:` of conf/forge.yaml: the operator's listener, who may use its API, and applications for keys.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::access::hash_bytes;
use super::amount;
use super::place::Place;

/// What a credential of the admin API may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// See everything but secrets.
    Read,
    /// Change keys, holders, applications; reload.
    Operate,
    /// Everything, other credentials included.
    Own,
}

impl Role {
    /// Every word.
    pub(super) const WORDS: [&'static str; 3] = [Self::Read.name(), Self::Operate.name(), Self::Own.name()];

    /// The word in conf/forge.yaml, the store and the admin API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Operate => "operate",
            Self::Own => "own",
        }
    }

    /// The role called `name`.
    pub fn by_name(name: &str) -> Option<Self> {
        [Self::Read, Self::Operate, Self::Own].into_iter().find(|role| role.name() == name)
    }
}

/// The operator's listener.
#[derive(Debug, Clone)]
pub struct AdminConf {
    /// `admin.listen`: metrics, health and the admin API. Default `127.0.0.1:9090`. Elsewhere than on loopback only
    /// with `admin.insecure: true`.
    pub listen: SocketAddr,
    /// `admin.hosts`: names that `Host` may hold there, besides addresses and `localhost`. Default none.
    pub hosts: Vec<String>,
    /// `admin.tokens`: credentials of the API, besides those of the store. Default none.
    pub tokens: Vec<AdminToken>,
}

/// A credential of the admin API that conf/forge.yaml names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminToken {
    /// For people; the audit log notes it.
    pub name: String,
    /// Of the token's bytes.
    pub sha256: [u8; 32],
    /// What it may do.
    pub role: Role,
}

/// Applications for keys, taken by `POST /apply`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApplyConf {
    /// `apply.tier`: the tier of the keys of those that are approved, unless the administrator names another.
    pub tier: String,
    /// `apply.per_address`: applications of one IPv4 address or IPv6 /64 in `apply.period`. Default 5. Answer: 429.
    pub per_address: u32,
    /// `apply.in_all`: of all addresses. Default 100. Answer: 429.
    pub in_all: u32,
    /// `apply.period`. Default 1 h.
    pub period: Duration,
}

impl AdminConf {
    pub(super) fn read(admin: &Place<'_>) -> Self {
        let default = Self::default();
        let listen = admin.read("listen", |text| text.parse::<SocketAddr>().ok());
        if let (Some(place), Some(address)) = (admin.get("listen"), listen)
            && !address.ip().is_loopback()
            && admin.read("insecure", |word| (word == "true").then_some(())).is_none()
        {
            place.fault(format!(
                "{address} is not on loopback, and tokens would cross the network unencrypted: listen on 127.0.0.1 \
                 behind a proxy that speaks TLS, or say 'insecure: true' beside it"
            ));
        }
        let mut names = Vec::new();
        let tokens = admin.get("tokens").map(|tokens| tokens.items()).unwrap_or_default();
        Self {
            listen: listen.unwrap_or(default.listen),
            hosts: admin.get("hosts").map(|hosts| texts(&hosts)).unwrap_or_default(),
            tokens: tokens.iter().filter_map(|place| token(place, &mut names)).collect(),
        }
    }
}

impl Default for AdminConf {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 9090)), hosts: Vec::new(), tokens: Vec::new() }
    }
}

fn texts(place: &Place<'_>) -> Vec<String> {
    place.items().iter().filter_map(|item| item.text()).map(str::to_owned).collect()
}

fn token(place: &Place<'_>, names: &mut Vec<String>) -> Option<AdminToken> {
    let (name, hash) = (place.get("name")?, place.get("hash")?);
    let text = name.text()?.to_owned();
    if text.is_empty() || names.contains(&text) {
        name.fault(format!("another token is called '{text}', or the name is empty"));
    }
    names.push(text.clone());
    let sha256 = hash.text()?.strip_prefix("sha256:").and_then(hash_bytes);
    if sha256.is_none() {
        hash.fault("not 'sha256:' and 64 hex digits; `forge hash-key --admin` makes one");
    }
    Some(AdminToken { name: text, sha256: sha256?, role: place.read("role", Role::by_name)? })
}

impl ApplyConf {
    pub(super) fn read(apply: &Place<'_>) -> Option<Self> {
        let count = |name: &str| apply.read(name, amount::count).and_then(|count| u32::try_from(count).ok());
        Some(Self {
            tier: apply.get("tier")?.text()?.to_owned(),
            per_address: count("per_address").unwrap_or(5),
            in_all: count("in_all").unwrap_or(100),
            period: apply.read("period", amount::duration).unwrap_or(Duration::from_secs(3600)),
        })
    }
}
