//! The demo model's text: what it says, how it is measured, cut and split.

use std::time::{SystemTime, UNIX_EPOCH};

/// Of the user's last message, the most that is quoted back, in characters.
const QUOTED_CHARS_MAX: usize = 120;

/// The demo model's estimate of tokens: one for every four bytes of UTF-8, rounded up. Every usage field and
/// every token limit goes by it.
pub(super) fn tokens(text: &str) -> u64 {
    (text.len() as u64).div_ceil(BYTES_PER_TOKEN)
}

const BYTES_PER_TOKEN: u64 = 4;

/// A random identifier with a provider's prefix, e.g. `chatcmpl-`.
pub(super) fn id(prefix: &str) -> String {
    let mut id = prefix.to_owned();
    id.extend(std::iter::repeat_with(fastrand::alphanumeric).take(24));
    id
}

/// Seconds since 1970.
pub(super) fn now_unix() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// What the demo model says about itself, to `said`.
pub(super) fn introduction(model: &str, said: &str) -> String {
    let (provider, target) = match model {
        name if name.starts_with("claude") => ("anthropic: env:ANTHROPIC_API_KEY", "anthropic"),
        name if name.starts_with("gpt") => ("openai: env:OPENAI_API_KEY", "openai"),
        _ => ("openai: env:OPENAI_API_KEY", "openai/gpt-5"),
    };
    format!(
        "Hello from Forge's built-in demo model, which answers for \"{model}\". You wrote: \"{}\". \
         Your request went the whole way through the gateway, but no AI read it. \
         For real answers change two lines of routes.yaml: \
         `{provider}` under providers and `{model}: {target}` under models. \
         Forge takes them up as soon as the file is saved.",
        quoted(said)
    )
}

/// The start of `text` on one line, cut between characters.
pub(super) fn quoted(text: &str) -> String {
    let mut words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = words.char_indices().nth(QUOTED_CHARS_MAX) {
        words.truncate(end);
        words.push('…');
    }
    words
}

/// What ends a text before its natural end.
#[derive(Debug, Default)]
pub(super) struct Limits {
    /// `max_tokens` in its several names.
    pub tokens_max: Option<u64>,
    /// Stop sequences.
    pub stops: Vec<String>,
}

/// Why a text ended where it does.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum End {
    /// The model was done.
    Natural,
    /// The token limit cut it.
    Length,
    /// This stop sequence came up; it is not part of the text.
    Stop(String),
}

/// A text within its limits.
#[derive(Debug, Clone)]
pub(super) struct Written {
    /// The text.
    pub text: String,
    /// Why it ended.
    pub end: End,
}

impl Limits {
    /// Cuts `draft` at the first stop sequence or at the token limit, whichever comes first.
    pub(super) fn apply(&self, mut draft: String) -> Written {
        let mut end = End::Natural;
        let stops = self.stops.iter().filter(|stop| !stop.is_empty());
        if let Some((at, stop)) = stops.filter_map(|stop| Some((draft.find(stop)?, stop))).min_by_key(|(at, _)| *at) {
            draft.truncate(at);
            end = End::Stop(stop.clone());
        }
        let bytes_max = self.tokens_max.unwrap_or(u64::MAX).saturating_mul(BYTES_PER_TOKEN);
        if draft.len() as u64 > bytes_max {
            draft.truncate(draft.floor_char_boundary(usize::try_from(bytes_max).unwrap_or(usize::MAX)));
            end = End::Length;
        }
        Written { text: draft, end }
    }
}

/// Splits a text into the pieces a stream sends: a few words, or as many characters without a space.
pub(super) fn pieces(text: &str) -> Vec<&str> {
    const PIECE_BYTES: usize = 24;
    let mut pieces = Vec::new();
    let mut rest = text;
    while rest.len() > PIECE_BYTES {
        let window = &rest[..rest.floor_char_boundary(PIECE_BYTES)];
        let end = window.rfind(' ').map_or(window.len(), |space| space + 1);
        let (piece, after) = rest.split_at(end);
        pieces.push(piece);
        rest = after;
    }
    if !rest.is_empty() {
        pieces.push(rest);
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_cuts_between_characters_and_holds() {
        for tokens_max in 0..40 {
            let limits = Limits { tokens_max: Some(tokens_max), stops: vec![] };
            let written = limits.apply("আমি বাংলায় গান গাই 🎵 and more".to_owned());
            assert!(tokens(&written.text) <= tokens_max, "{written:?}");
            assert_eq!(written.end == End::Length, written.text.len() < "আমি বাংলায় গান গাই 🎵 and more".len());
        }
    }

    #[test]
    fn the_first_stop_sequence_wins() {
        let limits = Limits { tokens_max: None, stops: vec!["three".into(), "two".into(), String::new()] };
        let written = limits.apply("one two three".to_owned());
        assert_eq!((written.text.as_str(), written.end), ("one ", End::Stop("two".into())));
    }

    #[test]
    fn pieces_make_up_the_text() {
        for text in ["", "short", "আমি বাংলায় গান গাই, আমি বাংলার গান গাই", &"x".repeat(500), &"🎵".repeat(99)]
        {
            assert_eq!(pieces(text).concat(), text);
            assert!(pieces(text).iter().all(|piece| !piece.is_empty() && piece.len() <= 24));
        }
    }
}
