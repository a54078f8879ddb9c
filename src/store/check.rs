//! What the store takes: names fit to be shown, bounds that the data plane can read.

use super::records::{HolderRecord, KeyRecord, NewApplication};
use super::{Result, StoreError};
use crate::config::{HolderKind, Pattern, parse_network};
use crate::endpoint::Endpoint;

const NAME_CHARS_MAX: usize = 200;
const TEXT_CHARS_MAX: usize = 4000;
const LIST_MAX: usize = 1000;
const METADATA_MAX: usize = 64;

/// # Errors
/// [`StoreError::Invalid`] for everything here.
pub fn key(key: &KeyRecord) -> Result<()> {
    name(&key.name)?;
    name(&key.tier)?;
    list("models", &key.models, |pattern| Pattern::parse(pattern).is_some_and(|_| !pattern.is_empty()))?;
    list("endpoints", &key.endpoints, |name| Endpoint::by_name(name).is_some())?;
    list("networks", &key.networks, |network| parse_network(network).is_some())?;
    metadata(&key.metadata)
}

pub fn holder(holder: &HolderRecord) -> Result<()> {
    name(&holder.name)?;
    holder.email.as_deref().map_or(Ok(()), name)?;
    let nested = match holder.kind {
        HolderKind::Organisation => holder.team.is_some() || holder.organisation.is_some(),
        HolderKind::Team => holder.team.is_some(),
        HolderKind::Owner => holder.team.is_some() && holder.organisation.is_some(),
        HolderKind::Global | HolderKind::Model | HolderKind::Tier | HolderKind::Key => true,
    };
    if nested {
        return invalid("an owner belongs to a team or an organisation, a team to an organisation");
    }
    metadata(&holder.metadata)
}

pub fn application(application: &NewApplication) -> Result<()> {
    name(&application.name)?;
    name(&application.email)?;
    match application.purpose.chars().count() {
        1..=TEXT_CHARS_MAX => Ok(()),
        _ => invalid(format!("a purpose has 1 to {TEXT_CHARS_MAX} characters")),
    }
}

pub fn name(text: &str) -> Result<()> {
    let fits = (1..=NAME_CHARS_MAX).contains(&text.chars().count()) && !text.chars().any(char::is_control);
    if fits { Ok(()) } else { invalid(format!("a name has 1 to {NAME_CHARS_MAX} characters, none of them control")) }
}

fn list(what: &str, items: &[String], valid: impl Fn(&str) -> bool) -> Result<()> {
    if items.len() > LIST_MAX {
        return invalid(format!("{what}: more than {LIST_MAX}"));
    }
    match items.iter().find(|item| !valid(item)) {
        Some(item) => invalid(format!("{what}: '{}' is none", item.chars().take(64).collect::<String>())),
        None => Ok(()),
    }
}

fn metadata(entries: &std::collections::BTreeMap<String, String>) -> Result<()> {
    let fits = entries.len() <= METADATA_MAX
        && entries.iter().all(|(name, value)| {
            (1..=NAME_CHARS_MAX).contains(&name.chars().count()) && value.chars().count() <= TEXT_CHARS_MAX
        });
    if fits {
        Ok(())
    } else {
        invalid(format!("metadata: at most {METADATA_MAX} entries of {TEXT_CHARS_MAX} characters"))
    }
}

fn invalid<T>(text: impl Into<String>) -> Result<T> {
    Err(StoreError::Invalid(text.into()))
}
