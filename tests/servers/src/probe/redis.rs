//! Redis's protocol, without a driver.

use std::{io, sync::Arc};

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};

use super::{connect, unexpected};
use crate::SENTINEL_MASTER;

/// Ready if it answers a ping. While it loads its data, it answers with an error.
pub(super) async fn ready(port: u16, password: Option<&str>) -> io::Result<()> {
    let mut stream = connect(port).await?;
    if let Some(password) = password {
        expect(&mut stream, &["AUTH", password], "OK").await?;
    }
    expect(&mut stream, &["PING"], "PONG").await
}

/// Ready if it answers a ping over TLS, with a certificate that the authority signed.
pub(super) async fn ready_tls(port: u16, ca: &str) -> io::Result<()> {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_slice(ca.as_bytes()).map_err(io::Error::other)?;
    roots.add(ca).map_err(io::Error::other)?;
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("127.0.0.1").map_err(io::Error::other)?;
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, connect(port).await?).await?;
    expect(&mut stream, &["PING"], "PONG").await
}

/// Ready if every node lists all nodes, and all slots are served.
pub(super) async fn cluster_ready(ports: &[u16]) -> io::Result<()> {
    let nodes = format!("cluster_known_nodes:{}\r\n", ports.len());
    for port in ports {
        let info = command(&mut connect(*port).await?, &["CLUSTER", "INFO"]).await?;
        for wanted in ["cluster_state:ok\r\n", "cluster_slots_ok:16384\r\n", nodes.as_str()] {
            if !info.contains(wanted) {
                return Err(unexpected("the cluster is forming", info.as_bytes()));
            }
        }
    }
    Ok(())
}

/// Ready if the Sentinel reports the master as healthy, and the master reports its replica as online.
pub(super) async fn sentinel_ready(ports: &[u16]) -> io::Result<()> {
    let &[first, second, sentinel] = ports else {
        return Err(io::Error::other("a Sentinel set has three ports"));
    };
    let mut stream = connect(sentinel).await?;
    let info = command(&mut stream, &["INFO", "sentinel"]).await?;
    if !info.contains(&format!("name={SENTINEL_MASTER},status=ok")) || !info.contains("slaves=1,sentinels=1")
    {
        return Err(unexpected("the Sentinel is not ready", info.as_bytes()));
    }
    let get_master = ["SENTINEL", "get-master-addr-by-name", SENTINEL_MASTER];
    let address = command(&mut stream, &get_master).await?;
    let master = [first, second]
        .into_iter()
        .find(|port| address == format!("127.0.0.1\r\n{port}\r\n"))
        .ok_or_else(|| unexpected("the Sentinel names another master", address.as_bytes()))?;
    let info = command(&mut connect(master).await?, &["INFO", "replication"]).await?;
    if info.contains("role:master") && info.contains("state=online") {
        Ok(())
    } else {
        Err(unexpected("the replica is catching up", info.as_bytes()))
    }
}

async fn expect<S>(stream: &mut S, words: &[&str], answer: &str) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let seen = command(stream, words).await?;
    if seen.trim_end() == answer { Ok(()) } else { Err(unexpected("Redis answers", seen.as_bytes())) }
}

/// Sends a command and returns all strings of its reply, each with a line end. An error reply is an error.
async fn command<S>(stream: &mut S, words: &[&str]) -> io::Result<String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut packet = format!("*{}\r\n", words.len());
    for word in words {
        packet.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    stream.write_all(packet.as_bytes()).await?;
    stream.flush().await?;

    let mut reader = BufReader::new(stream);
    let mut reply = String::new();
    let mut left = 1_usize;
    while left > 0 {
        left -= 1;
        let mut line = String::new();
        if reader.read_line(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let (kind, rest) = line.split_at_checked(1).unwrap_or_default();
        let number = rest.trim_end().parse::<usize>();
        match (kind, number) {
            ("-", _) => return Err(unexpected("Redis answers", rest.as_bytes())),
            ("*", Ok(count)) => left += count,
            ("$", Ok(length)) => {
                let mut text = vec![0; length + 2];
                reader.read_exact(&mut text).await?;
                reply.push_str(&String::from_utf8_lossy(&text));
            }
            ("+" | ":", _) => reply.push_str(rest),
            _ => return Err(unexpected("Redis sends an unknown reply", line.as_bytes())),
        }
    }
    Ok(reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn reply_to_ping(reply: &'static str) -> io::Result<String> {
        let (mut ours, mut theirs) = tokio::io::duplex(1024);
        theirs.write_all(reply.as_bytes()).await?;
        let answer = command(&mut ours, &["PING"]).await;
        let mut sent = vec![0; 14];
        theirs.read_exact(&mut sent).await?;
        assert_eq!(sent, b"*1\r\n$4\r\nPING\r\n");
        answer
    }

    #[tokio::test]
    async fn replies_are_read_completely() {
        assert_eq!(reply_to_ping("+PONG\r\n").await.unwrap(), "PONG\r\n");
        assert_eq!(
            reply_to_ping("*2\r\n$9\r\n127.0.0.1\r\n$4\r\n6379\r\n").await.unwrap(),
            "127.0.0.1\r\n6379\r\n"
        );
    }

    #[tokio::test]
    async fn an_error_reply_is_an_error() {
        let error = reply_to_ping("-LOADING wait\r\n").await.unwrap_err();
        assert!(error.to_string().contains("LOADING"));
    }
}
