//! What the store holds besides usage. Times are in milliseconds since 1970, and end their names with `unix_ms`.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::config::{HolderKind, LimitSet};
use crate::credential::Credential;

/// A client's key.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KeyRecord {
    /// `key_…`; stays the same when the secret is rotated.
    pub id: String,
    /// For people.
    pub name: String,
    /// The first characters of the secret in force.
    pub prefix: String,
    /// A tier of routes.yaml.
    pub tier: String,
    /// The owner, if it has one.
    pub owner: Option<String>,
    /// Its team, where that is not the owner's.
    pub team: Option<String>,
    /// Its organisation, where that is not the team's or the owner's.
    pub organisation: Option<String>,
    /// Patterns that narrow the tier's models; empty: all of the tier's.
    pub models: Vec<String>,
    /// Names of endpoints it may call; empty: all.
    pub endpoints: Vec<String>,
    /// Networks it may call from, e.g. `10.0.0.0/8`; empty: all.
    pub networks: Vec<String>,
    /// Read by rules as `key.metadata`.
    pub metadata: BTreeMap<String, String>,
    /// Its own limits, besides its tier's.
    pub limits: LimitSet,
    /// When it was created.
    pub created_unix_ms: i64,
    /// From then on it is refused.
    pub expires_unix_ms: Option<i64>,
    /// Since then it is refused.
    pub revoked_unix_ms: Option<i64>,
    /// When it got its present secret, if that is not its first.
    pub rotated_unix_ms: Option<i64>,
    /// When it was last used, to about a minute.
    pub last_used_unix_ms: Option<i64>,
}

/// A secret as the store keeps it.
#[derive(Clone, PartialEq, Eq)]
pub struct NewSecret {
    /// Of the secret's bytes.
    pub sha256: [u8; 32],
    /// Its first characters, by which people tell keys apart.
    pub prefix: String,
}

impl NewSecret {
    /// Of this credential: 11 characters of it are kept to be shown, 32 random bits of a key that Forge made.
    pub fn of(credential: &Credential) -> Self {
        const SHOWN: usize = 11;
        let shown = credential.reveal().chars().take(SHOWN.min(credential.reveal().len() / 2)).collect();
        Self { sha256: credential.sha256(), prefix: shown }
    }
}

impl fmt::Debug for NewSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NewSecret({}…)", self.prefix)
    }
}

/// A key to be created.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "as in KeyRecord")]
pub struct NewKey {
    pub secret: NewSecret,
    pub name: String,
    pub tier: String,
    pub owner: Option<String>,
    pub team: Option<String>,
    pub organisation: Option<String>,
    pub models: Vec<String>,
    pub endpoints: Vec<String>,
    pub networks: Vec<String>,
    pub metadata: BTreeMap<String, String>,
    pub limits: LimitSet,
    pub expires_unix_ms: Option<i64>,
}

impl NewKey {
    /// Without name, tier and bounds, to be filled in.
    pub fn new(credential: &Credential) -> Self {
        Self {
            secret: NewSecret::of(credential),
            name: String::new(),
            tier: String::new(),
            owner: None,
            team: None,
            organisation: None,
            models: Vec::new(),
            endpoints: Vec::new(),
            networks: Vec::new(),
            metadata: BTreeMap::new(),
            limits: LimitSet::default(),
            expires_unix_ms: None,
        }
    }
}

/// What is to change of a key; `None` leaves as it is, `Some(None)` takes away.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[allow(missing_docs, reason = "as in KeyRecord")]
pub struct KeyChange {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<Option<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub team: Option<Option<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub organisation: Option<Option<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub models: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub networks: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<LimitSet>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_unix_ms: Option<Option<i64>>,
}

/// Which keys are listed; `None` does not narrow.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyFilter {
    /// Of this owner.
    pub owner: Option<String>,
    /// Of this team: named by the key, or the owner's.
    pub team: Option<String>,
    /// Of this organisation: named by the key, the team or the owner.
    pub organisation: Option<String>,
    /// Of this tier.
    pub tier: Option<String>,
    /// Revoked, or not.
    pub state: Option<KeyState>,
}

/// Whether a key was revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    /// It was not.
    InForce,
    /// It was.
    Revoked,
}

/// A key found by one of its secrets, with whoever holds it.
#[derive(Debug, Clone, PartialEq)]
pub struct FoundKey {
    /// The key.
    pub key: KeyRecord,
    /// When this secret of it ends, because it was rotated away.
    pub secret_ends_unix_ms: Option<i64>,
    /// Its owner.
    pub owner: Option<FoundHolder>,
    /// Its team, or its owner's.
    pub team: Option<FoundHolder>,
    /// Its organisation, its team's, or its owner's.
    pub organisation: Option<FoundHolder>,
}

