use std::{
    collections::HashMap,
    fmt, fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use testcontainers::{
    bollard::query_parameters::{KillContainerOptionsBuilder, ListContainersOptionsBuilder},
    core::{CmdWaitFor, ExecCommand, client::docker_client_instance},
};
use tokio::time::sleep;

use crate::{
    Error, Kind, Missing,
    certificates::Certificates,
    launch::{Container, last_words},
    probe, spec,
};

/// The time for a server to become ready. MongoDB's first start on a loaded machine is the slowest.
const READY_TIMEOUT: Duration = Duration::from_secs(90);
/// The pause between two checks.
const PAUSE: Duration = Duration::from_millis(20);

/// A server that tests can connect to.
///
/// A private one is removed on drop.
pub struct Server {
    kind: Kind,
    urls: Vec<String>,
    /// The published ports; empty for a server from the environment.
    ports: Vec<u16>,
    tls: Option<Arc<Tls>>,
    origin: Origin,
    container: Option<Container>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    Environment,
    Shared,
    Private,
}

/// The authorities of a TLS server.
pub(crate) struct Tls {
    ca: String,
    ca_path: PathBuf,
    other_ca_path: Option<PathBuf>,
}

impl Tls {
    pub(crate) fn of(certificates: Certificates) -> Arc<Self> {
        Arc::new(Self {
            ca: certificates.ca,
            ca_path: certificates.ca_path,
            other_ca_path: Some(certificates.other_ca_path),
        })
    }
}

impl Server {
    pub(crate) fn new(kind: Kind, ports: Vec<u16>, tls: Option<Arc<Tls>>, origin: Origin) -> Self {
        Self { kind, urls: spec::urls(kind, &ports), ports, tls, origin, container: None }
    }

    /// The server of the environment, if it has a URL.
    pub(crate) fn from_environment(kind: Kind) -> Result<Option<Self>, Missing> {
        let Some(value) = std::env::var(kind.url_variable()).ok().filter(|value| !value.is_empty()) else {
            return Ok(None);
        };
        let urls = if kind.has_nodes() {
            value.split(',').map(|url| url.trim().to_owned()).collect()
        } else {
            vec![value]
        };
        let tls = match std::env::var_os(kind.ca_variable()) {
            Some(path) if kind.is_tls() => {
                let ca_path = PathBuf::from(path);
                let ca = fs::read_to_string(&ca_path).map_err(|error| {
                    let path = ca_path.display();
                    Missing::new(kind, format!("cannot read {path} ({}): {error}", kind.ca_variable()))
                })?;
                Some(Arc::new(Tls { ca, ca_path, other_ca_path: None }))
            }
            _ => None,
        };
        let mut server = Self::new(kind, Vec::new(), tls, Origin::Environment);
        server.urls = urls;
        Ok(Some(server))
    }

    /// The same server for another test. The container, if any, stays with the original.
    pub(crate) fn share(&self) -> Self {
        Self {
            kind: self.kind,
            urls: self.urls.clone(),
            ports: self.ports.clone(),
            tls: self.tls.clone(),
            origin: self.origin,
            container: None,
        }
    }

    pub(crate) fn owning(self, container: Container) -> Self {
        let mut server = self.share();
        server.origin = Origin::Private;
        server.container = Some(container);
        server
    }

    /// The kind of the server.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// The URL with its credentials: `postgres://larder:password@127.0.0.1:port/larder`,
    /// `mysql://larder:password@127.0.0.1:port/larder`, `redis://127.0.0.1:port`, `rediss://127.0.0.1:port`,
    /// `mongodb://127.0.0.1:port/?directConnection=true`, or `dynamodb:?endpoint=http://127.0.0.1:port&...`. For a
    /// cluster it is the URL of the first node, and for a Sentinel set that of the Sentinel.
    #[must_use]
    pub fn url(&self) -> &str {
        self.urls.first().map_or("", String::as_str)
    }

    /// The URLs for a client: one per node of a cluster, one per Sentinel of a Sentinel set, and otherwise only
    /// [`url`](Self::url).
    #[must_use]
    pub fn urls(&self) -> &[String] {
        &self.urls
    }

    /// The URL of the Postgres behind pgbouncer, or of the primary of a MariaDB replica. `None` for other kinds, and for a server from the environment.
    #[must_use]
    pub fn direct_url(&self) -> Option<String> {
        spec::direct_url(self.kind, &self.ports)
    }

    /// The URL at the address of its container, for measurements. Connections to the loopback ports pass through a
    /// process of the engine, which copies every byte and uses processor time. This URL works only on the machine that
    /// runs the engine, and only on Linux. `None` for a server from the environment.
    ///
    /// # Errors
    /// [`Error::Engine`].
    pub async fn bridge_url(&self) -> Result<Option<String>, Error> {
        let Some(port) = self.ports.first() else { return Ok(None) };
        let filters = HashMap::from([("publish", vec![port.to_string()])]);
        let options = ListContainersOptionsBuilder::new().filters(&filters).build();
        let engine = self.engine().await?;
        let found = engine.list_containers(Some(options)).await;
        let found = found.map_err(|error| Error::engine(self.kind, error))?;
        let address = found.into_iter().find_map(|container| {
            let networks = container.network_settings?.networks?;
            let ip = networks.into_values().find_map(|network| network.ip_address)?;
            let ports = container.ports?;
            let inside = ports.iter().find(|published| published.public_port == Some(*port))?.private_port;
            Some(format!("{ip}:{inside}"))
        });
        Ok(address.map(|address| self.url().replacen(&format!("127.0.0.1:{port}"), &address, 1)))
    }

    /// The published loopback ports, which stay the same after a restart. A cluster has one per node; a Sentinel set
    /// has those of the first master, the first replica and the Sentinel; pgbouncer has its own and that of the
    /// Postgres behind it; a MariaDB replica has its own and that of its primary. Empty for a server from the environment.
    #[must_use]
    pub fn ports(&self) -> &[u16] {
        &self.ports
    }

    /// The PEM file of the authority that signed the server's certificate (for `localhost` and
    /// `127.0.0.1`). `None` for a server without TLS.
    #[must_use]
    pub fn ca_path(&self) -> Option<&Path> {
        self.tls.as_ref().map(|tls| tls.ca_path.as_path())
    }

    /// The contents of [`ca_path`](Self::ca_path).
    #[must_use]
    pub fn ca_pem(&self) -> Option<&str> {
        self.tls.as_ref().map(|tls| tls.ca.as_str())
    }

    /// The PEM file of an authority that did not sign the server's certificate, for tests that expect a refusal. `None`
    /// for a server without TLS, and for one from the environment.
    #[must_use]
    pub fn other_ca_path(&self) -> Option<&Path> {
        self.tls.as_ref()?.other_ca_path.as_deref()
    }

    /// Whether this test may kill it.
    #[must_use]
    pub const fn is_ours(&self) -> bool {
        self.container.is_some()
    }

    /// Kills every process of the server with SIGKILL. When this returns, they are gone.
    ///
    /// # Errors
    /// [`Error::NotOurs`] unless it is [private](Kind::private); [`Error::Engine`].
    pub async fn kill(&self) -> Result<(), Error> {
        let container = self.container()?;
        let engine = self.engine().await?;
        let options = KillContainerOptionsBuilder::new().signal("SIGKILL").build();
        engine
            .kill_container(container.id(), Some(options))
            .await
            .map_err(|error| Error::engine(self.kind, error))?;
        // The engine answers once the signal is sent, which may be before the processes end.
        while container.is_running().await.map_err(|error| Error::engine(self.kind, error))? {
            sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Starts the server again after [`kill`](Self::kill), on the same ports with the same data,
    /// and waits until it is ready.
    ///
    /// # Errors
    /// [`Error::NotOurs`], [`Error::Engine`], [`Error::NotReady`].
    pub async fn start(&self) -> Result<(), Error> {
        self.container()?.start().await.map_err(|error| Error::engine(self.kind, error))?;
        self.wait_ready().await
    }

    /// [`kill`](Self::kill) and [`start`](Self::start).
    ///
    /// # Errors
    /// As those.
    pub async fn restart(&self) -> Result<(), Error> {
        self.kill().await?;
        self.start().await
    }

    /// Freezes the server: connections stay open, but it does not answer until [`resume`](Self::resume).
    ///
    /// # Errors
    /// [`Error::NotOurs`], [`Error::Engine`].
    pub async fn pause(&self) -> Result<(), Error> {
        let paused = self.container()?.pause().await;
        paused.map_err(|error| Error::engine(self.kind, error))
    }

    /// Undoes [`pause`](Self::pause).
    ///
    /// # Errors
    /// [`Error::NotOurs`], [`Error::Engine`].
    pub async fn resume(&self) -> Result<(), Error> {
        let resumed = self.container()?.unpause().await;
        resumed.map_err(|error| Error::engine(self.kind, error))
    }

    /// Kills one server of a cluster or a Sentinel set with SIGKILL, by its index in [`ports`](Self::ports).
    ///
    /// # Errors
    /// [`Error::NotOurs`], [`Error::NoSuchNode`], [`Error::Engine`].
    pub async fn kill_node(&self, node: usize) -> Result<(), Error> {
        let port = self.node(node)?;
        self.run(spec::kill_node_command(port)).await
    }

    /// Starts a server of a cluster or a Sentinel set after [`kill_node`](Self::kill_node), with the same data. Then
    /// [`wait_ready`](Self::wait_ready) waits until the others have accepted it.
    ///
    /// # Errors
    /// [`Error::NotOurs`], [`Error::NoSuchNode`], [`Error::Engine`].
    pub async fn start_node(&self, node: usize) -> Result<(), Error> {
        let port = self.node(node)?;
        self.run(spec::start_node_command(port)).await
    }

    /// Waits until the server answers in its own protocol. For a cluster, waits until all nodes agree that every slot
    /// is served; for a Sentinel set, until the Sentinel has a master and a replica that follows it; for a MariaDB
    /// replica, until it has replicated its user. A server from the environment counts as ready.
    ///
    /// # Errors
    /// [`Error::NotReady`] if it stops, or after 90 s.
    pub async fn wait_ready(&self) -> Result<(), Error> {
        self.wait_for(self.container.as_ref()).await
    }

    pub(crate) async fn wait_for(&self, container: Option<&Container>) -> Result<(), Error> {
        if self.origin == Origin::Environment {
            return Ok(());
        }
        let started = Instant::now();
        let mut asked = 0_u32;
        loop {
            let seen = match probe::ask(self.kind, &self.ports, self.ca_pem()).await {
                Ok(()) => return Ok(()),
                Err(seen) => seen,
            };
            asked += 1;
            let late = started.elapsed() > READY_TIMEOUT;
            if let Some(container) = container.filter(|_| late || asked.is_multiple_of(25)) {
                let running = container.is_running().await.unwrap_or(false);
                if late || !running {
                    let state = if running { "runs" } else { "has stopped" };
                    let words = last_words(container).await;
                    let seen = format!("{seen}; its container {state}; its last output:\n{words}");
                    return Err(Error::NotReady(self.kind, seen));
                }
            } else if late {
                return Err(Error::NotReady(self.kind, seen.to_string()));
            }
            sleep(PAUSE).await;
        }
    }

    fn container(&self) -> Result<&Container, Error> {
        self.container.as_ref().ok_or(Error::NotOurs(self.kind))
    }

    fn node(&self, node: usize) -> Result<u16, Error> {
        let port = self.ports.get(node).filter(|_| self.kind.has_nodes());
        port.copied().ok_or(Error::NoSuchNode(self.kind, node))
    }

    /// Runs a command in the container, and waits for its end.
    async fn run<const N: usize>(&self, command: [String; N]) -> Result<(), Error> {
        let command = ExecCommand::new(command).with_cmd_ready_condition(CmdWaitFor::exit_code(0));
        let done = self.container()?.exec(command).await;
        done.map(drop).map_err(|error| Error::engine(self.kind, error))
    }

    async fn engine(&self) -> Result<testcontainers::bollard::Docker, Error> {
        docker_client_instance().await.map_err(|error| Error::engine(self.kind, error))
    }
}

impl fmt::Debug for Server {
    /// Omits the URLs, which contain passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("kind", &self.kind)
            .field("ports", &self.ports)
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Some(container) = self.container.take() else {
            return;
        };
        if tokio::runtime::Handle::try_current().is_ok() {
            drop(container);
            return;
        }
        // Removing a container needs a runtime, and the test's own may have ended.
        let removal = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            if let Ok(runtime) = runtime {
                runtime.block_on(async { drop(container) });
            } else {
                // `ci/servers down` removes the container later.
                std::mem::forget(container);
            }
        });
        drop(removal.join());
    }
}
