//! Makes connections: timeouts, socket options, protocol.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use larder_core::{Error, ErrorKind, Result};
use larder_kit::Secret;
#[cfg(feature = "cluster")]
use redis::cluster::ClusterClient;
#[cfg(all(feature = "cluster", feature = "tls"))]
use redis::cluster::ClusterClientBuilder;
#[cfg(feature = "sentinel")]
use redis::sentinel::{SentinelClientBuilder as Builder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion,
    PushInfo, PushKind, RedisConnectionInfo, RedisResult,
    io::tcp::{TcpSettings, socket2::TcpKeepalive},
};

use crate::{
    active::ActiveConnection,
    config::{Config, Protocol},
    connection::Connection,
    endpoint::{Endpoint, Kind, with},
    error,
    fence::{Identity, unconfirmed},
};

/// The maximum number of commands that wait to be written. The driver's default of 50 is too low for a busy web
/// service.
const QUEUE: usize = 1024;

/// The maximum number of bytes that wait to be written before the next command has to wait.
const WRITE_BUFFER: usize = 256 * 1024;

/// Detects a peer that disappeared silently after about a minute, even without traffic.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Makes connections to one endpoint repeatedly.
pub(crate) struct Connector {
    endpoint: Endpoint,
    config: Config,
    #[cfg(feature = "tls")]
    certificates: Option<redis::TlsCertificates>,
    /// Whether to use RESP2, because the server does not support RESP3 or the option says so.
    old: AtomicBool,
}

impl Connector {
    pub(crate) fn new(config: Config) -> Result<Self> {
        config.check()?;
        let Some(mut endpoint) = config.endpoint.clone() else {
            return Err(error::configuration(
                "the configuration has no server: start from `Config::from_url`",
            ));
        };
        let login = with(endpoint.login, config.db, |login, db| login.set_db(db.into()));
        let login = with(login, config.user.as_ref(), RedisConnectionInfo::set_username);
        let password = config.password.as_ref().map(Secret::expose);
        endpoint.login = with(login, password, RedisConnectionInfo::set_password);
        #[cfg(feature = "tls")]
        if endpoint.tls {
            crate::tls::install_provider();
        }
        Ok(Self {
            endpoint,
            #[cfg(feature = "tls")]
            certificates: config.certificates()?,
            old: AtomicBool::new(config.protocol == Protocol::Resp2),
            config,
        })
    }

    /// Connects, and makes the server close the former connections, within the timeout.
    pub(crate) async fn connect(&self, former: Option<&[Identity]>) -> Result<ActiveConnection> {
        let connect = async {
            let (connection, broken) = self.attempt().await.map_err(|error| error::connecting(&error))?;
            let one = matches!(self.endpoint.kind, Kind::Server | Kind::Socket);
            let identities = if one { Identity::replace(&connection, former).await? } else { Vec::new() };
            Ok(ActiveConnection::new(connection, broken, identities))
        };
        let late = |_| {
            let timeout = self.config.connect_timeout.get();
            let message = format!("no connection within {timeout:?} (option `connect_timeout`)");
            Err(Error::new(ErrorKind::Timeout, message))
        };
        let connected =
            tokio::time::timeout(self.config.connect_timeout.get(), connect).await.unwrap_or_else(late);
        let explain = |error: Error| match former {
            Some([_, ..]) if error.kind() == ErrorKind::Timeout => unconfirmed(error.message()),
            _ => error,
        };
        // No change has been sent yet.
        connected.map_err(|error| explain(error).not_applied())
    }

    async fn attempt(&self) -> RedisResult<(Connection, Arc<AtomicBool>)> {
        let old = self.old.load(Ordering::Relaxed);
        let protocol = if old { ProtocolVersion::RESP2 } else { ProtocolVersion::RESP3 };
        match self.attempt_with(protocol).await {
            Err(error) if !old && self.config.protocol == Protocol::Auto && error::lacks_resp3(&error) => {
                self.old.store(true, Ordering::Relaxed);
                self.attempt_with(ProtocolVersion::RESP2).await
            }
            result => result,
        }
    }

    async fn attempt_with(&self, protocol: ProtocolVersion) -> RedisResult<(Connection, Arc<AtomicBool>)> {
        let broken = Arc::default();
        let client = match self.endpoint.kind {
            #[cfg(feature = "cluster")]
            Kind::Cluster => {
                let connection = self.cluster(protocol)?.get_async_connection().await?;
                return Ok((connection.into(), broken));
            }
            #[cfg(feature = "sentinel")]
            Kind::Sentinel => self.master(protocol).await?,
            // URLs of kinds that were not compiled in have been rejected before.
            _ => self.server(protocol)?,
        };
        let config = self.config(protocol, &broken);
        let connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        Ok((connection.into(), broken))
    }

