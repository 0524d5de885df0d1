//! Making connections: time-outs, socket options, protocol.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use larder_core::{Error, ErrorKind, Operation, Result};
use redis::{
    AsyncConnectionConfig, Client, ConnectionInfo, ProtocolVersion, PushInfo, PushKind, RedisResult,
    io::tcp::{TcpSettings, socket2::TcpKeepalive},
};

#[cfg(feature = "sentinel")]
use crate::place::Sentinels;
use crate::{
    Connection,
    error::{self, NAME},
    fence::{Former, Identity, unconfirmed},
    place::Place,
    tls::TlsFiles,
};

/// How many commands may wait to be written. The driver's default of 50 is less than what a busy
/// web service has under way.
const QUEUE: usize = 1024;

/// How many bytes may wait to be written before the next command has to.
const WRITE_BUFFER: usize = 256 * 1024;

/// A peer that has gone without a word is noticed after a minute or so, even if nothing is asked.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Which protocol is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// RESP3 where the server has it.
    Auto,
    Resp2,
    Resp3,
}

/// What holds for every connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) protocol: Protocol,
}

impl Default for Settings {
    fn default() -> Self {
        let timeout = Duration::from_secs(5);
        Self { timeout, connect_timeout: timeout, protocol: Protocol::Auto }
    }
}

/// Makes connections to one place, again and again.
pub(crate) struct Connector {
    place: Place,
    settings: Settings,
    #[cfg(feature = "tls")]
    certificates: Option<redis::TlsCertificates>,
    /// The server was found not to speak RESP3.
    old: AtomicBool,
}

/// A connection that was made.
pub(crate) struct Connected {
    pub(crate) connection: Connection,
    /// Whether it has been closed from the other side.
    pub(crate) closed: Arc<AtomicBool>,
    /// How to name it to the server, to have it closed.
    pub(crate) identity: Option<Identity>,
}

impl Connector {
    pub(crate) fn new(place: Place, settings: Settings, tls: &TlsFiles) -> Result<Self> {
        #[cfg(feature = "tls")]
        if place.is_tls() {
            crate::tls::install_provider();
        }
        let _ = tls;
        Ok(Self {
            place,
            settings,
            #[cfg(feature = "tls")]
            certificates: tls.read()?,
            old: AtomicBool::new(settings.protocol == Protocol::Resp2),
        })
    }

    /// Connects and deals with the connection before, within the time-out.
    pub(crate) async fn connect(&self, former: Former<'_>) -> Result<Connected> {
        let connect = async {
            let (mut connection, closed) = self.attempt().await.map_err(|error| error::from_redis(&error))?;
            let identity = match self.place {
                Place::Server(_) => Identity::replace(&mut connection, former).await?,
                #[cfg(any(feature = "cluster", feature = "sentinel"))]
                _ => None,
            };
            Ok(Connected { connection, closed, identity })
        };
        let connected = tokio::time::timeout(self.settings.connect_timeout, connect).await;
        let result = connected.unwrap_or_else(|_| {
            Err(Error::new(
                ErrorKind::Timeout,
                format!(
                    "no connection within {:?} (option `connect_timeout`)",
                    self.settings.connect_timeout
                ),
            ))
        });
        let result = result.map_err(|error| match former {
            Former::Close(_) if error.kind() == ErrorKind::Timeout => unconfirmed(error.message()),
            _ => error,
        });
        result.map_err(|error| error.with_adapter(NAME).with_operation(Operation::Connect))
    }

    async fn attempt(&self) -> RedisResult<(Connection, Arc<AtomicBool>)> {
        if self.old.load(Ordering::Relaxed) {
            return self.attempt_with(ProtocolVersion::RESP2).await;
        }
        match self.attempt_with(ProtocolVersion::RESP3).await {
            Err(error) if self.settings.protocol == Protocol::Auto && error::lacks_resp3(&error) => {
                self.old.store(true, Ordering::Relaxed);
                self.attempt_with(ProtocolVersion::RESP2).await
            }
            result => result,
        }
    }

    async fn attempt_with(&self, protocol: ProtocolVersion) -> RedisResult<(Connection, Arc<AtomicBool>)> {
        let closed = Arc::new(AtomicBool::new(false));
        let connection = match &self.place {
            Place::Server(info) => {
                let config = self.config(protocol, &closed);
                self.server(info, protocol, &config).await?
            }
            #[cfg(feature = "cluster")]
            Place::Cluster(nodes) => self.cluster(nodes, protocol).await?,
            #[cfg(feature = "sentinel")]
            Place::Sentinel(sentinels) => {
                let config = self.config(protocol, &closed);
                self.sentinel(sentinels, protocol, &config).await?
            }
        };
        Ok((connection, closed))
    }

