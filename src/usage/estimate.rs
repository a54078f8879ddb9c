//! Tokens of an answer whose provider did not count them, by a tokenizer: off the data plane, and loaded when the
//! first such answer comes.
//!
//! The vocabulary is OpenAI's o200k. Other models' count other tokens, so this is an estimate and marked so; it is
//! far closer than a count of bytes where the text is code, numbers, or not English.

use std::collections::HashMap;

use tokio::sync::mpsc::{Receiver, Sender, channel as bounded};

use super::Said;

/// Texts that wait to be counted; beyond it, the guess from their bytes stays.
const WAITING_MAX: usize = 256;
/// Where nothing better is known.
const BYTES_PER_TOKEN: u64 = 4;

/// A text and the id of its record.
pub(super) struct Text {
    pub id: String,
    pub said: Said,
}

/// The data plane's end.
#[derive(Debug)]
pub(super) struct Texts(Sender<Text>);

/// The control runtime's end.
pub(super) struct Pending {
    waiting: Receiver<Text>,
    texts: HashMap<String, Said>,
}

pub(super) fn channel() -> (Texts, Pending) {
    let (sender, waiting) = bounded(WAITING_MAX);
    (Texts(sender), Pending { waiting, texts: HashMap::new() })
}

impl Texts {
    pub(super) fn send(&self, text: Text) {
        // Full, or nobody counts any more: the guess stays.
        let _ = self.0.try_send(text);
    }
}

impl Pending {
    /// The text of the record of this id.
    pub(super) fn take(&mut self, id: &str) -> Option<Said> {
        if self.texts.len() > WAITING_MAX {
            // Of records that never came: the journal was full.
            self.texts.clear();
        }
        while let Ok(text) = self.waiting.try_recv() {
            self.texts.insert(text.id, text.said);
        }
        self.texts.remove(id)
    }
}

/// The tokens of a text; may take a second when it is the first.
pub(super) fn tokens(said: &Said) -> u64 {
    let text = unescaped(&said.text);
    let counted = bpe_openai::o200k_base().count(&text) as u64;
    // What was not kept is like what was.
    let beyond = match (said.text.len() as u64, said.bytes_beyond) {
        (_, 0) => 0,
        (0, beyond) => beyond.div_ceil(BYTES_PER_TOKEN),
        (kept, beyond) => (u128::from(beyond) * u128::from(counted)).div_ceil(u128::from(kept)) as u64,
    };
    counted + beyond
}

/// The text that a part of a JSON string stands for; a part that is cut inside an escape loses that.
fn unescaped(part: &[u8]) -> String {
    let part = String::from_utf8_lossy(part);
    let whole = |text: &str| serde_json::from_str::<String>(&format!("\"{text}\"")).ok();
    // The longest escape, a pair of surrogates, has twelve characters.
    let cut = |count: usize| part.get(..part.len().checked_sub(count)?);
    (0..12).find_map(|count| whole(cut(count)?)).unwrap_or_else(|| part.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str, bytes_beyond: u64) -> Said {
        Said { text: text.as_bytes().to_vec(), bytes_beyond, prices: None }
    }

    #[test]
    fn texts_are_counted_as_the_vocabulary_does() {
        assert_eq!(tokens(&said("Hello, world!", 0)), 4);
        assert_eq!(tokens(&said(r#"a\n\"b\u0041"#, 0)), tokens(&said(r#"a\n\"bA"#, 0)));
        assert_eq!(tokens(&said("", 0)), 0);
        assert_eq!(tokens(&said("", 9)), 3);
        let bangla = "আমি বাংলায় গান গাই";
        assert!((5..=20).contains(&tokens(&said(bangla, 0))), "{}", tokens(&said(bangla, 0)));
        let (once, twice) = (tokens(&said("one two three ", 0)), tokens(&said("one two three ", 14)));
        assert_eq!(twice, 2 * once);
    }

    #[test]
    fn a_cut_escape_costs_only_itself() {
        for cut in [r"abc\", r"abc\u", r"abc\u00", r"abc\ud83d\ude0"] {
            assert_eq!(unescaped(cut.as_bytes()), "abc", "{cut}");
        }
    }

    #[test]
    fn what_waits_is_bounded() {
        let (texts, mut pending) = channel();
        for id in 0..2 * WAITING_MAX {
            texts.send(Text { id: id.to_string(), said: said("x", 0) });
        }
        assert!(pending.take("3").is_some() && pending.take("3").is_none());
        assert!(pending.take(&(2 * WAITING_MAX - 1).to_string()).is_none());
    }
}
