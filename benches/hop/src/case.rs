//! What is sent and what must come back: the table of cases.

use std::time::Duration;

use crate::link::Link;
use crate::load::Stop;
use crate::upstream::Mode;

/// The model as the client names it; Forge rewrites it to `MODEL_UPSTREAM`.
pub const MODEL: &str = "bench";
/// The model as the upstream knows it. Longer than `MODEL`, so that the rewrite moves the bytes behind it.
pub const MODEL_UPSTREAM: &str = "bench-upstream-70b";

/// One situation to measure.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Names it in the report, e.g. `16 KiB, model last`.
    pub name: &'static str,
    /// Length of the request body.
    pub body_bytes: usize,
    /// Where the body names its model.
    pub model_at: ModelAt,
    /// What its messages hold.
    pub content: Content,
    /// What the upstream answers.
    pub mode: Mode,
    /// What both sides of the gateway speak.
    pub link: Link,
    /// Requests under way at once, each on its connection; at most, where they come at a rate.
    pub connections: usize,
    /// When requests are sent.
    pub arrival: Arrival,
    /// What ends a measurement.
    pub stop: StopRule,
    /// Measured with `--quick` too.
    pub quick: bool,
    /// The issue's bound on Forge's CPU time per request, as a multiple of `bare`'s.
    pub ratio_max: Option<f64>,
}

/// Where a body names its model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelAt {
    /// Before the messages.
    First,
    /// After everything else.
    Last,
}

/// When requests are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Each connection sends its next request when the last is answered.
    Closed,
    /// At a constant rate: half of what bare Pingora can do with this case.
    HalfLoad,
}

/// What the messages of a body hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Turns of about 400 bytes, with an escape every 30 and some Bangla: the hardest to scan of what is usual.
    Dense,
    /// One long message of English, with a line end every 80 bytes.
    Prose,
    /// An image, in one message.
    Base64,
}

/// What ends a measurement of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopRule {
    /// The time of `--seconds`.
    Time,
    /// One request on every connection.
    OnePerConnection,
}

/// What most cases are.
pub const POST: Case = Case {
    name: "",
    body_bytes: 1 << 10,
    model_at: ModelAt::First,
    content: Content::Dense,
    mode: Mode::Reply,
    link: Link::Http1,
    connections: 32,
    arrival: Arrival::Closed,
    stop: StopRule::Time,
    quick: false,
    ratio_max: None,
};

/// Long prose: a document, or a conversation's history.
const PROSE: Case = Case { content: Content::Prose, model_at: ModelAt::Last, ratio_max: Some(1.2), ..POST };
/// An image as a data URL.
const IMAGE: Case = Case { content: Content::Base64, ..PROSE };

/// 100 events, 2 ms apart: close enough to load the gateway, apart enough that none melt into one read.
const STREAM: Mode = Mode::Events { count: 100, pause: Duration::from_millis(2) };
/// What the soak streams: 25 events over half a second.
pub const SOAK_STREAM: Mode = Mode::Events { count: 25, pause: Duration::from_millis(20) };
/// 5 events over 4 s: what a thousand idle-ish chats look like.
const SLOW_STREAM: Mode = Mode::Events { count: 5, pause: Duration::from_secs(1) };

