//! A client that speaks HTTP/2 with prior knowledge.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
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
    H2Connection::open(addr).await?.exchange(request).await
}

/// A connection that takes many requests at a time. Dropping it closes it.
pub struct H2Connection {
    client: SendRequest<Bytes>,
    _driver: JoinSet<()>,
}

impl H2Connection {
    /// Connects.
    pub async fn open(addr: SocketAddr) -> Result<Self, h2::Error> {
        let stream = TcpStream::connect(addr).await.expect("connect");
        stream.set_nodelay(true).unwrap();
        let (client, connection) = h2::client::handshake(stream).await?;
        let mut driver = JoinSet::new();
        driver.spawn(async { drop(connection.await) });
        Ok(Self { client: client.ready().await?, _driver: driver })
    }

    /// Sends a request and reads its answer.
    pub async fn exchange(&self, request: &Request) -> Result<Response, h2::Error> {
        let (answer, _upload) = self.begin(request).await?;
        let (mut body, mut faults) = (Vec::new(), Vec::new());
        let (head, mut stream) = answer;
        while let Some(data) = stream.data().await {
            match data {
                Ok(data) => {
                    let _ = stream.flow_control().release_capacity(data.len());
                    body.extend_from_slice(&data);
                }
                Err(error) => faults.push(error.to_string()),
            }
        }
        Ok(Response { status: head.0, head: head.1, body, faults })
    }

    /// Sends a request and waits for the head of the answer; the body goes on being sent meanwhile.
    async fn begin(&self, request: &Request) -> Result<(((u16, Head), h2::RecvStream), JoinSet<()>), h2::Error> {
        let mut client = self.client.clone().ready().await?;
        let (response, sending) = client.send_request(h2_head(request), request.body.is_empty())?;
        let body = request.body.clone();
        let mut upload = JoinSet::new();
        upload.spawn(async { drop(send_body(sending, body).await) });
        let response = response.await?;
        let mut head = Head::default();
        for (name, value) in response.headers() {
            head.fields.push((name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
        }
        Ok((((response.status().as_u16(), head), response.into_body()), upload))
    }
}

/// A request over HTTP/2 on a connection of its own, whose answer is read piece by piece. Dropping it
/// closes the connection.
pub struct H2Stream {
    /// The status.
    pub status: u16,
    /// The head.
    pub head: Head,
    body: h2::RecvStream,
    _connection: H2Connection,
    _upload: JoinSet<()>,
}

impl H2Stream {
    /// Sends the request and waits for the head of the answer.
    pub async fn open(addr: SocketAddr, request: &Request) -> Result<Self, h2::Error> {
        let connection = H2Connection::open(addr).await?;
        let (((status, head), body), upload) = connection.begin(request).await?;
        Ok(Self { status, head, body, _connection: connection, _upload: upload })
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
    let told = request.headers.iter().any(|(name, _)| name == "content-length");
    if request.sending == Sending::Length && !request.body.is_empty() && !told {
        head = head.header("content-length", request.body.len());
    }
    head.body(()).unwrap()
}

async fn send_body(mut sending: h2::SendStream<Bytes>, mut body: Bytes) -> Result<(), h2::Error> {
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