    /// Returns the connection settings of each address.
    fn infos(&self, protocol: ProtocolVersion) -> RedisResult<Vec<ConnectionInfo>> {
        let login = self.endpoint.login.clone().set_protocol(protocol);
        let info = |address: &ConnectionAddr| {
            let info = address.clone().into_connection_info()?;
            Ok(info.set_tcp_settings(tcp_settings()).set_redis_settings(login.clone()))
        };
        self.endpoint.addresses.iter().map(info).collect()
    }

    fn server(&self, protocol: ProtocolVersion) -> RedisResult<Client> {
        let info = self.infos(protocol)?.remove(0);
        #[cfg(feature = "tls")]
        if let Some(certificates) = &self.certificates {
            return Client::build_with_tls(info, certificates.clone());
        }
        Client::open(info)
    }

    #[cfg(feature = "cluster")]
    fn cluster(&self, protocol: ProtocolVersion) -> RedisResult<ClusterClient> {
        let builder = ClusterClient::builder(self.infos(protocol)?)
            .use_protocol(protocol)
            .tcp_settings(tcp_settings())
            // Shorter, so that an unresponsive node leaves time to find the others.
            .connection_timeout(self.config.connect_timeout.get() / 3)
            .response_timeout(self.config.timeout.get())
            .overall_response_timeout(Some(self.config.timeout.get()))
            .write_backpressure_boundary(WRITE_BUFFER)
            // `cluster::call` does the retries.
            .retries(0);
        #[cfg(feature = "tls")]
        let builder = with(builder, self.certificates.clone(), ClusterClientBuilder::certs);
        builder.build()
    }

    /// Asks the Sentinels for the master.
    #[cfg(feature = "sentinel")]
    async fn master(&self, protocol: ProtocolVersion) -> RedisResult<Client> {
        let Endpoint { tls, addresses, login, master, .. } = &self.endpoint;
        let builder = Builder::new(addresses.clone(), master, SentinelServerType::Master)?
            .set_client_to_redis_db(login.db())
            .set_client_to_redis_protocol(protocol)
            .set_client_to_redis_tcp_settings(tcp_settings())
            .set_client_to_sentinel_tcp_settings(tcp_settings());
        let builder = with(builder, login.username(), Builder::set_client_to_redis_username);
        let builder = with(builder, login.password(), Builder::set_client_to_redis_password);
        let user = self.config.sentinel_username.as_ref();
        let builder = with(builder, user, Builder::set_client_to_sentinel_username);
        let password = self.config.sentinel_password.as_ref().map(Secret::expose);
        let builder = with(builder, password, Builder::set_client_to_sentinel_password);
        let secure = tls.then_some(redis::TlsMode::Secure);
        let builder = with(builder, secure, Builder::set_client_to_redis_tls_mode);
        #[cfg(feature = "tls")]
        let builder = with(builder, self.certificates.clone(), |builder, certificates| {
            builder
                .set_client_to_redis_certificates(certificates.clone())
                .set_client_to_sentinel_certificates(certificates)
        });
        // A new client each time: connections to Sentinels are not kept between failovers.
        let mut sentinels = builder.build()?;
        // The driver waits half a second for a Sentinel, which is too short for a busy one: repeat until
        // `connect_timeout` ends this.
        loop {
            match sentinels.async_get_client().await {
                Err(error) if error.is_timeout() => {}
                found => return found,
            }
        }
    }

    fn config(&self, protocol: ProtocolVersion, broken: &Arc<AtomicBool>) -> AsyncConnectionConfig {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.config.connect_timeout.get()))
            .set_response_timeout(Some(self.config.timeout.get()))
            .set_pipeline_buffer_size(QUEUE)
            .set_write_backpressure_boundary(WRITE_BUFFER);
        if protocol == ProtocolVersion::RESP2 {
            return config;
        }
        // With RESP3 the driver reports the end of the connection. The next call then connects at once, instead of
        // failing on the old connection.
        let broken = Arc::clone(broken);
        config.set_push_sender(move |push: PushInfo| {
            if push.kind == PushKind::Disconnection {
                broken.store(true, Ordering::Release);
            }
            Ok::<(), ()>(())
        })
    }
}

fn tcp_settings() -> TcpSettings {
    TcpSettings::default().set_nodelay(true).set_keepalive(TcpKeepalive::new().with_time(KEEPALIVE))
}
