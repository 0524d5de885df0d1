//! A name that leads to one server at a time.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use larder_testkit::Must;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// An address whose new connections go to a server that can be changed.
pub(crate) struct Relay {
    address: SocketAddr,
    server: Arc<Mutex<String>>,
}

impl Relay {
    /// `answer` may change each piece of what a server sends.
    pub(crate) async fn to(server: &str, answer: impl Fn(&mut [u8]) + Clone + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.must("bind a port");
        let address = listener.local_addr().must("know the address");
        let server = Arc::new(Mutex::new(server.to_owned()));
        let target = Arc::clone(&server);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = target.lock().must("read the target").clone();
                let server = TcpStream::connect(server).await.must("connect to the server");
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
        Self { address, server }
    }

    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// Connections that are made from now on go to another server.
    pub(crate) fn lead_to(&self, server: &str) {
        server.clone_into(&mut self.server.lock().must("change the target"));
    }
}
