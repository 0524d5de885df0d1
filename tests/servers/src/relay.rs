//! An address that leads to one server at a time.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// A local TCP port that forwards each new connection to a server. The server can be exchanged for another,
/// which open connections do not notice.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    server: Arc<Mutex<String>>,
}

impl Relay {
    /// Starts a relay to the server at `server`, such as `127.0.0.1:6379`. `answer` may change the bytes that
    /// the server sends, one piece at a time.
    ///
    /// # Errors
    /// If no port is free.
    pub async fn to(server: &str, answer: impl Fn(&mut [u8]) + Clone + Send + 'static) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let server = Arc::new(Mutex::new(server.to_owned()));
        let target = Arc::clone(&server);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = target.lock().unwrap_or_else(PoisonError::into_inner).clone();
                // A server that refuses the connection shows as a connection that is closed at once.
                let Ok(server) = TcpStream::connect(server).await else { continue };
                let (mut client_reads, mut client_writes) = client.into_split();
                let (mut server_reads, mut server_writes) = server.into_split();
                let answer = answer.clone();
                tokio::spawn(async move {
                    drop(tokio::io::copy(&mut client_reads, &mut server_writes).await);
                    server_writes.shutdown().await
                });
                tokio::spawn(async move {
                    let mut buffer = vec![0; 64 << 10];
                    while let Ok(length @ 1..) = server_reads.read(&mut buffer).await {
                        answer(&mut buffer[..length]);
                        client_writes.write_all(&buffer[..length]).await?;
                    }
                    client_writes.shutdown().await
                });
            }
        });
        Ok(Self { address, server })
    }

    /// Returns the address that clients connect to.
    #[must_use]
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Forwards the connections that are opened from now on to the server at `server`.
    pub fn redirect(&self, server: &str) {
        server.clone_into(&mut self.server.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
