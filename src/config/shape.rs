//! The shapes of the two files: every key, its kind and its sentence, once.
//!
//! The checker walks a file along these tables and the published JSON Schema is made from them, so the two cannot
//! disagree. A new key is one row here and the line that reads it.

use super::admin::Role;
mod kept;

use super::amount;
use super::catalogue;
use super::finding::nearest;
use super::limits;
use super::place::Place;
use super::snapshot::Pick;
use super::tree::Kind;
use crate::endpoint::Endpoint;

/// What may stand in a place.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    /// Any scalar, taken as text.
    Text,
    /// A whole number in a range; `k` and `M` may follow.
    Count { min: u64, max: u64 },
    /// Whole bytes above zero; `KiB`, `MiB`, `GiB` may follow.
    Bytes,
    /// `500ms`, `2s`, `10m`.
    Duration,
    /// US dollars.
    Price,
    /// `2026-11-01`, or a time of that day as RFC 3339 has it.
    Date,
    /// A whole number of per cent, 0% to 100%.
    Percent,
    /// `50 USD/month`, `5 USD/day`, `10M tokens/month`.
    Budget,
    /// `env:NAME`, `file:PATH`, `plain:TEXT`.
    Secret,
    /// `IP:PORT`.
    Address,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// The name of an endpoint that providers serve.
    Endpoint,
    /// The name of a catalogue row.
    CatalogueRow,
    /// These keys; a scalar or list stands for the value of the `short` one.
    Map { keys: &'static [Key], short: Option<&'static str> },
    /// Any names, each with a value of this shape.
    Named(&'static Shape),
    /// Endpoint names, each with a value of this shape.
    ByEndpoint(&'static Shape),
    /// A list; one value may stand for a list of one.
    Many(&'static Shape),
}

/// One key of a map.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    pub name: &'static str,
    pub shape: Shape,
    pub required: bool,
    /// What it says, for the schema and an editor's hover.
    pub about: &'static str,
}

const fn key(name: &'static str, shape: Shape, about: &'static str) -> Key {
    Key { name, shape, required: false, about }
}

const fn required(name: &'static str, shape: Shape, about: &'static str) -> Key {
    Key { name, shape, required: true, about }
}

const fn map(keys: &'static [Key]) -> Shape {
    Shape::Map { keys, short: None }
}

const fn short(name: &'static str, keys: &'static [Key]) -> Shape {
    Shape::Map { keys, short: Some(name) }
}

/// routes.yaml.
pub(super) const ROUTES: Shape = map(&[
    required("version", Shape::Choice(&["1"]), "The version of this file's form."),
    required("providers", Shape::Named(&PROVIDER), "Upstream services by name."),
    required("models", Shape::Named(&MODEL), "What clients may call, and what it leads to. A name may hold one `*`."),
    key(
        "rules",
        Shape::Many(&RULE),
        "Programmable routing: the first rule whose condition holds sends the request on.",
    ),
    key("tiers", Shape::Named(&TIER), "Classes of keys."),
    key("limits", map(&LIMITS), "Of the whole gateway."),
    key("keys", Shape::Many(&STATIC_KEY), "Static keys."),
]);

const PROVIDER: Shape = short(
    "key",
    &[
        key("kind", Shape::CatalogueRow, "The catalogue row to start from. Default: the provider's own name."),
        key("dialect", Shape::Choice(&["openai", "anthropic"]), "For anything compatible: the API it speaks."),
        key("url", Shape::Many(&Shape::Text), "Base URLs, version path included, e.g. http://10.0.0.7:8000/v1."),
        key("key", Shape::Many(&Shape::Secret), "Credentials: env:NAME or file:PATH; `none` sends none."),
        key("auth", Shape::Choice(&["bearer", "x-api-key", "api-key", "none"]), "How a credential is presented."),
        key("headers", Shape::Named(&Shape::Text), "Sent with every request; a value may be env:NAME or file:PATH."),
        key("serves", Shape::Many(&Shape::Endpoint), "The endpoints it serves. Default: the catalogue's."),
        key("paths", Shape::ByEndpoint(&Shape::Text), "Paths that differ, from the root of the host, e.g. /v2/rerank."),
        key("api_version", Shape::Text, "Azure's api-version."),
        key("http", Shape::Choice(&["auto", "1", "2"]), "HTTP versions to offer. Default: auto (1 without TLS)."),
        key("tls", map(TLS), "TLS to it; verification is always on."),
        key("probe", short("path", PROBE), "Ask each URL whether it is well, between requests. Default: not."),
        key(
            "stream_usage",
            Shape::Choice(&["ask", "leave"]),
            "Whether Forge asks what a stream used (stream_options.include_usage). Default: the catalogue's, else ask.",
        ),
    ],
);

const PROBE: &[Key] = &[
    required("path", Shape::Text, "What is asked by GET, from the root of the host, e.g. /health."),
    key("interval", Shape::Duration, "From one answer to the next question. Default: 10s."),
    key("timeout", Shape::Duration, "For connection and answer together. Default: 3s."),
    key("status", Shape::Count { min: 200, max: 599 }, "The status that means well. Default: any 2xx."),
];

const TLS: &[Key] = &[
    key("ca", Shape::Text, "PEM file: trust these certificates instead of the system's."),
    key("cert", Shape::Text, "PEM file: the client certificate, leaf first."),
    key("key", Shape::Text, "PEM file: the client certificate's key."),
    key("server_name", Shape::Text, "The name to verify and to send as SNI. Default: the URL's host."),
];

const MODEL: Shape = short(
    "to",
    &[
        required("to", Shape::Many(&TARGET), "Targets, tried in the order `pick` gives."),
        key("else", Shape::Many(&TARGET), "Targets tried in this order when all of `to` failed."),
        key("pick", Shape::Choice(PICKS), "How `to` is ordered. Default: weighted."),
        key("timeouts", map(TIMEOUTS), "Time limits."),
        key("retry", map(RETRY), "When another target is tried."),
        key("hold", Shape::Duration, "How long a stream's opening waits for its first content. Default: 250ms."),
        key("price", Shape::Many(&PRICE), "The price of every target that names none; a list: from several dates."),
        key("echo_model", Shape::Choice(&["requested", "upstream"]), "Whose name responses carry. Default: requested."),
        key("owned_by", Shape::Text, "Shown in GET /v1/models. Default: the first target's provider."),
        key("limits", map(&LIMITS), "Of all who call it together."),
    ],
);

const PICKS: &[&str] =
    &[Pick::Weighted.name(), Pick::Cheapest.name(), Pick::LeastBusy.name(), Pick::P2c.name(), Pick::Prefix.name()];

const TARGET: Shape = short(
    "use",
    &[
        required(
            "use",
            Shape::Text,
            "provider/upstream-name, a provider (same name there), or another model's targets.",
        ),
        key("weight", Shape::Count { min: 1, max: 1_000_000 }, "Its share among its siblings. Default: 1."),
        key("price", Shape::Many(&PRICE), "What it costs: for usage and for pick: cheapest."),
    ],
);

const TIMEOUTS: &[Key] = &[
    key("connect", Shape::Duration, "TCP connect plus TLS handshake. Default: 3s."),
    key("first_byte", Shape::Duration, "From the request's last byte to the response's first. Default: 2m."),
    key("idle", Shape::Duration, "Between two reads of the response. Default: 2m."),
    key("total", Shape::Duration, "The whole request, all attempts together. Default: 15m."),
];

/// The words of `retry.on`.
pub(super) const RETRY_ON: &[&str] = &["connect", "first_byte", "408", "429", "5xx"];

const RETRY: &[Key] = &[
    key("attempts", Shape::Count { min: 1, max: 16 }, "Attempts in all, the first included. Default: 3."),
    key("on", Shape::Many(&Shape::Choice(RETRY_ON)), "Outcomes that move on to the next target. Default: all."),
    key(
        "budget",
        Shape::Percent,
        "Attempts beyond the first, as a share of the model's requests; 10 a second are free. Default: 20%.",
    ),
];

const PRICE: Shape = map(&[
    key("from", Shape::Date, "Since when it is in force (UTC). Default: always."),
    key("input", Shape::Price, "US dollars per million input tokens."),
    key("cached_input", Shape::Price, "Per million input tokens that the provider's cache gave. Default: input."),
    key("cache_write", Shape::Price, "Per million input tokens that the provider's cache took. Default: input."),
    key("audio_input", Shape::Price, "Per million input tokens of sound. Default: input."),
    key("image_input", Shape::Price, "Per million input tokens of pictures. Default: input."),
    key("output", Shape::Price, "US dollars per million output tokens."),
    key("reasoning", Shape::Price, "Per million tokens that the model thought. Default: output."),
    key("audio_output", Shape::Price, "Per million output tokens of sound. Default: output."),
    key("characters", Shape::Price, "Per million characters spoken."),
    key("image", Shape::Price, "For each picture made."),
    key("minute", Shape::Price, "For each minute of sound heard."),
    key("search", Shape::Price, "For each search of a rerank."),
    key("document", Shape::Price, "For each document ranked."),
]);

const RULE: Shape = map(&[
    required("when", Shape::Text, "A CEL condition over model, endpoint, stream, tier, key, request, client, …"),
    required("use", Shape::Text, "A model, or provider/upstream-name."),
]);

const TIER: Shape = short("models", &TIER_KEYS);

/// A tier's own keys, and beside them the limits that each of its keys has.
const TIER_KEYS: [Key; LIMITS.len() + 3] = {
    let models = required("models", Shape::Many(&Shape::Text), "Models its keys may call; a name may hold one `*`.");
    let mut keys = [models; LIMITS.len() + 3];
    keys[1] = key("shared", map(&LIMITS), "Limits of all its keys together; those beside `models` are of each key.");
    keys[2] = key("files", map(kept::FILE_LIMITS), "How much its keys may keep in /v1/files.");
    let mut index = 0;
    while index < LIMITS.len() {
        keys[index + 3] = LIMITS[index];
        index += 1;
    }
    keys
};

/// How much may be asked for. Days and months are those of UTC.
const LIMITS: [Key; 10] = [
    key("rpm", LIMIT, "Requests per minute: so many at once, refilled smoothly."),
    key("rpd", LIMIT, "Requests per day."),
    key("tpm", LIMIT, "Tokens per minute, input and output together."),
    key("itpm", LIMIT, "Input tokens per minute."),
    key("otpm", LIMIT, "Output tokens per minute."),
    key("tpd", LIMIT, "Tokens per day, input and output together."),
    key("itpd", LIMIT, "Input tokens per day."),
    key("otpd", LIMIT, "Output tokens per day."),
    key("concurrent", LIMIT, "Requests at once."),
    key(limits::BUDGET, Shape::Many(&Shape::Budget), "50 USD/month, 5 USD/day, 10M tokens/month, or a list of these."),
];

const LIMIT: Shape = Shape::Count { min: 1, max: limits::AMOUNT_MAX };

const STATIC_KEY: Shape = map(&[
    required("name", Shape::Text, "Shown in logs."),
    required("hash", Shape::Text, "sha256: and 64 hex digits (`forge hash-key`), or `generated`."),
    required("tier", Shape::Text, "Its tier."),
    key("models", Shape::Many(&Shape::Text), "Narrows the tier's models."),
    key("metadata", Shape::Named(&Shape::Text), "Read by rules as key.metadata."),
]);

/// conf/forge.yaml.
pub(super) const PROCESS: Shape = map(&[
    key("listen", Shape::Many(&Shape::Address), "Where clients connect: HTTP/1.1 and h2c."),
    key("tls", map(CLIENT_TLS), "Listeners with TLS."),
    key("admin", map(ADMIN), "The operator's listener."),
    key("apply", map(APPLY), "Applications for keys by POST /apply. Default: none are taken."),
    key("threads", Shape::Count { min: 1, max: 1024 }, "Workers of the data plane. Default: one per core."),
    key("routes", Shape::Text, "The routing file."),
    key("grace", Shape::Duration, "How long open streams may go on after SIGTERM."),
    key("upgrade_sock", Shape::Text, "The socket that hands listeners to a new process."),
    key("pid_file", Shape::Text, "Where the process id is written."),
    key("log", map(LOG), "What is written where."),
    key("bounds", map(BOUNDS), "Bounds on what is held."),
    key("upstream", map(UPSTREAM), "The connection pool."),
    key("usage", map(kept::USAGE), "Usage on its way to the store."),
    key("store", Shape::Text, "Keys and usage: sqlite:PATH, postgres://…, none; or env:NAME, file:PATH."),
    key("limits", Shape::Text, "Who counts: memory, or redis://… for a fleet; or env:NAME, file:PATH."),
    key("files", short("at", kept::FILES), "Where uploaded files are kept."),
]);

const CLIENT_TLS: &[Key] = &[
    required("listen", Shape::Many(&Shape::Address), "Where clients connect with TLS: HTTP/1.1 and HTTP/2 by ALPN."),
    required(
        "certificate",
        Shape::Text,
        "PEM file: the certificate, then the intermediate ones; read when it changes.",
    ),
    required("key", Shape::Text, "PEM file: the certificate's key; read when it changes."),
    key("client_ca", Shape::Text, "PEM file: the authorities of clients' certificates. Default: none is asked for."),
    key("client_certificates", Shape::Choice(&["required", "optional"]), "Whether a client needs one."),
    key("version_min", Shape::Choice(&["1.2", "1.3"]), "The oldest version of TLS."),
    key("handshake_timeout", Shape::Duration, "How long a handshake may take. Over it: the connection is closed."),
];

const ADMIN: &[Key] = &[
    key("listen", Shape::Address, "Metrics, health and the admin API."),
    key("hosts", Shape::Many(&Shape::Text), "Names it is reached by, besides addresses and localhost."),
    key("insecure", Shape::Choice(&["true", "false"]), "It may listen elsewhere than on loopback, without TLS."),
    key("tokens", Shape::Many(&map(ADMIN_TOKEN)), "Credentials of the admin API, besides those of the store."),
];

const ADMIN_TOKEN: &[Key] = &[
    required("name", Shape::Text, "For people; the audit log notes it."),
    required("hash", Shape::Text, "sha256: and 64 hex digits (`forge hash-key --admin`)."),
    required(
        "role",
        Shape::Choice(&Role::WORDS),
        "read: see. operate: change keys and routes. own: these tokens, too.",
    ),
];

const APPLY: &[Key] = &[
    required("tier", Shape::Text, "The tier of keys for applications that are approved."),
    key("per_address", COUNT, "Applications of one IPv4 address or IPv6 /64 in a period. Over it: 429."),
    key("in_all", COUNT, "Applications of all addresses in a period. Over it: 429."),
    key("period", Shape::Duration, "The period of both."),
];

const LOG: &[Key] = &[
    key("format", Shape::Choice(&["text", "json"]), "Form of a line."),
    key("access", Shape::Text, "A file for the access log. Default: stderr."),
];

const BOUNDS: &[Key] = &[
    key("body_bytes_max", Shape::Bytes, "Narrows every endpoint's own limit. Over it: 413."),
    key("body_memory_bytes_max", Shape::Bytes, "Of one body held in memory; the rest is spilled to disk."),
    key("replay_bytes_max", Shape::Bytes, "A body larger than this is sent once only."),
    key("buffered_bytes_max", Shape::Bytes, "Of all bodies in memory together. Over it: 503."),
    key("spilled_bytes_max", Shape::Bytes, "Of all bodies on disk together. Over it: 503."),
    key("spill_dir", Shape::Text, "Where bodies are spilled. Default: the system's temporary directory."),
    key("body_stall", Shape::Duration, "The longest wait for the next bytes of a body. Over it: 408."),
    key("body_rate_min", Shape::Bytes, "Bytes a second that a body must reach after body_grace. Under it: 408."),
    key("body_grace", Shape::Duration, "How long a body may be waited for before body_rate_min counts."),
    key("connections_max", COUNT, "Client connections at once. Over it: 503. Default: from the descriptor limit."),
    key("connections_per_address_max", COUNT, "Of these, from one IPv4 address or IPv6 /64. Over it: 503."),
    key("h2_streams_max", Shape::Count { min: 1, max: 10_000 }, "Streams at once on one HTTP/2 connection."),
    key("h2_resets_max", COUNT, "Streams that a client may cancel on one HTTP/2 connection in 10 s. Over it: closed."),
    key("target_bytes_max", Shape::Bytes, "Of a request's path and query. Over it: 414."),
    key("header_fields_max", Shape::Count { min: 1, max: 256 }, "Header fields of a request. Over it: 431."),
    key("header_field_bytes_max", Shape::Bytes, "Of one header field. Over it: 431."),
    key("header_bytes_max", Shape::Bytes, "Of all header fields together. Over it: 431."),
    key("header_timeout", Shape::Duration, "From the first byte of a request's head to its last. Over it: 408."),
    key("keepalive", Shape::Duration, "How long an idle client connection is kept."),
    key("write_stall", Shape::Duration, "The longest wait for a client to take more of its answer."),
];

const COUNT: Shape = Shape::Count { min: 1, max: 10_000_000 };

const UPSTREAM: &[Key] = &[
    key("keepalive", Shape::Count { min: 1, max: 100_000 }, "Idle connections kept per thread."),
    key("idle", Shape::Duration, "How long an idle connection is kept."),
    key("dns_ttl_max", Shape::Duration, "The longest a DNS answer is believed."),
];

impl Shape {
    /// Reports everything in `place` and below that is not of this shape.
    pub fn check(&self, place: &Place<'_>) {
        match *self {
            Shape::Map { keys, short } => check_map(place, keys, short),
            Shape::Named(shape) => check_named(place, shape, |_, _| ()),
            Shape::ByEndpoint(shape) => check_named(place, shape, check_endpoint),
            Shape::Many(shape) => place.items().iter().for_each(|item| shape.check(item)),
            Shape::Text
            | Shape::Count { .. }
            | Shape::Bytes
            | Shape::Duration
            | Shape::Price
            | Shape::Date
            | Shape::Percent
            | Shape::Budget
            | Shape::Secret
            | Shape::Address
            | Shape::Choice(_)
            | Shape::Endpoint
            | Shape::CatalogueRow => self.check_scalar(place),
        }
    }

    /// The paths of all keys that `place` leaves out.
    #[cfg(test)]
    pub fn absent(&self, place: &Place<'_>) -> Vec<String> {
        let Shape::Map { keys, .. } = *self else { return Vec::new() };
        let absent = |key: &Key| match place.get(key.name) {
            Some(value) => key.shape.absent(&value),
            None => vec![super::tree::join(&place.path, key.name)],
        };
        keys.iter().flat_map(absent).collect()
    }

    fn check_scalar(&self, place: &Place<'_>) {
        let Some(text) = place.text() else {
            return place.fault(format!("{} where {} is expected", found(place), self.expected()));
        };
        match *self {
            Shape::Choice(words) => check_word(place, text, words),
            Shape::Endpoint => check_endpoint(place, text),
            Shape::CatalogueRow => check_word(place, text, &catalogue::names()),
            _ if self.accepts(text) => (),
            _ => place.fault(format!("'{text}' is not {}", self.expected())),
        }
    }

    fn accepts(&self, text: &str) -> bool {
        match *self {
            Shape::Count { min, max } => amount::count(text).is_some_and(|value| (min..=max).contains(&value)),
            Shape::Bytes => amount::bytes(text).is_some_and(|value| value > 0),
            Shape::Duration => amount::duration(text).is_some(),
            Shape::Price => amount::microusd(text).is_some(),
            Shape::Date => amount::date(text).is_some(),
            Shape::Percent => amount::percent(text).is_some(),
            Shape::Budget => limits::budget(text).is_some(),
            Shape::Address => text.parse::<std::net::SocketAddr>().is_ok(),
            // A secret's own check (secret.rs) says more than a shape could; and must not show it.
            Shape::Text | Shape::Secret => true,
            Shape::Choice(words) => words.contains(&text),
            Shape::Endpoint => Endpoint::proxied().any(|endpoint| endpoint.name() == text),
            Shape::CatalogueRow => catalogue::by_name(text).is_some(),
            Shape::Map { .. } | Shape::Named(_) | Shape::ByEndpoint(_) | Shape::Many(_) => false,
        }
    }

    /// What is expected here, for a message.
    fn expected(&self) -> String {
        match *self {
            Shape::Text => "text".to_owned(),
            Shape::Count { min, max } => format!("a whole number from {min} to {max}"),
            Shape::Bytes => "a number of bytes, e.g. 64MiB".to_owned(),
            Shape::Duration => "a duration above zero and at most a day, e.g. 500ms, 2s, 10m".to_owned(),
            Shape::Price => "US dollars with at most six decimals, e.g. 3.00".to_owned(),
            Shape::Date => "a date since 1970, e.g. 2026-11-01 or 2026-11-01T12:00:00Z".to_owned(),
            Shape::Percent => "per cent from 0% to 100%, e.g. 20%".to_owned(),
            Shape::Budget => limits::BUDGET_EXPECTED.to_owned(),
            Shape::Secret => "env:NAME or file:PATH".to_owned(),
            Shape::Address => "IP:PORT, e.g. 0.0.0.0:8080".to_owned(),
            Shape::Choice(words) => format!("one of {}", words.join(", ")),
            Shape::Endpoint => "the name of an endpoint".to_owned(),
            Shape::CatalogueRow => "a kind of the catalogue".to_owned(),
            Shape::Map { short: None, .. } | Shape::Named(_) | Shape::ByEndpoint(_) => "a map".to_owned(),
            Shape::Map { short: Some(_), .. } => "text or a map".to_owned(),
            Shape::Many(shape) => format!("{} or a list of such", shape.expected()),
        }
    }
}

fn check_map(place: &Place<'_>, keys: &[Key], short: Option<&str>) {
    match (&place.node.kind, short.and_then(|name| keys.iter().find(|key| key.name == name))) {
        (Kind::Map(_) | Kind::Null, _) => (),
        (Kind::Scalar(_) | Kind::List(_), Some(key)) => return key.shape.check(place),
        (Kind::Scalar(_) | Kind::List(_), None) => {
            return place.fault(format!("{} where a map is expected", found(place)));
        }
    }
    for (name, value) in place.entries() {
        match keys.iter().find(|key| key.name == name) {
            Some(key) => check_value(&value, &key.shape),
            None => unknown_key(&value, name, keys),
        }
    }
    for key in keys.iter().filter(|key| key.required && place.get(key.name).is_none()) {
        place.fault(format!("'{}' is missing: {}", key.name, key.about));
    }
}

fn unknown_key(place: &Place<'_>, name: &str, keys: &[Key]) {
    let names: Vec<_> = keys.iter().map(|key| key.name).collect();
    match nearest(name, names.iter().copied()) {
        Some(meant) => place.fault_meant("unknown key", Some(meant)),
        None => place.fault(format!("unknown key; known here: {}", names.join(", "))),
    }
}

/// A key without a value is as good as absent where a map or list may be empty, and a slip everywhere else.
fn check_value(place: &Place<'_>, shape: &Shape) {
    let may_be_empty = matches!(shape, Shape::Map { .. } | Shape::Named(_) | Shape::ByEndpoint(_) | Shape::Many(_));
    match place.node.kind {
        Kind::Null if may_be_empty => (),
        Kind::Null => place.fault(format!("no value where {} is expected", shape.expected())),
        Kind::Scalar(_) | Kind::List(_) | Kind::Map(_) => shape.check(place),
    }
}

fn check_named(place: &Place<'_>, shape: &Shape, check_name: fn(&Place<'_>, &str)) {
    if matches!(place.node.kind, Kind::Scalar(_) | Kind::List(_)) {
        return place.fault(format!("{} where a map is expected", found(place)));
    }
    for (name, value) in place.entries() {
        check_name(&value, name);
        shape.check(&value);
    }
}

fn check_endpoint(place: &Place<'_>, text: &str) {
    let names: Vec<_> = Endpoint::proxied().map(Endpoint::name).collect();
    check_word(place, text, &names);
}

fn check_word(place: &Place<'_>, text: &str, words: &[&str]) {
    if !words.contains(&text) {
        place.fault_near(format!("'{text}' is not one of {}", words.join(", ")), text, words.iter().copied());
    }
}

fn found(place: &Place<'_>) -> &'static str {
    match place.node.kind {
        Kind::Null => "nothing",
        Kind::Scalar(_) => "text",
        Kind::List(_) => "a list",
        Kind::Map(_) => "a map",
    }
}
