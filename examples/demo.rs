//! The built-in demo provider alone, without the gateway: prints its base URL and serves until it is ended.

use std::io::Write;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    writeln!(std::io::stdout(), "http://{}", listener.local_addr()?)?;
    forge::demo::serve(listener)?.await;
    Ok(())
}