    async fn server(
        &self,
        info: &ConnectionInfo,
        protocol: ProtocolVersion,
        config: &AsyncConnectionConfig,
    ) -> RedisResult<Connection> {
        let settings = info.redis_settings().clone().set_protocol(protocol);
        let info = info.clone().set_tcp_settings(tcp_settings()).set_redis_settings(settings);
        #[cfg(feature = "tls")]
        let client = match &self.certificates {
            Some(certificates) => Client::build_with_tls(info, certificates.clone())?,
            None => Client::open(info)?,
        };
        #[cfg(not(feature = "tls"))]
        let client = Client::open(info)?;
        Ok(client.get_multiplexed_async_connection_with_config(config).await?.into())
    }

    #[cfg(feature = "cluster")]
    async fn cluster(&self, nodes: &[ConnectionInfo], protocol: ProtocolVersion) -> RedisResult<Connection> {
        let builder = redis::cluster::ClusterClient::builder(nodes.to_vec())
            .use_protocol(protocol)
            .tcp_settings(tcp_settings())
            .connection_timeout(self.settings.connect_timeout)
            .response_timeout(self.settings.timeout)
            .overall_response_timeout(Some(self.settings.timeout))
            .write_backpressure_boundary(WRITE_BUFFER)
            // See `cluster::call` for what is repeated instead.
            .retries(0);
        #[cfg(feature = "tls")]
        let builder = match &self.certificates {
            Some(certificates) => builder.certs(certificates.clone()),
            None => builder,
        };
        Ok(builder.build()?.get_async_connection().await?.into())
    }

    #[cfg(feature = "sentinel")]
    async fn sentinel(
        &self,
        sentinels: &Sentinels,
        protocol: ProtocolVersion,
        config: &AsyncConnectionConfig,
    ) -> RedisResult<Connection> {
        use redis::sentinel::{SentinelClientBuilder, SentinelServerType};

        let server = &sentinels.server;
        let mut builder = SentinelClientBuilder::new(
            sentinels.addresses.clone(),
            &sentinels.master,
            SentinelServerType::Master,
        )?
        .set_client_to_redis_db(server.db())
        .set_client_to_redis_protocol(protocol)
        .set_client_to_redis_tcp_settings(tcp_settings())
        .set_client_to_sentinel_tcp_settings(tcp_settings());
        if let Some(username) = server.username() {
            builder = builder.set_client_to_redis_username(username);
        }
        if let Some(password) = server.password() {
            builder = builder.set_client_to_redis_password(password);
        }
        if let Some(username) = &sentinels.username {
            builder = builder.set_client_to_sentinel_username(username);
        }
        if let Some(password) = &sentinels.password {
            builder = builder.set_client_to_sentinel_password(password);
        }
        if sentinels.tls {
            builder = builder.set_client_to_redis_tls_mode(redis::TlsMode::Secure);
            #[cfg(feature = "tls")]
            if let Some(certificates) = &self.certificates {
                builder = builder
                    .set_client_to_redis_certificates(certificates.clone())
                    .set_client_to_sentinel_certificates(certificates.clone());
            }
        }
        // A client of its own each time: connections to Sentinels are not kept between failovers.
        Ok(builder.build()?.get_async_connection_with_config(config).await?.into())
    }

    fn config(&self, protocol: ProtocolVersion, closed: &Arc<AtomicBool>) -> AsyncConnectionConfig {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.settings.connect_timeout))
            .set_response_timeout(Some(self.settings.timeout))
            .set_pipeline_buffer_size(QUEUE)
            .set_write_backpressure_boundary(WRITE_BUFFER);
        if protocol == ProtocolVersion::RESP2 {
            return config;
        }
        // With RESP3 the driver tells when the connection ends, so that the next call makes a new
        // one at once instead of failing on the old.
        let closed = Arc::clone(closed);
        config.set_push_sender(move |push: PushInfo| {
            if push.kind == PushKind::Disconnection {
                closed.store(true, Ordering::Release);
            }
            Ok::<(), ()>(())
        })
    }
}

fn tcp_settings() -> TcpSettings {
    TcpSettings::default().set_nodelay(true).set_keepalive(TcpKeepalive::new().with_time(KEEPALIVE))
}
