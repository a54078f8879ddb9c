//! The demo provider, started when a routes.yaml first asks for it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Mutex, PoisonError};

use tokio::runtime::Handle;

use crate::demo;

/// Starts the demo provider once, on a free port of loopback.
pub(super) struct Demo {
    runtime: Handle,
    started: Mutex<Option<SocketAddr>>,
}

impl Demo {
    pub(super) fn on(runtime: Handle) -> Self {
        Self { runtime, started: Mutex::new(None) }
    }

    /// Its address; the first call starts it.
    ///
    /// # Errors
    /// No port can be bound.
    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        let mut started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(address) = *started {
            return Ok(address);
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let _entered = self.runtime.enter();
        self.runtime.spawn(demo::serve(listener)?);
        log::info!("the demo provider answers on {address}");
        *started = Some(address);
        Ok(address)
    }
}
