//! What a service manager is told: sd_notify(3), without its library.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// What there is to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// This process serves, and is the one to look after: it may have taken over from another.
    Ready,
    /// It finishes what is open and ends.
    Stopping,
}

/// Tells the service manager, if there is one.
pub(super) fn tell(state: State) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let text = match state {
        State::Ready => format!("READY=1\nMAINPID={}", std::process::id()),
        State::Stopping => "STOPPING=1".to_owned(),
    };
    if let Err(error) = send(socket.as_bytes(), text.as_bytes()) {
        log::warn!("the service manager cannot be told {text:?}: {error}");
    }
}

fn send(socket: &[u8], text: &[u8]) -> io::Result<()> {
    let address = match socket {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        path => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(path))?,
    };
    UnixDatagram::unbound()?.send_to_addr(text, &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_in_the_file_system_and_abstract_ones_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let name = format!("forge-test-{}", std::process::id());
        let abstract_address = SocketAddr::from_abstract_name(name.as_bytes()).unwrap();
        for (receiver, socket) in [
            (UnixDatagram::bind(&path).unwrap(), path.as_os_str().as_bytes().to_vec()),
            (UnixDatagram::bind_addr(&abstract_address).unwrap(), format!("@{name}").into_bytes()),
        ] {
            send(&socket, b"READY=1").unwrap();
            let mut space = [0; 64];
            let length = receiver.recv(&mut space).unwrap();
            assert_eq!(&space[..length], b"READY=1");
        }
    }
}
