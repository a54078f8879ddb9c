//! One HTTP/2 connection of an upstream.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{Request, Response};
use tokio::sync::Notify;

use super::io::Prefixed;
use super::{Received, Shared, Step};
use crate::support::wire::{Framing, Head};

const WINDOW_BYTES: u32 = 1 << 20;
/// What was said is on its way after so long.
const FLUSH: Duration = Duration::from_millis(50);

struct Exchange {
    index: usize,
    body: RecvStream,
    body_read: bool,
    respond: SendResponse<Bytes>,
    sending: Option<SendStream<Bytes>>,
    shared: Arc<Shared>,
    /// Ends the whole connection.
    close: Arc<Notify>,
}

#[derive(PartialEq, Eq)]
enum Next {
    Go,
    Stop,
}

/// Serves streams until one side closes.
pub async fn serve(io: Prefixed, id: usize, shared: Arc<Shared>) {
    let mut builder = h2::server::Builder::new();
    builder.initial_window_size(WINDOW_BYTES).initial_connection_window_size(4 * WINDOW_BYTES);
    if let Some(streams) = shared.streams_max() {
        builder.max_concurrent_streams(streams);
    }
    let Ok(mut connection) = builder.handshake(io).await else { return };
    let close = Arc::new(Notify::new());
    let mut streams = tokio::task::JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = connection.accept() => accepted,
            () = close.notified() => return flush(&mut connection).await,
        };
        let Some(Ok((request, respond))) = accepted else { return };
        let index = shared.begin(received(&request, id));
        let body = request.into_body();
        let (shared, close) = (shared.clone(), close.clone());
        let exchange = Exchange { index, body, body_read: false, respond, sending: None, shared, close };
        streams.spawn(exchange.answer());
    }
}

/// Gives what was said time to leave, then drops the connection without a word.
async fn flush(connection: &mut h2::server::Connection<Prefixed, Bytes>) {
    let _ = tokio::time::timeout(FLUSH, connection.accept()).await;
}

fn received(request: &Request<RecvStream>, id: usize) -> Received {
    let mut head = Head::default();
    if let Some(authority) = request.uri().authority() {
        head.fields.push(("host".into(), authority.to_string()));
    }
    for (name, value) in request.headers() {
        head.fields.push((name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
    }
    Received {
        connection: id,
        version: "2",
        method: request.method().to_string(),
        target: request.uri().path_and_query().map(ToString::to_string).unwrap_or_default(),
        head,
        framing: Framing::Stream,
        complete: request.body().is_end_stream(),
        ..Received::default()
    }
}

impl Exchange {
    async fn answer(mut self) {
        for step in self.shared.next_reply(self.index).steps {
            if self.run(step).await == Next::Stop {
                return;
            }
        }
        self.read_body(usize::MAX).await;
    }

    async fn run(&mut self, step: Step) -> Next {
        match step {
            Step::ReadBody => self.read_body(usize::MAX).await,
            Step::ReadSome(bytes) => self.read_body(bytes).await,
            Step::Head(status, headers, _) => self.send_head(status, &headers),
            Step::Data(data) => self.send_data(data).await,
            Step::End => self.end(),
            Step::Pause(time) => self.wait(tokio::time::sleep(time)).await,
            Step::Wait(gate) => self.wait(gate.passed()).await,
            Step::Hang => self.wait(std::future::pending()).await,
            Step::Close => {
                // Leaving this task would reset the stream and drop what was said; the connection's end ends it.
                self.close.notify_one();
                std::future::pending().await
            }
            Step::Reset => {
                // A reset drops what was not sent yet.
                tokio::time::sleep(FLUSH).await;
                self.respond.send_reset(Reason::INTERNAL_ERROR);
                Next::Stop
            }
            Step::EchoBody => {
                let (head, body) = self.shared.echo(self.index);
                if self.send_head(200, &head) == Next::Stop || self.send_data(body.into()).await == Next::Stop {
                    return Next::Stop;
                }
                self.end()
            }
            Step::Raw(_) | Step::EchoBytes => panic!("{step:?} is not for HTTP/2"),
        }
    }

    async fn read_body(&mut self, bytes: usize) -> Next {
        let mut seen = 0;
        while !self.body_read && seen < bytes {
            match self.body.data().await {
                None => self.body_read = true,
                Some(Err(_)) => return self.abandoned(),
                Some(Ok(data)) => {
                    let _ = self.body.flow_control().release_capacity(data.len());
                    seen += data.len();
                    self.shared.update(self.index, |received| received.body.extend_from_slice(&data));
                }
            }
        }
        let complete = self.body_read;
        self.shared.update(self.index, |received| received.complete = complete);
        Next::Go
    }

    fn send_head(&mut self, status: u16, headers: &[(String, String)]) -> Next {
        let mut response = Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(name.to_ascii_lowercase(), value);
        }
        match self.respond.send_response(response.body(()).unwrap(), false) {
            Ok(sending) => {
                self.sending = Some(sending);
                Next::Go
            }
            Err(_) => self.abandoned(),
        }
    }

    async fn send_data(&mut self, mut data: Bytes) -> Next {
        let Some(sending) = &mut self.sending else { return Next::Stop };
        while !data.is_empty() {
            sending.reserve_capacity(data.len());
            let Some(Ok(capacity)) = std::future::poll_fn(|cx| sending.poll_capacity(cx)).await else {
                return self.abandoned();
            };
            let piece = data.split_to(capacity.min(data.len()));
            if sending.send_data(piece, false).is_err() {
                return self.abandoned();
            }
        }
        Next::Go
    }

    fn end(&mut self) -> Next {
        match self.sending.as_mut().map(|sending| sending.send_data(Bytes::new(), true)) {
            Some(Ok(())) => Next::Go,
            Some(Err(_)) | None => self.abandoned(),
        }
    }

    /// Waits for `event`; a reset by the other side ends the wait and the stream.
    async fn wait(&mut self, event: impl Future<Output = ()>) -> Next {
        let (respond, sending) = (&mut self.respond, &mut self.sending);
        let reset = std::future::poll_fn(|cx| match sending {
            Some(sending) => sending.poll_reset(cx),
            None => respond.poll_reset(cx),
        });
        tokio::select! {
            () = event => Next::Go,
            _ = reset => self.abandoned(),
        }
    }

    fn abandoned(&self) -> Next {
        self.shared.update(self.index, |received| received.abandoned = Some(Instant::now()));
        Next::Stop
    }
}
