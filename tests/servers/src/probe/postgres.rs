//! PostgreSQL's start-up packets, without a driver.

use std::io;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{connect, unexpected};
use crate::{DATABASE, USER};

const VERSION_3: u32 = 3 << 16;
const SSL_REQUEST: u32 = 80_877_103;
/// "the database system is starting up", or recovering, or shutting down.
const CANNOT_CONNECT_NOW: &[u8] = b"C57P03\0";
/// "no pg_hba.conf entry": the answer of a server that requires TLS to a connection without it.
const NOT_AUTHORIZED: &[u8] = b"C28000\0";

/// Ready if it begins the authentication. Before that it refuses, or does not listen.
pub(super) async fn ready(port: u16) -> io::Result<()> {
    match start_up(&mut connect(port).await?).await? {
        (b'R', _) => Ok(()),
        (_, message) => Err(unexpected("Postgres refuses", &message)),
    }
}

/// Ready if it offers TLS, and refuses a connection without TLS for that reason.
pub(super) async fn ready_tls(port: u16) -> io::Result<()> {
    let mut stream = connect(port).await?;
    if ssl_request(&mut stream).await? != b'S' {
        return Err(io::Error::other("Postgres does not offer TLS"));
    }
    match start_up(&mut connect(port).await?).await? {
        (b'E', message) if contains(&message, NOT_AUTHORIZED) => Ok(()),
        (_, message) if contains(&message, CANNOT_CONNECT_NOW) => {
            Err(unexpected("Postgres is starting", &message))
        }
        (_, message) => Err(unexpected("Postgres should require TLS, but answers", &message)),
    }
}

/// Asks for TLS. The answer is `S` (yes) or `N` (no).
async fn ssl_request(stream: &mut TcpStream) -> io::Result<u8> {
    let mut packet = 8_u32.to_be_bytes().to_vec();
    packet.extend(SSL_REQUEST.to_be_bytes());
    stream.write_all(&packet).await?;
    stream.read_u8().await
}

/// Asks for a session; returns the type and the contents of the first message.
async fn start_up(stream: &mut TcpStream) -> io::Result<(u8, Vec<u8>)> {
    let mut body = VERSION_3.to_be_bytes().to_vec();
    for word in ["user", USER, "database", DATABASE, ""] {
        body.extend(word.as_bytes());
        body.push(0);
    }
    let length = u32::try_from(body.len() + 4).map_err(io::Error::other)?;
    let mut packet = length.to_be_bytes().to_vec();
    packet.extend(body);
    stream.write_all(&packet).await?;

    let kind = stream.read_u8().await?;
    let length = stream.read_u32().await?.saturating_sub(4).min(64 * 1024);
    let mut message = vec![0; length as usize];
    stream.read_exact(&mut message).await?;
    Ok((kind, message))
}

fn contains(message: &[u8], part: &[u8]) -> bool {
    message.windows(part.len()).any(|window| window == part)
}
