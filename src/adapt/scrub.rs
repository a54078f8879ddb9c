//! Takes out of a provider's text what is not the client's business: URLs, the provider's hosts, and what
//! looks like a credential or an account. Everything else stays.

use std::borrow::Cow;

use crate::config::{Auth, Provider};

/// Stands where something was taken out; needs no escape in JSON.
const REMOVED: &str = "[removed]";

/// What credentials and accounts of providers begin with.
const TOKENS: &[&str] = &[
    "sk-",    // OpenAI, Anthropic, DeepSeek, OpenRouter, and ours
    "sk_",    // ElevenLabs, Stripe-like
    "pk-",    // Langfuse and others
    "gsk_",   // Groq
    "xai-",   // xAI
    "pplx-",  // Perplexity
    "nvapi-", // NVIDIA
    "hf_",    // Hugging Face
    "fw_",    // Fireworks
    "tgp_v1", // Together
    "pa-",    // Voyage
    "jina_",  // Jina
    "AIza",   // Google
    "ya29.",  // Google OAuth
    "AKIA",   // AWS
    "eyJ",    // a JSON Web Token
    "org-",   // OpenAI organisation
    "proj_",  // OpenAI project
];

/// The fewest bytes a token has behind its beginning: `sk-learn` and `org-wide` are words.
const TOKEN_BYTES_MIN: usize = 8;

/// Knows what to take out for one provider.
#[derive(Debug)]
pub(super) struct Scrubber<'a> {
    secrets: Vec<&'a str>,
    hosts: Vec<&'a str>,
}

impl<'a> Scrubber<'a> {
    pub(super) fn of(provider: &'a Provider) -> Self {
        let secret = |header: &'a http::HeaderValue| {
            let text = header.to_str().ok()?;
            Some(match provider.auth {
                Auth::Bearer => text.strip_prefix("Bearer ").unwrap_or(text),
                Auth::XApiKey | Auth::ApiKey | Auth::None => text,
            })
        };
        let keys = provider.keys.iter().filter_map(|key| secret(&key.header));
        let hosts = provider.origins.iter().map(|origin| origin.host.as_str());
        Self { secrets: keys.filter(|key| !key.is_empty()).collect(), hosts: hosts.collect() }
    }

    /// `text` as it may be shown; borrowed when there was nothing to take out.
    pub(super) fn scrub<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut out = String::new();
        let (mut taken, mut at) = (0, 0);
        while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
            let starts_word = !text[..at].ends_with(|c: char| c.is_ascii_alphanumeric());
            match self.secret_len(rest, starts_word) {
                0 => at += rest.chars().next().map_or(1, char::len_utf8),
                length => {
                    out.push_str(&text[taken..at]);
                    out.push_str(REMOVED);
                    at += length;
                    taken = at;
                }
            }
        }
        if taken == 0 {
            return Cow::Borrowed(text);
        }
        out.push_str(&text[taken..]);
        Cow::Owned(out)
    }

    /// How many bytes `rest` begins with that must go; zero for none.
    fn secret_len(&self, rest: &str, starts_word: bool) -> usize {
        if let Some(secret) = self.secrets.iter().find(|secret| rest.starts_with(**secret)) {
            return secret.len();
        }
        if !starts_word {
            return 0;
        }
        let host = self.hosts.iter().find(|host| is_host(rest, host)).map_or(0, |host| host.len());
        url_len(rest).max(token_len(rest)).max(host)
    }
}

/// Whether `rest` begins with this host as a whole.
fn is_host(rest: &str, host: &str) -> bool {
    let Some(start) = rest.as_bytes().get(..host.len()) else { return false };
    let behind = rest.as_bytes().get(host.len());
    start.eq_ignore_ascii_case(host.as_bytes()) && !behind.is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'-')
}

/// The length of the URL that `rest` begins with, up to what ends one in running text or in a JSON string.
fn url_len(rest: &str) -> usize {
    let is_url = ["https://", "http://", "wss://", "ws://", "grpc://"]
        .iter()
        .any(|scheme| rest.as_bytes().get(..scheme.len()).is_some_and(|s| s.eq_ignore_ascii_case(scheme.as_bytes())));
    if !is_url {
        return 0;
    }
    let ends = |c: char| c.is_whitespace() || c.is_control() || "\"'\\<>()[]{}`".contains(c);
    let url = &rest[..rest.find(ends).unwrap_or(rest.len())];
    url.trim_end_matches(['.', ',', ';', ':', '!', '?']).len()
}

/// The length of the credential that `rest` begins with. Providers cut them with stars or dots in the middle.
fn token_len(rest: &str) -> usize {
    let Some(start) = TOKENS.iter().find(|start| rest.starts_with(**start)) else { return 0 };
    let of_token = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'*' | b'.');
    let length = rest.bytes().take_while(|b| of_token(*b)).count();
    let token = rest[..length].trim_end_matches(['.', '-', '_']);
    let tail = token.get(start.len()..).unwrap_or_default();
    let is_random = tail.bytes().any(|b| b.is_ascii_digit() || b.is_ascii_uppercase() || b == b'*');
    if tail.len() >= TOKEN_BYTES_MIN && is_random { token.len() } else { 0 }
}
