//! A connection to a store that a law can hold and cut.

use std::{
    fmt, io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use larder_core::async_trait;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinHandle,
};

/// The connections between a storage and its store, which a law can hold and cut.
///
/// [`Proxy`] is the implementation for TCP.
#[async_trait]
pub trait Line: Send + Sync + 'static {
    /// Holds the requests of every open connection. Connections that are opened later are not affected.
    fn hold(&self);

    /// Returns the number of held bytes (or messages).
    fn held(&self) -> usize;

    /// Delivers the requests of every open connection, and discards the answers.
    fn swallow(&self);

    /// Delivers the requests of every open connection, and damages the answers.
    fn damage(&self);

    /// Closes the connections that are [held](Line::hold) or whose answers are
    /// [discarded](Line::swallow), on the storage's side only. On the store's side they stay open, and held requests
    /// can still be delivered.
    fn cut(&self);

    /// Closes every connection, and rejects new ones.
    fn refuse(&self);

    /// Accepts connections again.
    fn restore(&self);

    /// Delivers the held requests to the store, and closes all connections that were held or cut, or whose answers
    /// were discarded or damaged. Returns once the store has processed all requests.
    async fn release(&self);
}

/// A TCP proxy on a free port of this machine, which is a [`Line`].
///
/// It forwards bytes, so it works for every protocol, including TLS. Dropping it closes all
/// connections and discards held bytes.
pub struct Proxy {
    address: SocketAddr,
    connections: Arc<Mutex<Vec<Connection>>>,
    refuses: Arc<AtomicBool>,
    accepting: JoinHandle<()>,
}

/// The mode of a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Pass,
    Hold,
    Swallow,
    Damage,
    Cut,
    Deliver,
}

struct Connection {
    mode: watch::Sender<Mode>,
    held: Arc<AtomicUsize>,
    carrying: JoinHandle<()>,
}

impl Proxy {
    /// Starts a proxy to the server at `upstream`, such as `127.0.0.1:6379`.
    ///
    /// # Errors
    ///
    /// If the operating system has no free port. If the server rejects a connection, the proxy closes the
    /// client's connection immediately.
    pub async fn to(upstream: impl Into<String>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let upstream = upstream.into();
        let connections = Arc::<Mutex<Vec<Connection>>>::default();
        let refuses = Arc::<AtomicBool>::default();
        let (opened, refused) = (Arc::clone(&connections), Arc::clone(&refuses));
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if refused.load(Ordering::Acquire) {
                    continue;
                }
                let Ok(server) = TcpStream::connect(&upstream).await else { continue };
                let mut opened = lock(&opened);
                // Drops a connection that was opened while `refuse` closed the others.
                if !refused.load(Ordering::Acquire) {
                    opened.push(Connection::carry(client, server));
                }
            }
        });
        Ok(Self { address, connections, refuses, accepting })
    }

    /// Returns the address to which the storage connects instead of the server.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    fn set(&self, from: &[Mode], to: Mode) {
        for connection in lock(&self.connections).iter() {
            connection.mode.send_if_modified(|mode| {
                let changes = from.contains(mode);
                if changes {
                    *mode = to;
                }
                changes
            });
        }
    }
}

#[async_trait]
impl Line for Proxy {
    fn hold(&self) {
        self.set(&[Mode::Pass], Mode::Hold);
    }

    fn held(&self) -> usize {
        lock(&self.connections).iter().map(|connection| connection.held.load(Ordering::Acquire)).sum()
    }

    fn swallow(&self) {
        self.set(&[Mode::Pass], Mode::Swallow);
    }

    fn damage(&self) {
        self.set(&[Mode::Pass], Mode::Damage);
    }

    fn cut(&self) {
        self.set(&[Mode::Hold, Mode::Swallow], Mode::Cut);
    }

    fn refuse(&self) {
        let mut connections = lock(&self.connections);
        self.refuses.store(true, Ordering::Release);
        for connection in connections.drain(..) {
            connection.carrying.abort();
        }
    }

    fn restore(&self) {
        self.refuses.store(false, Ordering::Release);
    }

