//! The first packets of MySQL and MariaDB, without a driver.

use std::io;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{connect, unexpected};

/// The version of the protocol, which begins a greeting. An error packet begins with 255.
const PROTOCOL: u8 = 10;
const CLIENT_PROTOCOL_41: u32 = 0x200;
const CLIENT_SECURE_CONNECTION: u32 = 0x8000;
/// "Connections using insecure transport are prohibited": the answer of a server that requires TLS to a login
/// without it.
const SECURE_TRANSPORT_REQUIRED: u16 = 3159;

/// Ready if it greets. Before that it does not listen.
pub(super) async fn ready(port: u16) -> io::Result<()> {
    greet(&mut connect(port).await?).await
}

/// Ready if it refuses a login without TLS for that reason.
pub(super) async fn ready_tls(port: u16) -> io::Result<()> {
    let mut stream = connect(port).await?;
    greet(&mut stream).await?;
    stream.write_all(&login()).await?;
    let answer = read_packet(&mut stream).await?;
    match answer.strip_prefix(&[255]) {
        Some(error) if error.starts_with(&SECURE_TRANSPORT_REQUIRED.to_le_bytes()) => Ok(()),
        _ => Err(unexpected("the server should require TLS, but answers", &answer)),
    }
}

async fn greet(stream: &mut TcpStream) -> io::Result<()> {
    match read_packet(stream).await? {
        greeting if greeting.first() == Some(&PROTOCOL) => Ok(()),
        packet => Err(unexpected("the server refuses", &packet)),
    }
}

/// The login of the user without a name, with the empty password.
fn login() -> Vec<u8> {
    let mut body = (CLIENT_PROTOCOL_41 | CLIENT_SECURE_CONNECTION).to_le_bytes().to_vec();
    // The largest packet, the character set, 23 unused bytes, the name and its end, and the length of the password.
    body.resize(34, 0);
    // The length of the body, and the packet's number, which is 1.
    [vec![34, 0, 0, 1], body].concat()
}

async fn read_packet(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    // Three bytes of length, and the packet's number.
    let length = stream.read_u32_le().await? & 0x00ff_ffff;
    let mut packet = vec![0; length.min(64 * 1024) as usize];
    stream.read_exact(&mut packet).await?;
    Ok(packet)
}
