//! `tiers:` and `keys:`: who may call what.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::Surroundings;
use super::key::Key;
use super::limits::LimitSet;
use super::place::Place;
use super::snapshot::*;
use super::storage::FileLimits;

/// Tiers by name.
pub(super) fn tiers(section: Option<&Place<'_>>, models: &Models) -> HashMap<String, Arc<Tier>> {
    let entries = section.into_iter().flat_map(Place::entries);
    entries
        .map(|(name, place)| {
            let patterns = place.get_or_short("models").map(|list| patterns(&list, models)).unwrap_or_default();
            let limits = LimitSet::read(&place);
            let shared = place.get("shared").map(|shared| LimitSet::read(&shared)).unwrap_or_default();
            let files = place.get("files").map(|files| FileLimits::read(&files)).unwrap_or_default();
            (name.to_owned(), Arc::new(Tier { name: name.to_owned(), models: patterns, limits, shared, files }))
        })
        .collect()
}

fn patterns(list: &Place<'_>, models: &Models) -> Vec<Pattern> {
    let items = list.items();
    if items.is_empty() {
        list.fault("an empty list: no model could be called");
    }
    items.iter().filter_map(|item| pattern(item, models)).collect()
}

fn pattern(place: &Place<'_>, models: &Models) -> Option<Pattern> {
    let text = place.text()?;
    let Some(pattern) = Pattern::parse(text) else {
        place.fault(format!("'{text}' holds more than one '*'"));
        return None;
    };
    let names = || models.exact.iter().map(|model| model.name.as_str());
    if !pattern.is_wild() && models.find(text).is_none() {
        place.fault_near(format!("no model '{text}'"), text, names());
    }
    if pattern.is_wild() && models.wild.is_empty() && !names().any(|name| pattern.matches(name)) {
        place.warn(format!("no model is called '{text}'"));
    }
    Some(pattern)
}

/// A network: `10.0.0.0/8`, `2001:db8::/32`, or one address.
pub fn parse_network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse().ok().map(|address: IpAddr| address.into()))
}

/// The static keys of a snapshot.
#[derive(Debug, Default)]
pub(super) struct Keys {
    pub by_hash: HashMap<[u8; 32], Arc<Key>>,
    /// Name of the key with `hash: generated`.
    pub generated: Option<String>,
}

impl Keys {
    pub fn read(
        section: Option<&Place<'_>>,
        tiers: &HashMap<String, Arc<Tier>>,
        models: &Models,
        around: &Surroundings,
    ) -> Self {
        let mut keys = Self::default();
        let mut names = Vec::new();
        for place in section.map(Place::items).unwrap_or_default() {
            let Some(name) = place.get("name") else { continue };
            check_name(&name, &mut names);
            let tier = place.get("tier").and_then(|tier| find_tier(&tier, tiers));
            let hash = place.get("hash").and_then(|hash| keys.hash(&hash, name.text()?, around));
            let (Some(name), Some(tier), Some(hash)) = (name.text(), tier, hash) else { continue };
            let narrowed = place.get("models").map(|list| patterns(&list, models)).unwrap_or_default();
            let key = Key { models: narrowed, metadata: metadata(&place), ..Key::of_routes(name, tier) };
            if keys.by_hash.insert(hash, Arc::new(key)).is_some() {
                place.fault("another key has the same hash");
            }
        }
        keys
    }

    fn hash(&mut self, place: &Place<'_>, name: &str, around: &Surroundings) -> Option<[u8; 32]> {
        let text = place.text()?;
        if text == "generated" {
            self.generated = Some(name.to_owned());
            return Some(around.demo_key_sha256);
        }
        let hash = text.strip_prefix("sha256:").and_then(hash_bytes);
        if hash.is_none() {
            place.fault("not 'sha256:' and 64 hex digits; `forge hash-key` makes one");
        }
        hash
    }
}

/// The bytes of 64 hexadecimal digits.
pub(super) fn hash_bytes(hex: &str) -> Option<[u8; 32]> {
    if hex.len() != 64 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, digits) in bytes.iter_mut().zip(hex.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(bytes)
}

fn check_name<'a>(place: &Place<'a>, names: &mut Vec<&'a str>) {
    let Some(name) = place.text() else { return };
    if name.is_empty() || name.chars().any(char::is_control) {
        place.fault("a key's name is not empty and has no control character");
    }
    if names.contains(&name) {
        place.fault(format!("another key is called '{name}'"));
    }
    names.push(name);
}

fn find_tier(place: &Place<'_>, tiers: &HashMap<String, Arc<Tier>>) -> Option<Arc<Tier>> {
    let name = place.text()?;
    let tier = tiers.get(name).cloned();
    if tier.is_none() {
        place.fault_near(format!("no tier '{name}'"), name, tiers.keys().map(String::as_str));
    }
    tier
}

fn metadata(place: &Place<'_>) -> HashMap<String, String> {
    let section = place.get("metadata");
    let entries = section.iter().flat_map(Place::entries);
    entries.filter_map(|(name, value)| Some((name.to_owned(), value.text()?.to_owned()))).collect()
}
