//! A client that speaks HTTP/2 with prior knowledge.

use std::net::SocketAddr;

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::PATIENCE;
use super::client::{Request, Response, Sending};
use super::wire::Head;

/// Sends one request over HTTP/2 with prior knowledge and reads the answer.
pub async fn exchange_h2c(addr: SocketAddr, request: &Request) -> Response {
    timeout(2 * PATIENCE, try_exchange_h2c(addr, request)).await.expect("an answer in time").expect("an answer")
}

/// As [`exchange_h2c`]; a stream or connection error is returned.
pub async fn try_exchange_h2c(addr: SocketAddr, request: &Request) -> Result<Response, h2::Error> {
    let mut stream = H2Stream::open(addr, request).await?;
    let (mut body, mut faults) = (Vec::new(), Vec::new());
    loop {
        match stream.next_piece().await {
            Ok(Some(piece)) => body.extend_from_slice(&piece),
            Ok(None) => break,
            Err(error) => {
                faults.push(error.to_string());
                break;
            }
        }
    }
    Ok(Response { status: stream.status, head: stream.head.clone(), body, faults })
}

/// A request over HTTP/2 on a connection of its own, whose answer is read piece by piece. Dropping it
/// closes the connection.
pub struct H2Stream {
    /// The status.
    pub status: u16,
    /// The head.
    pub head: Head,
    body: h2::RecvStream,
    tasks: tokio::task::JoinSet<()>,
}

impl H2Stream {
    /// Sends the request and waits for the head of the answer.
    pub async fn open(addr: SocketAddr, request: &Request) -> Result<Self, h2::Error> {
        let stream = TcpStream::connect(addr).await.expect("connect");
        stream.set_nodelay(true).unwrap();
        let (client, connection) = h2::client::handshake(stream).await?;
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(async { drop(connection.await) });
        let mut client = client.ready().await?;
        let (response, sending) = client.send_request(h2_head(request), request.body.is_empty())?;
        let body = request.body.clone();
        tasks.spawn(async { drop(upload(sending, body).await) });
        let response = response.await?;
        let mut head = Head::default();
        for (name, value) in response.headers() {
            head.fields.push((name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
        }
        Ok(Self { status: response.status().as_u16(), head, body: response.into_body(), tasks })
    }

    /// The next piece of the body; `None` at its regular end.
    pub async fn next_piece(&mut self) -> Result<Option<Bytes>, h2::Error> {
        match timeout(PATIENCE, self.body.data()).await.expect("a piece in time") {
            None => Ok(None),
            Some(Err(error)) => Err(error),
            Some(Ok(data)) => {
                let _ = self.body.flow_control().release_capacity(data.len());
                Ok(Some(data))
            }
        }
    }
}

fn h2_head(request: &Request) -> http::Request<()> {
    let mut head = http::Request::builder().method(request.method.as_str()).version(http::Version::HTTP_2);
    head = head.uri(format!("http://{}{}", request.host, request.target));
    for (name, value) in &request.headers {
        head = head.header(name.to_ascii_lowercase(), value);
    }
    if request.sending == Sending::Length && !request.body.is_empty() {
        head = head.header("content-length", request.body.len());
    }
    head.body(()).unwrap()
}

async fn upload(mut sending: h2::SendStream<Bytes>, mut body: Bytes) -> Result<(), h2::Error> {
    if body.is_empty() {
        return Ok(());
    }
    while !body.is_empty() {
        sending.reserve_capacity(body.len());
        let Some(capacity) = std::future::poll_fn(|cx| sending.poll_capacity(cx)).await else { return Ok(()) };
        let piece = body.split_to(capacity?.min(body.len()));
        sending.send_data(piece, false)?;
    }
    sending.send_data(Bytes::new(), true)
}
