//! The connection to the server: made, lost, made again.

use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, Pipeline, RedisError};

use super::BUDGET;

const SCRIPT: &str = include_str!("script.lua");
/// The longest that connecting may take.
const CONNECT_MAX: Duration = Duration::from_millis(500);
/// After so long without an answer a connection is given up.
const SILENCE_MAX: Duration = Duration::from_secs(3);

/// The way to the server.
pub(super) struct Link {
    client: Client,
    /// Without its password.
    shown: String,
    connection: Option<MultiplexedConnection>,
    script: String,
    heard: Instant,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error("no answer in time")]
    Slow,
    #[error("not connected")]
    Down,
    #[error("an answer that makes no sense")]
    Senseless,
    #[error("{0}")]
    Server(#[from] RedisError),
}

impl Link {
    pub fn new(client: Client, shown: String) -> Self {
        Self { client, shown, connection: None, script: String::new(), heard: Instant::now() }
    }

    /// The server without its password.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// Connects where there is no connection, and finds out whether the server answers in time.
    pub async fn mend(&mut self) -> Result<(), LinkError> {
        if self.connection.is_some() && self.heard.elapsed() > SILENCE_MAX {
            self.connection = None;
        }
        if self.connection.is_none() {
            self.heard = Instant::now();
            let config = AsyncConnectionConfig::new()
                .set_connection_timeout(Some(CONNECT_MAX))
                .set_response_timeout(Some(SILENCE_MAX));
            let connecting = self.client.get_multiplexed_async_connection_with_config(&config);
            let connected = tokio::time::timeout(CONNECT_MAX, connecting).await.map_err(|_| LinkError::Slow)??;
            self.connection = Some(connected);
        }
        let connection = self.connection.as_mut().ok_or(LinkError::Down)?;
        let mut load = Cmd::new();
        load.arg("SCRIPT").arg("LOAD").arg(SCRIPT);
        let loaded = tokio::time::timeout(BUDGET, load.query_async::<String>(connection)).await;
        self.script = self.heard(loaded)?;
        Ok(())
    }

    /// Sends `calls` of the script, all at once, and waits for their answers.
    pub async fn send(&mut self, calls: &[Cmd]) -> Result<Vec<Vec<u64>>, LinkError> {
        let connection = self.connection.as_mut().ok_or(LinkError::Down)?;
        let mut pipeline = Pipeline::with_capacity(calls.len());
        for call in calls {
            pipeline.add_command(call.clone());
        }
        let answers = tokio::time::timeout(BUDGET, pipeline.query_async::<Vec<Vec<u64>>>(connection)).await;
        self.heard(answers)
    }

    /// A call of the script with so many keys.
    pub fn call(&self, keys: usize) -> Cmd {
        let mut call = Cmd::new();
        call.arg("EVALSHA").arg(&self.script).arg(keys);
        call
    }

    fn heard<T>(&mut self, answer: Result<Result<T, RedisError>, tokio::time::error::Elapsed>) -> Result<T, LinkError> {
        match answer {
            Err(_) => Err(LinkError::Slow),
            Ok(Ok(answer)) => {
                self.heard = Instant::now();
                Ok(answer)
            }
            Ok(Err(error)) => {
                if error.is_connection_dropped() || error.is_io_error() {
                    self.connection = None;
                }
                Err(LinkError::Server(error))
            }
        }
    }
}
