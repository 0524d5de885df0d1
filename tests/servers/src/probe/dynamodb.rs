//! HTTP, without a driver.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{connect, unexpected};

/// Ready if it answers a request, even if it rejects it.
pub(super) async fn ready(port: u16) -> io::Result<()> {
    let mut stream = connect(port).await?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    if answer.starts_with(b"HTTP/1.1 ") {
        Ok(())
    } else {
        Err(unexpected("the server does not speak HTTP", &answer))
    }
}
