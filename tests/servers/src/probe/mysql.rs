//! The greeting of MySQL and MariaDB, without a driver.

use std::io;

use tokio::io::AsyncReadExt;

use super::{connect, unexpected};

/// The version of the protocol, which begins a greeting. An error packet begins with 255.
const PROTOCOL: u8 = 10;

/// Ready if it greets. Before that it does not listen.
pub(super) async fn ready(port: u16) -> io::Result<()> {
    let mut stream = connect(port).await?;
    match read_packet(&mut stream).await? {
        greeting if greeting.first() == Some(&PROTOCOL) => Ok(()),
        packet => Err(unexpected("the server refuses", &packet)),
    }
}

async fn read_packet(stream: &mut tokio::net::TcpStream) -> io::Result<Vec<u8>> {
    // Three bytes of length, and the number of the packet.
    let length = stream.read_u32_le().await? & 0x00ff_ffff;
    let mut packet = vec![0; length.min(64 * 1024) as usize];
    stream.read_exact(&mut packet).await?;
    Ok(packet)
}