/// What the data plane needs of a holder.
#[derive(Debug, Clone, PartialEq)]
pub struct FoundHolder {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its limits.
    pub limits: LimitSet,
}

/// When a key was used last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastUse {
    /// The key's id.
    pub key: String,
    /// When.
    pub at_unix_ms: i64,
}

/// An organisation, a team or an owner.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HolderRecord {
    /// `org_…`, `team_…`, `own_…`.
    pub id: String,
    /// Organisation, team or owner.
    #[serde(serialize_with = "kind_name")]
    pub kind: HolderKind,
    /// Unique among its kind.
    pub name: String,
    /// Of an owner.
    pub email: Option<String>,
    /// Of an owner.
    pub team: Option<String>,
    /// Of a team, or of an owner without team.
    pub organisation: Option<String>,
    /// Over all that belongs to it.
    pub limits: LimitSet,
    /// For people.
    pub metadata: BTreeMap<String, String>,
    /// When it was created.
    pub created_unix_ms: i64,
}

fn kind_name<S: serde::Serializer>(kind: &HolderKind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(kind.name())
}

/// The prefix of ids of holders of this kind; `None` for kinds that the store does not hold.
pub(super) fn holder_prefix(kind: HolderKind) -> Option<&'static str> {
    match kind {
        HolderKind::Organisation => Some("org_"),
        HolderKind::Team => Some("team_"),
        HolderKind::Owner => Some("own_"),
        HolderKind::Global | HolderKind::Model | HolderKind::Tier | HolderKind::Key => None,
    }
}

/// A holder to be created.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "as in HolderRecord")]
pub struct NewHolder {
    pub kind: HolderKind,
    pub name: String,
    pub email: Option<String>,
    pub team: Option<String>,
    pub organisation: Option<String>,
    pub limits: LimitSet,
    pub metadata: BTreeMap<String, String>,
}

impl NewHolder {
    /// Without limits, belonging to nobody.
    pub fn new(kind: HolderKind, name: impl Into<String>) -> Self {
        Self {
            kind,
            name: name.into(),
            email: None,
            team: None,
            organisation: None,
            limits: LimitSet::default(),
            metadata: BTreeMap::new(),
        }
    }
}

/// What is to change of a holder; `None` leaves as it is, `Some(None)` takes away.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[allow(missing_docs, reason = "as in HolderRecord")]
pub struct HolderChange {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<Option<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub team: Option<Option<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub organisation: Option<Option<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<LimitSet>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<BTreeMap<String, String>>,
}

/// Which holders are listed; `None` does not narrow.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HolderFilter {
    /// Of this kind.
    pub kind: Option<HolderKind>,
    /// Belonging to this team.
    pub team: Option<String>,
    /// Belonging to this organisation.
    pub organisation: Option<String>,
}

/// Somebody's wish for a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Application {
    /// `app_…`.
    pub id: String,
    /// Who asks.
    pub name: String,
    /// Where they are told.
    pub email: String,
    /// What the key is for.
    pub purpose: String,
    /// Where it was sent from.
    pub address: String,
    /// What became of it.
    pub status: ApplicationStatus,
    /// When it was filed.
    pub created_unix_ms: i64,
    /// When it was approved or rejected.
    pub decided_unix_ms: Option<i64>,
    /// By whom.
    pub decided_by: Option<String>,
    /// Why it was rejected.
    pub reason: Option<String>,
    /// The key that was made for it.
    pub key: Option<String>,
}

/// What became of an application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names say it")]
pub enum ApplicationStatus {
    Pending,
    Approved,
    Rejected,
}

impl ApplicationStatus {
    /// The word in the store and in the admin API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Rejected => "rejected",
        }
    }

    /// The status called `name`.
    pub fn by_name(name: &str) -> Option<Self> {
        [Self::Pending, Self::Approved, Self::Rejected].into_iter().find(|status| status.name() == name)
    }
}

/// An application to be filed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "as in Application")]
pub struct NewApplication {
    pub name: String,
    pub email: String,
    pub purpose: String,
    pub address: String,
}

/// How much of a limit was used in a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counter {
    /// Whose limit, e.g. `key:key_…`.
    pub holder: String,
    /// Which limit, e.g. `rpd`.
    pub name: String,
    /// When the window began.
    pub window_unix_ms: i64,
    /// How much; when it is added, how much more (or less, below zero).
    pub used: i64,
}
