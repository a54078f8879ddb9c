//! One HTTP/1.1 connection of an upstream.

use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::io::Io;
use super::{Received, Shared, Step};
use crate::support::wire::{BodyDecoder, Framing, Head};

/// The largest request head taken.
const HEAD_BYTES_MAX: usize = 1 << 20;

struct Connection {
    io: Io,
    buf: BytesMut,
    id: usize,
    shared: Arc<Shared>,
}

/// The request being answered.
struct Exchange {
    index: usize,
    decoder: BodyDecoder,
    /// How the answer's body is framed.
    framing: Framing,
}

/// Whether a connection goes on.
#[derive(PartialEq, Eq)]
enum Next {
    Go,
    Stop,
}

/// Serves requests until one side closes.
pub async fn serve(io: Io, buf: BytesMut, id: usize, shared: Arc<Shared>) {
    let mut connection = Connection { io, buf, id, shared };
    while let Some(head) = connection.read_head().await {
        if connection.answer(head).await == Next::Stop {
            return;
        }
    }
}

impl Connection {
    async fn read_head(&mut self) -> Option<Head> {
        loop {
            if let Some(head) = Head::take(&mut self.buf) {
                return Some(head);
            }
            if self.buf.len() > HEAD_BYTES_MAX || self.io.read_buf(&mut self.buf).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    async fn answer(&mut self, head: Head) -> Next {
        let mut exchange = self.begin(head);
        for step in self.shared.next_reply(exchange.index).steps {
            if self.run(step, &mut exchange).await == Next::Stop {
                return Next::Stop;
            }
        }
        if exchange.framing == Framing::UntilClose || self.read_body(&mut exchange, usize::MAX).await == Next::Stop {
            return Next::Stop;
        }
        Next::Go
    }

    fn begin(&self, head: Head) -> Exchange {
        let framing = head.framing(Framing::Empty);
        let mut faults = head.faults.clone();
        let mut words = head.start.split(' ').map(str::to_owned);
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        if words.next().as_deref() != Some("HTTP/1.1") || words.next().is_some() {
            faults.push(format!("request line {:?}", head.start));
        }
        if head.all("host").len() != 1 {
            faults.push(format!("host {:?}", head.all("host")));
        }
        let decoder = BodyDecoder::new(framing);
        let complete = decoder.done();
        let received = Received {
            connection: self.id,
            version: "1.1",
            method,
            target,
            head,
            framing,
            complete,
            faults,
            ..Received::default()
        };
        Exchange { index: self.shared.begin(received), decoder, framing: Framing::Empty }
    }

    async fn run(&mut self, step: Step, exchange: &mut Exchange) -> Next {
        match step {
            Step::ReadBody => self.read_body(exchange, usize::MAX).await,
            Step::ReadSome(bytes) => self.read_body(exchange, bytes).await,
            Step::Head(status, headers, framing) => {
                exchange.framing = framing;
                self.write(&head_bytes(status, &headers, framing), exchange).await
            }
            Step::Data(data) => self.write(&framed(&data, exchange.framing), exchange).await,
            Step::End if exchange.framing == Framing::Chunked => self.write(b"0\r\n\r\n", exchange).await,
            Step::End => Next::Go,
            Step::Raw(bytes) => self.write(&bytes, exchange).await,
            Step::Pause(time) => self.wait(tokio::time::sleep(time), exchange).await,
            Step::Wait(gate) => self.wait(gate.passed(), exchange).await,
            Step::Hang => self.wait(std::future::pending(), exchange).await,
            Step::Close => {
                let _ = self.io.shutdown().await;
                Next::Stop
            }
            Step::Reset => {
                self.io.reset_on_close();
                Next::Stop
            }
            Step::EchoBody => {
                let (head, body) = self.shared.echo(exchange.index);
                let head = head_bytes(200, &head, Framing::Length(body.len() as u64));
                self.write(&[&head[..], &body].concat(), exchange).await
            }
            Step::EchoBytes => self.echo(exchange).await,
        }
    }

    async fn read_body(&mut self, exchange: &mut Exchange, bytes: usize) -> Next {
        let mut fresh = Vec::new();
        let mut seen = 0;
        loop {
            let outcome = exchange.decoder.decode(&mut self.buf, &mut fresh);
            seen += fresh.len();
            self.shared.update(exchange.index, |received| {
                received.body.append(&mut fresh);
                received.complete = exchange.decoder.done();
                received.faults.extend(outcome.as_ref().err().cloned());
            });
            if outcome.is_err() {
                return Next::Stop;
            }
            if exchange.decoder.done() || seen >= bytes {
                return Next::Go;
            }
            if self.io.read_buf(&mut self.buf).await.unwrap_or(0) == 0 {
                return self.abandoned(exchange);
            }
        }
    }

    async fn write(&mut self, bytes: &[u8], exchange: &Exchange) -> Next {
        match self.io.write_all(bytes).await {
            Ok(()) if self.io.flush().await.is_ok() => Next::Go,
            _ => self.abandoned(exchange),
        }
    }

    /// Waits for `event`; the other side's close ends the wait and the connection.
    async fn wait(&mut self, event: impl Future<Output = ()>, exchange: &Exchange) -> Next {
        tokio::pin!(event);
        loop {
            tokio::select! {
                () = &mut event => return Next::Go,
                read = self.io.read_buf(&mut self.buf) => {
                    if read.unwrap_or(0) == 0 {
                        return self.abandoned(exchange);
                    }
                }
            }
        }
    }

    async fn echo(&mut self, exchange: &Exchange) -> Next {
        loop {
            let bytes: Bytes = self.buf.split().freeze();
            if self.write(&bytes, exchange).await == Next::Stop {
                return Next::Stop;
            }
            if self.io.read_buf(&mut self.buf).await.unwrap_or(0) == 0 {
                return self.abandoned(exchange);
            }
        }
    }

    fn abandoned(&self, exchange: &Exchange) -> Next {
        self.shared.update(exchange.index, |received| received.abandoned = Some(Instant::now()));
        Next::Stop
    }
}

fn head_bytes(status: u16, headers: &[(String, String)], framing: Framing) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {status} Scripted\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    match framing {
        Framing::Length(length) => text.push_str(&format!("content-length: {length}\r\n")),
        Framing::Chunked => text.push_str("transfer-encoding: chunked\r\n"),
        Framing::Empty | Framing::UntilClose | Framing::Stream => {}
    }
    text.push_str("\r\n");
    text.into_bytes()
}

fn framed(data: &Bytes, framing: Framing) -> Vec<u8> {
    match framing {
        Framing::Chunked => [format!("{:x}\r\n", data.len()).as_bytes(), data, b"\r\n"].concat(),
        Framing::Empty | Framing::Length(_) | Framing::UntilClose | Framing::Stream => data.to_vec(),
    }
}