/// Every case, in the order of the report.
pub const CASES: &[Case] = &[
    Case { name: "0.2 KiB, model first", body_bytes: 205, ..POST },
    Case { name: "1 KiB, model first", quick: true, ratio_max: Some(1.3), ..POST },
    Case { name: "1 KiB, model last", model_at: ModelAt::Last, ratio_max: Some(1.3), ..POST },
    Case { name: "16 KiB, model first", body_bytes: 16 << 10, quick: true, ratio_max: Some(1.2), ..POST },
    Case { name: "16 KiB, model last", body_bytes: 16 << 10, model_at: ModelAt::Last, ratio_max: Some(1.2), ..POST },
    Case { name: "128 KiB, model first", body_bytes: 128 << 10, ratio_max: Some(1.2), ..POST },
    Case { name: "128 KiB, model last", body_bytes: 128 << 10, model_at: ModelAt::Last, ratio_max: Some(1.2), ..POST },
    Case { name: "1 MiB, model first", body_bytes: 1 << 20, quick: true, ratio_max: Some(1.2), ..POST },
    Case { name: "1 MiB, model last", body_bytes: 1 << 20, model_at: ModelAt::Last, ratio_max: Some(1.2), ..POST },
    Case { name: "16 KiB prose, model last", body_bytes: 16 << 10, ..PROSE },
    Case { name: "100 KB prose, model last", body_bytes: 100_000, quick: true, ..PROSE },
    Case { name: "100 KB image, model last", body_bytes: 100_000, quick: true, ..IMAGE },
    Case { name: "1 MiB prose, model last", body_bytes: 1 << 20, ..PROSE },
    Case { name: "1 MiB image, model last", body_bytes: 1 << 20, ..IMAGE },
    Case { name: "SSE, 100 events", mode: STREAM, quick: true, ..POST },
    Case { name: "1 KiB, half load", arrival: Arrival::HalfLoad, ..POST },
    Case { name: "16 KiB, half load", body_bytes: 16 << 10, arrival: Arrival::HalfLoad, ..POST },
    Case { name: "1 KiB, TLS", link: Link::Tls, ..POST },
    Case { name: "16 KiB, TLS", link: Link::Tls, body_bytes: 16 << 10, ..POST },
    Case { name: "SSE, 100 events, TLS", link: Link::Tls, mode: STREAM, ..POST },
    Case { name: "1 KiB, HTTP/2", link: Link::Http2, ..POST },
    Case { name: "16 KiB, HTTP/2", link: Link::Http2, body_bytes: 16 << 10, ..POST },
    Case { name: "SSE, 100 events, HTTP/2", link: Link::Http2, mode: STREAM, ..POST },
    Case { name: "1,000 slow streams", mode: SLOW_STREAM, connections: 1000, stop: StopRule::OnePerConnection, ..POST },
    Case { name: "5,000 slow streams", mode: SLOW_STREAM, connections: 5000, stop: StopRule::OnePerConnection, ..POST },
];

impl Case {
    /// The body as the client sends it: exactly `body_bytes` long.
    pub fn body(&self) -> Vec<u8> {
        let stream = matches!(self.mode, Mode::Events { .. });
        let (head, tail) = match self.model_at {
            ModelAt::First => (format!(r#"{{"model":"{MODEL}","stream":{stream},"messages":["#), "]}".to_owned()),
            ModelAt::Last => (r#"{"messages":["#.to_owned(), format!(r#"],"stream":{stream},"model":"{MODEL}"}}"#)),
        };
        let messages = self.content.messages(self.body_bytes.saturating_sub(head.len() + tail.len()));
        [head, messages, tail].concat().into_bytes()
    }

    /// When the load generator stops.
    pub fn stop(&self, time: Duration) -> Stop {
        match self.stop {
            StopRule::Time => Stop::After(time),
            StopRule::OnePerConnection => Stop::Requests(1),
        }
    }
}

impl Content {
    /// Messages of exactly `bytes`.
    fn messages(self, bytes: usize) -> String {
        match self {
            Self::Dense => turns(bytes),
            Self::Prose => message("", PROSE_TEXT, bytes),
            Self::Base64 => message("data:image/png;base64,", IMAGE_TEXT, bytes),
        }
    }
}

const OPEN: &str = r#"{"role":"user","content":""#;
const CLOSE: &str = r#""}"#;
const DENSE_TEXT: &str =
    r#"Explain \"zero copy\" in plain words.\nশুভ সকাল, then list `let x = a[0];` and why it pays. "#;
const PROSE_TEXT: &str = r"All human beings are born free and equal in dignity and rights, all of us.\n";
const IMAGE_TEXT: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ+/";

/// A chat of turns.
fn turns(bytes: usize) -> String {
    let mut turns = String::with_capacity(bytes);
    let turn = [OPEN, &DENSE_TEXT.repeat(4), CLOSE, ","].concat();
    while turns.len() + 2 * turn.len() <= bytes {
        turns.push_str(&turn);
    }
    let rest = message("", DENSE_TEXT, bytes - turns.len());
    turns + &rest
}

/// One message that begins with `begin` and repeats `text`.
fn message(begin: &str, text: &str, bytes: usize) -> String {
    let filler = bytes.saturating_sub(OPEN.len() + begin.len() + CLOSE.len());
    let text = text.repeat(filler / text.len());
    let padding = " ".repeat(filler - text.len());
    [OPEN, begin, &text, &padding, CLOSE].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_json_of_the_promised_length() {
        for case in CASES {
            let body = case.body();
            let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!((body.len(), &json["model"]), (case.body_bytes, &MODEL.into()), "{}", case.name);
        }
    }
}