    async fn release(&self) {
        let held: Vec<_> = lock(&self.connections)
            .extract_if(.., |connection| *connection.mode.borrow() != Mode::Pass)
            .collect();
        for connection in held {
            connection.mode.send_replace(Mode::Deliver);
            // If the task has panicked, its connections are closed too.
            let _ = connection.carrying.await;
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("address", &self.address).finish_non_exhaustive()
    }
}

fn lock(connections: &Mutex<Vec<Connection>>) -> MutexGuard<'_, Vec<Connection>> {
    connections.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Connection {
    fn carry(client: TcpStream, server: TcpStream) -> Self {
        // Waiting for full packets would delay every round trip.
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let (mode, changes) = watch::channel(Mode::Pass);
        let held = Arc::<AtomicUsize>::default();
        let up = carry_up(from_client, to_server, changes.clone(), Arc::clone(&held));
        let down = carry_down(from_server, to_client, changes);
        let carrying = tokio::spawn(async move {
            futures_util::future::join(up, down).await;
        });
        Self { mode, held, carrying }
    }
}

/// Forwards bytes from the storage to the store.
async fn carry_up(
    client: OwnedReadHalf,
    mut server: OwnedWriteHalf,
    mut mode: watch::Receiver<Mode>,
    held: Arc<AtomicUsize>,
) {
    let mut client = Some(client);
    let mut waiting = Vec::new();
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let now = *mode.borrow_and_update();
        match now {
            Mode::Pass | Mode::Hold | Mode::Swallow | Mode::Damage => {}
            Mode::Cut => client = None,
            Mode::Deliver => break,
        }
        let read = async {
            match &mut client {
                Some(client) => client.read(&mut buffer).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            changed = mode.changed() => if changed.is_err() { return },
            read = read => match (read, now) {
                (Ok(length @ 1..), Mode::Pass | Mode::Swallow | Mode::Damage) => {
                    if server.write_all(&buffer[..length]).await.is_err() {
                        return;
                    }
                }
                (Ok(length @ 1..), _) => {
                    waiting.extend_from_slice(&buffer[..length]);
                    held.fetch_add(length, Ordering::AcqRel);
                }
                (_, Mode::Pass | Mode::Swallow | Mode::Damage) => break,
                // The storage has closed the connection. The held bytes can still be delivered.
                _ => client = None,
            },
        }
    }
    let _ = server.write_all(&waiting).await;
    let _ = server.shutdown().await;
}

/// Forwards bytes from the store to the storage, until the store closes the connection.
async fn carry_down(mut server: OwnedReadHalf, client: OwnedWriteHalf, mut mode: watch::Receiver<Mode>) {
    let mut client = Some(client);
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let now = *mode.borrow_and_update();
        if now == Mode::Cut {
            client = None;
        }
        tokio::select! {
            biased;
            changed = mode.changed() => if changed.is_err() { return },
            read = server.read(&mut buffer) => match (read, &mut client) {
                (Ok(1..), Some(_)) if now == Mode::Swallow => {}
                (Ok(length @ 1..), Some(open)) => {
                    if now == Mode::Damage {
                        // In every protocol, a frame with all bits inverted is invalid.
                        buffer[..length].iter_mut().for_each(|byte| *byte = !*byte);
                    }
                    if open.write_all(&buffer[..length]).await.is_err() {
                        client = None;
                    }
                }
                (Ok(1..), None) => {}
                _ => return,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::until;

    /// Starts an echo server that records its input.
    async fn server() -> (String, Arc<Mutex<Vec<u8>>>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let seen = Arc::<Mutex<Vec<u8>>>::default();
        let noted = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let noted = Arc::clone(&noted);
                tokio::spawn(async move {
                    let mut buffer = [0; 64];
                    while let Ok(length @ 1..) = client.read(&mut buffer).await {
                        noted.lock().unwrap().extend_from_slice(&buffer[..length]);
                        let _ = client.write_all(&buffer[..length]).await;
                    }
                });
            }
        });
        (address, seen)
    }

    async fn held(proxy: &Proxy, bytes: usize) {
        until("bytes are held", Duration::from_secs(10), || async { proxy.held() == bytes }).await;
    }

