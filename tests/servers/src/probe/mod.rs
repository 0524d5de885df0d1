//! Checks whether a server is ready, in its own protocol. An open port is not enough, because Docker's proxy accepts
//! connections before the server does.

mod dynamodb;
mod mongodb;
mod mysql;
mod postgres;
mod redis;

use std::{io, time::Duration};

use tokio::{net::TcpStream, time::timeout};

use crate::Kind;

/// The time for one attempt.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Asks once. If the server is not ready, the error says what it answered.
pub(crate) async fn ask(kind: Kind, ports: &[u16], ca: Option<&str>) -> io::Result<()> {
    let answer = async {
        match kind {
            Kind::Postgres => postgres::ready(first(ports)?).await,
            Kind::PostgresTls => postgres::ready_tls(first(ports)?).await,
            Kind::Pgbouncer => {
                for port in ports {
                    postgres::ready(*port).await?;
                }
                Ok(())
            }
            Kind::Mariadb | Kind::Mysql => mysql::ready(first(ports)?).await,
            Kind::MariadbTls => mysql::ready_tls(first(ports)?).await,
            // The replica listens once it has followed its primary.
            Kind::MariadbReplica => {
                for port in ports {
                    mysql::ready(*port).await?;
                }
                Ok(())
            }
            Kind::Redis | Kind::Valkey => redis::ready(first(ports)?, None).await,
            Kind::RedisPassword => redis::ready(first(ports)?, Some(crate::PASSWORD)).await,
            Kind::RedisTls => redis::ready_tls(first(ports)?, ca.unwrap_or_default()).await,
            Kind::RedisCluster => redis::cluster_ready(ports).await,
            Kind::RedisSentinel => redis::sentinel_ready(ports).await,
            Kind::Mongodb => mongodb::ready(first(ports)?).await,
            Kind::Dynamodb => dynamodb::ready(first(ports)?).await,
        }
    };
    timeout(TIMEOUT, answer).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

fn first(ports: &[u16]) -> io::Result<u16> {
    ports.first().copied().ok_or_else(|| io::Error::other("the server has no published port"))
}

async fn connect(port: u16) -> io::Result<TcpStream> {
    TcpStream::connect((std::net::Ipv4Addr::LOCALHOST, port)).await
}

fn unexpected(state: &str, seen: &[u8]) -> io::Error {
    let seen = String::from_utf8_lossy(&seen[..seen.len().min(200)]).into_owned();
    io::Error::other(format!("{state}: {seen:?}"))
}
