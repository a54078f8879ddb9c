//! Arguments that say what a key or a holder is made of, as the admin API takes it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use serde_json::{Map, Value, json};

/// What a key is made of, besides its name and tier. An empty value takes away.
#[derive(Debug, Args)]
pub(super) struct KeyFields {
    /// The id of its owner
    #[arg(long, value_name = "ID")]
    owner: Option<String>,
    /// The id of its team
    #[arg(long, value_name = "ID")]
    team: Option<String>,
    /// The id of its organisation
    #[arg(long, value_name = "ID")]
    organisation: Option<String>,
    /// A model it may call, with at most one `*`; repeat for more [default: its tier's]
    #[arg(long = "model", value_name = "PATTERN")]
    models: Vec<String>,
    /// An endpoint it may call, e.g. embeddings; repeat for more [default: all]
    #[arg(long = "endpoint", value_name = "NAME")]
    endpoints: Vec<String>,
    /// A network it may call from, e.g. 10.0.0.0/8; repeat for more [default: all]
    #[arg(long = "network", value_name = "NETWORK")]
    networks: Vec<String>,
    /// When it ends: a time from now, e.g. 30d, or a date, e.g. 2026-12-31
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    expires: Option<Moment>,
    #[command(flatten)]
    common: CommonFields,
}

/// What keys and holders have in common.
#[derive(Debug, Args)]
pub(super) struct CommonFields {
    /// A limit, e.g. rpm=20 or 'budget=50 USD/month'; repeat for more
    #[arg(long = "limit", value_name = "NAME=AMOUNT", value_parser = pair)]
    limits: Vec<(String, String)>,
    /// Free text about it, which rules read as key.metadata; repeat for more
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    metadata: Vec<(String, String)>,
}

/// An end, or that there is none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment(Option<i64>);

impl KeyFields {
    /// The fields that were given.
    pub(super) fn body(&self) -> Map<String, Value> {
        let mut body = Map::new();
        for (name, id) in [("owner", &self.owner), ("team", &self.team), ("organisation", &self.organisation)] {
            set_text(&mut body, name, id.as_deref());
        }
        let lists = [("models", &self.models), ("endpoints", &self.endpoints), ("networks", &self.networks)];
        for (name, items) in lists.into_iter().filter(|(_, items)| !items.is_empty()) {
            let items: Vec<&String> = items.iter().filter(|item| !item.is_empty()).collect();
            body.insert(name.into(), json!(items));
        }
        if let Some(Moment(expires)) = self.expires {
            body.insert("expires_unix_ms".into(), json!(expires));
        }
        self.common.add_to(&mut body);
        body
    }
}

impl CommonFields {
    /// Adds what was given.
    pub(super) fn add_to(&self, body: &mut Map<String, Value>) {
        if !self.limits.is_empty() {
            let mut limits = Map::new();
            let given = self.limits.iter().filter(|(name, _)| !name.is_empty());
            for (name, amount) in given {
                match (name.as_str(), limits.get_mut("budget")) {
                    ("budget", Some(Value::Array(budgets))) => budgets.push(json!(amount)),
                    ("budget", _) => drop(limits.insert("budget".into(), json!([amount]))),
                    (name, _) => drop(limits.insert(name.into(), json!(amount))),
                }
            }
            body.insert("limits".into(), Value::Object(limits));
        }
        if !self.metadata.is_empty() {
            let given = self.metadata.iter().filter(|(name, _)| !name.is_empty());
            let metadata: Map<_, _> = given.map(|(name, value)| (name.clone(), json!(value))).collect();
            body.insert("metadata".into(), Value::Object(metadata));
        }
    }
}

/// Sets a text that was given; an empty one takes away.
pub(super) fn set_text(body: &mut Map<String, Value>, name: &str, text: Option<&str>) {
    match text {
        Some("") => drop(body.insert(name.into(), Value::Null)),
        Some(text) => drop(body.insert(name.into(), json!(text))),
        None => {}
    }
}

/// `NAME=VALUE`; nothing at all stands for none.
fn pair(text: &str) -> Result<(String, String), String> {
    if text.is_empty() {
        return Ok(Default::default());
    }
    let (name, value) = text.split_once('=').ok_or("NAME=VALUE is expected")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// A time from now, or a date. `never` and nothing at all stand for no end.
pub(super) fn moment(text: &str) -> Result<Moment, String> {
    if matches!(text, "" | "never") {
        return Ok(Moment(None));
    }
    let at = match humantime::parse_duration(text) {
        Ok(from_now) => SystemTime::now() + from_now,
        Err(_) => {
            let midnight = if text.len() == "2026-12-31".len() { "T00:00:00Z" } else { "" };
            let time = humantime::parse_rfc3339(&format!("{text}{midnight}"));
            time.map_err(|_| "a time from now such as 30d, or a date such as 2026-12-31, is expected")?
        }
    };
    let since = at.duration_since(UNIX_EPOCH).map_err(|_| "before 1970")?;
    Ok(Moment(i64::try_from(since.as_millis()).ok()))
}

impl Moment {
    /// Milliseconds since 1970; null for never.
    pub(super) fn json(self) -> Value {
        json!(self.0)
    }
}

/// `500ms`, `10m`, `24h`, `0s`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        fields: KeyFields,
    }

    fn body(arguments: &[&str]) -> Value {
        Value::Object(Line::try_parse_from([&["x"], arguments].concat()).unwrap().fields.body())
    }

    #[test]
    fn arguments_become_what_the_api_takes() {
        assert_eq!(body(&[]), json!({}));
        let arguments = ["--owner", "own_1", "--team", "", "--model", "a-*", "--model", "b", "--network", ""];
        assert_eq!(body(&arguments), json!({"owner": "own_1", "team": null, "models": ["a-*", "b"], "networks": []}));
        let limits = ["--limit", "rpm=20", "--limit", "budget=5 USD/day", "--limit", "budget=50 USD/month"];
        let expected = json!({"limits": {"rpm": "20", "budget": ["5 USD/day", "50 USD/month"]}});
        assert_eq!(body(&limits), expected);
        assert_eq!(body(&["--limit", "", "--metadata", "a=b=c"]), json!({"limits": {}, "metadata": {"a": "b=c"}}));
        assert_eq!(body(&["--expires", "1970-01-02"]), json!({"expires_unix_ms": 86_400_000}));
        assert_eq!(body(&["--expires", "never"]), json!({"expires_unix_ms": null}));
        assert!(body(&["--expires", "30d"])["expires_unix_ms"].as_i64().unwrap() > 1_700_000_000_000);
        assert!(Line::try_parse_from(["x", "--expires", "soon"]).is_err());
    }
}
