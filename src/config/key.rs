//! Who calls: a key, static or from the store, with everything a request is judged by.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::limits::{Holder, LimitSet};
use super::snapshot::{Pattern, Tier};
use crate::endpoint::{Endpoint, EndpointSet};

/// Who a credential belongs to, what it may call, and how much.
#[derive(Debug, Clone)]
pub struct Key {
    /// `static:NAME` of a key of routes.yaml; of a stored key its id, which stays when it is rotated or renamed.
    pub id: Arc<str>,
    /// Shown in logs.
    pub name: String,
    /// Its class.
    pub tier: Arc<Tier>,
    /// Narrows the tier's models; empty: all of the tier's.
    pub models: Vec<Pattern>,
    /// `key.metadata` of rules.
    pub metadata: HashMap<String, String>,
    /// The endpoints it may call.
    pub endpoints: EndpointSet,
    /// Where it may be used from; empty: anywhere.
    pub networks: Vec<IpNet>,
    /// From then on it is refused, in seconds since 1970.
    pub expires_unix: Option<i64>,
    /// Its own limits, besides what its tier grants to each key.
    pub limits: LimitSet,
    /// The id of its owner.
    pub owner: Option<Arc<str>>,
    /// The id of its team.
    pub team: Option<Arc<str>>,
    /// The id of its organisation.
    pub organisation: Option<Arc<str>>,
    /// Organisation, team and owner with their limits, the widest first; those without limits are left out.
    pub holders: Vec<(Holder, LimitSet)>,
}

impl Key {
    /// A key of routes.yaml, bounded by nothing but its tier.
    pub fn of_routes(name: &str, tier: Arc<Tier>) -> Self {
        Self {
            id: format!("static:{name}").into(),
            name: name.to_owned(),
            tier,
            models: Vec::new(),
            metadata: HashMap::new(),
            endpoints: EndpointSet::ALL,
            networks: Vec::new(),
            expires_unix: None,
            limits: LimitSet::default(),
            owner: None,
            team: None,
            organisation: None,
            holders: Vec::new(),
        }
    }

    /// Whether this key may call the model a client names `name`.
    pub fn may_call(&self, name: &str) -> bool {
        let any = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches(name));
        any(&self.tier.models) && (self.models.is_empty() || any(&self.models))
    }

    /// Whether this key may call `endpoint`.
    pub fn may_use(&self, endpoint: Endpoint) -> bool {
        self.endpoints.contains(endpoint)
    }

    /// Whether this key may be used from `address`; one that is not known is in no network.
    pub fn may_come_from(&self, address: Option<IpAddr>) -> bool {
        let within = |address: IpAddr| self.networks.iter().any(|network| network.contains(&address));
        // An IPv4 client of a dual-stack listener has an address such as ::ffff:10.0.0.1.
        self.networks.is_empty() || address.is_some_and(|address| within(address.to_canonical()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::FileLimits;

    fn key(networks: &[&str]) -> Key {
        let tier = Tier {
            name: "t".into(),
            models: vec![],
            limits: LimitSet::default(),
            shared: LimitSet::default(),
            files: FileLimits::default(),
        };
        let networks = networks.iter().map(|text| super::super::parse_network(text).unwrap()).collect();
        Key { networks, ..Key::of_routes("k", Arc::new(tier)) }
    }

    #[test]
    fn networks() {
        let from = |key: &Key, address: &str| key.may_come_from(Some(address.parse().unwrap()));
        let bound = key(&["10.0.0.0/8", "2001:db8::/32", "192.0.2.7"]);
        for address in ["10.1.2.3", "::ffff:10.1.2.3", "2001:db8::1", "192.0.2.7"] {
            assert!(from(&bound, address), "{address}");
        }
        for address in ["11.0.0.1", "::ffff:11.0.0.1", "2001:db9::1", "192.0.2.8"] {
            assert!(!from(&bound, address), "{address}");
        }
        assert!(!bound.may_come_from(None));
        assert!(key(&[]).may_come_from(None) && from(&key(&[]), "11.0.0.1"));
    }
}
