//! What an upstream does with one request: a list of steps, and constructors for the usual lists.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;

use crate::support::wire::Framing;

/// One thing an upstream does.
#[derive(Debug, Clone)]
pub enum Step {
    /// Reads the request's body to its end.
    ReadBody,
    /// Reads this many bytes of the body, or all of it if there are fewer.
    ReadSome(usize),
    /// Sends status and headers; framing headers are added.
    Head(u16, Vec<(String, String)>, Framing),
    /// Sends bytes of the body, framed.
    Data(Bytes),
    /// Ends the body.
    End,
    /// Sends these bytes as they are (HTTP/1.1 only).
    Raw(Bytes),
    /// Does nothing for so long, or until the other side leaves.
    Pause(Duration),
    /// Waits for the test.
    Wait(Gate),
    /// Waits for the other side to leave.
    Hang,
    /// Closes; what follows is not done.
    Close,
    /// Resets the connection (HTTP/1.1) or the stream (HTTP/2); what follows is not done.
    Reset,
    /// Answers 200 with the request's own body and media type.
    EchoBody,
    /// Sends back every byte that comes, until the other side closes (HTTP/1.1 only).
    EchoBytes,
}

/// Opened by a test, once per waiting step.
#[derive(Debug, Clone)]
pub struct Gate(Arc<Semaphore>);

impl Gate {
    /// A closed gate.
    pub fn new() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    /// Lets `count` waiting steps pass, now or when they come.
    pub fn open(&self, count: usize) {
        self.0.add_permits(count);
    }

    /// Waits for an opening and uses it up.
    pub async fn passed(&self) {
        self.0.acquire().await.unwrap().forget();
    }
}

/// What an upstream does with one request.
#[derive(Debug, Clone)]
pub struct Reply {
    /// In order.
    pub steps: Vec<Step>,
}

impl Reply {
    /// These steps.
    pub fn steps(steps: impl IntoIterator<Item = Step>) -> Self {
        Self { steps: steps.into_iter().collect() }
    }

    /// Reads the body, then 200 with a small JSON object.
    pub fn ok() -> Self {
        Self::json(200, r#"{"id":"up-1","object":"test","model":"upstream-name","ok":true}"#)
    }

    /// Reads the body, then this status with this JSON.
    pub fn json(status: u16, body: &str) -> Self {
        Self::body(status, "application/json", body)
    }

    /// Reads the body, then this status with this body and a Content-Length.
    pub fn body(status: u16, content_type: &str, body: impl AsRef<[u8]>) -> Self {
        let body = Bytes::copy_from_slice(body.as_ref());
        let headers = vec![("content-type".to_owned(), content_type.to_owned())];
        let head = Step::Head(status, headers, Framing::Length(body.len() as u64));
        Self::steps([Step::ReadBody, head, Step::Data(body), Step::End])
    }

    /// Reads the body, then this status with an error of OpenAI's shape.
    pub fn error(status: u16) -> Self {
        Self::json(status, &format!(r#"{{"error":{{"message":"upstream says {status}","type":"server_error"}}}}"#))
    }

    /// Reads the body, then a chunked event stream of these pieces, each its own write.
    pub fn sse<T: AsRef<str>>(pieces: impl IntoIterator<Item = T>) -> Self {
        let mut reply = Self::sse_head();
        reply
            .steps
            .extend(pieces.into_iter().map(|piece| Step::Data(Bytes::copy_from_slice(piece.as_ref().as_bytes()))));
        reply.then(Step::End)
    }

    /// Reads the body, then the head of a chunked event stream.
    pub fn sse_head() -> Self {
        let headers = vec![("content-type".to_owned(), "text/event-stream".to_owned())];
        Self::steps([Step::ReadBody, Step::Head(200, headers, Framing::Chunked)])
    }

    /// Reads the body, then 200 with the same body.
    pub fn echo() -> Self {
        Self::steps([Step::ReadBody, Step::EchoBody])
    }

    /// Reads the body, then never says anything.
    pub fn hang() -> Self {
        Self::steps([Step::ReadBody, Step::Hang])
    }

    /// Resets without reading the body.
    pub fn reset() -> Self {
        Self::steps([Step::Reset])
    }

    /// Reads the body, then sends these bytes and closes.
    pub fn raw(bytes: impl AsRef<[u8]>) -> Self {
        Self::steps([Step::ReadBody, Step::Raw(Bytes::copy_from_slice(bytes.as_ref())), Step::Close])
    }

    /// With one more step.
    pub fn then(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// With one more header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        for step in &mut self.steps {
            if let Step::Head(_, headers, _) = step {
                headers.push((name.to_owned(), value.to_owned()));
            }
        }
        self
    }

    /// Answers without having read the body, then reads it.
    pub fn before_body(mut self) -> Self {
        self.steps.retain(|step| !matches!(step, Step::ReadBody));
        self
    }

    /// After so long.
    pub fn delayed(mut self, delay: Duration) -> Self {
        let at = self.steps.iter().position(|step| matches!(step, Step::Head(..))).unwrap_or(0);
        self.steps.insert(at, Step::Pause(delay));
        self
    }
}

/// A `data:` event of a stream.
pub fn sse_event(data: &str) -> String {
    format!("data: {data}\n\n")
}