    #[tokio::test]
    async fn held_bytes_arrive_on_release_and_others_immediately() {
        let (address, seen) = server().await;
        let proxy = Proxy::to(address).await.unwrap();
        let mut old = TcpStream::connect(proxy.address()).await.unwrap();
        let mut buffer = [0; 64];
        old.write_all(b"a").await.unwrap();
        assert_eq!(old.read(&mut buffer).await.unwrap(), 1);
        proxy.hold();
        old.write_all(b"late").await.unwrap();
        held(&proxy, 4).await;
        drop(old);
        let mut new = TcpStream::connect(proxy.address()).await.unwrap();
        new.write_all(b"b").await.unwrap();
        assert_eq!(new.read(&mut buffer).await.unwrap(), 1);
        assert_eq!(*seen.lock().unwrap(), b"ab");
        proxy.release().await;
        assert_eq!(*seen.lock().unwrap(), b"ablate");
        assert_eq!(proxy.held(), 0);
        new.write_all(b"c").await.unwrap();
        assert_eq!(new.read(&mut buffer).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn answers_are_discarded_and_connections_rejected() {
        let (address, seen) = server().await;
        let proxy = Proxy::to(address).await.unwrap();
        let mut old = TcpStream::connect(proxy.address()).await.unwrap();
        let mut buffer = [0; 64];
        old.write_all(b"a").await.unwrap();
        assert_eq!(old.read(&mut buffer).await.unwrap(), 1);
        proxy.swallow();
        old.write_all(b"sent").await.unwrap();
        let arrived = || async { *seen.lock().unwrap() == b"asent" };
        until("the bytes arrive", Duration::from_secs(10), arrived).await;
        proxy.cut();
        assert!(!matches!(old.read(&mut buffer).await, Ok(1..)));
        proxy.release().await;

        let mut open = TcpStream::connect(proxy.address()).await.unwrap();
        open.write_all(b"b").await.unwrap();
        assert_eq!(open.read(&mut buffer).await.unwrap(), 1);
        proxy.refuse();
        assert!(!matches!(open.read(&mut buffer).await, Ok(1..)));
        let mut refused = TcpStream::connect(proxy.address()).await.unwrap();
        assert!(!matches!(refused.read(&mut buffer).await, Ok(1..)));
        proxy.restore();
        let mut new = TcpStream::connect(proxy.address()).await.unwrap();
        new.write_all(b"c").await.unwrap();
        assert_eq!(new.read(&mut buffer).await.unwrap(), 1);
        assert_eq!(*seen.lock().unwrap(), b"asentbc");
    }

    #[tokio::test]
    async fn damaged_answers_arrive() {
        let (address, seen) = server().await;
        let proxy = Proxy::to(address).await.unwrap();
        let mut old = TcpStream::connect(proxy.address()).await.unwrap();
        let mut buffer = [0; 64];
        old.write_all(b"a").await.unwrap();
        assert_eq!(old.read(&mut buffer).await.unwrap(), 1);
        proxy.damage();
        old.write_all(b"b").await.unwrap();
        assert_eq!(old.read(&mut buffer).await.unwrap(), 1);
        assert_eq!(buffer[0], !b'b');
        proxy.release().await;
        assert!(!matches!(old.read(&mut buffer).await, Ok(1..)));
        let mut new = TcpStream::connect(proxy.address()).await.unwrap();
        new.write_all(b"c").await.unwrap();
        assert_eq!(new.read(&mut buffer).await.unwrap(), 1);
        assert_eq!(buffer[0], b'c');
        assert_eq!(*seen.lock().unwrap(), b"abc");
    }

    #[tokio::test]
    async fn a_cut_closes_only_the_side_of_the_storage() {
        let (address, seen) = server().await;
        let proxy = Proxy::to(address).await.unwrap();
        let mut old = TcpStream::connect(proxy.address()).await.unwrap();
        let mut buffer = [0; 64];
        old.write_all(b"a").await.unwrap();
        assert_eq!(old.read(&mut buffer).await.unwrap(), 1);
        proxy.hold();
        old.write_all(b"late").await.unwrap();
        held(&proxy, 4).await;
        proxy.cut();
        assert!(!matches!(old.read(&mut buffer).await, Ok(1..)));
        assert_eq!(*seen.lock().unwrap(), b"a");
        proxy.release().await;
        assert_eq!(*seen.lock().unwrap(), b"alate");
    }
}
