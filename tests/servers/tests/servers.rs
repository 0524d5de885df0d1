//! Starts every server, and uses it without a driver.

use std::{
    future::Future,
    net::{IpAddr, Ipv4Addr, UdpSocket},
    process::ExitCode,
    time::Duration,
};

use larder_test_servers::{Error, Kind, Missing, PASSWORD, SENTINEL_MASTER, Server};
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Cases mostly wait for containers, but with more threads they only wait longer.
    arguments.test_threads.get_or_insert(2);
    let mut trials = Vec::new();
    for kind in Kind::ALL {
        trials.push(trial(kind, "answers", answers));
        trials.push(trial(kind, "is_reused", is_reused));
        trials.push(trial(kind, "a_shared_server_cannot_be_killed", a_shared_server_cannot_be_killed));
        trials.push(trial(kind, "keeps_its_ports_after_a_kill", keeps_its_ports_after_a_kill));
    }
    trials.push(trial(Kind::Postgres, "does_not_offer_tls", does_not_offer_tls));
    trials.push(trial(Kind::PostgresTls, "offers_tls", offers_tls));
    trials.push(trial(Kind::Redis, "keeps_its_data_after_a_kill", keeps_its_data_after_a_kill));
    trials.push(trial(Kind::Redis, "accepts_options", accepts_options));
    trials.push(trial(Kind::Redis, "fails_with_unknown_options", fails_with_unknown_options));
    trials.push(trial(Kind::Redis, "is_removed_on_drop", is_removed_on_drop));
    trials.push(trial(Kind::Redis, "listens_only_on_loopback", listens_only_on_loopback));
    trials.push(trial(Kind::Redis, "pauses", pauses));
    trials.push(trial(Kind::RedisPassword, "refuses_without_password", refuses_without_password));
    trials.push(trial(Kind::RedisTls, "refuses_without_tls", refuses_without_tls));
    trials.push(trial(Kind::RedisCluster, "announces_its_ports", announces_its_ports));
    trials.push(trial(Kind::RedisCluster, "loses_and_regains_a_node", loses_and_regains_a_node));
    trials.push(trial(Kind::RedisSentinel, "fails_over", fails_over));
    trials.push(trial(Kind::Valkey, "compares_and_sets", compares_and_sets));
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A case with a runtime of its own. Without the server, the case is ignored with the reason, or fails if the server is
/// required.
fn trial<F>(kind: Kind, name: &str, case: fn(Kind) -> F) -> Trial
where
    F: Future<Output = Outcome> + 'static,
{
    Trial::ignorable_test(format!("{kind}::{name}"), move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        match runtime.block_on(case(kind)) {
            Ok(()) => Ok(Completion::Completed),
            Err(error) => match error.downcast_ref::<Missing>() {
                Some(missing) if !missing.required() => Ok(Completion::ignored_with(missing)),
                _ => Err(Failed::from(error.to_string())),
            },
        }
    })
}

fn ensure(holds: bool, failure: impl Into<String>) -> Outcome {
    if holds { Ok(()) } else { Err(failure.into().into()) }
}

/// A server that the test may stop; without it the case is ignored.
async fn private(kind: Kind) -> Result<Server, Box<dyn std::error::Error>> {
    let server = kind.private().await?;
    if server.is_ours() {
        return Ok(server);
    }
    Err(Box::new(Missing {
        server: kind,
        reason: "a server from the environment must not be stopped".to_owned(),
    }))
}

async fn answers(kind: Kind) -> Outcome {
    let server = kind.shared().await?;
    server.wait_ready().await?;
    ensure(server.kind() == kind, "the kind differs")?;
    ensure(!server.urls().is_empty(), "the server has no URL")?;
    ensure(server.urls().iter().all(|url| url.contains("://")), "an address is not a URL")?;
    ensure(!format!("{server:?}").contains(PASSWORD), "`Debug` prints the password")?;
    ensure(server.ca_pem().is_some() == kind.is_tls(), "the authority does not match the kind")
}

async fn is_reused(kind: Kind) -> Outcome {
    let (first, second) = (kind.shared().await?, kind.shared().await?);
    ensure(first.urls() == second.urls(), "there are two shared servers")
}

async fn a_shared_server_cannot_be_killed(kind: Kind) -> Outcome {
    let server = kind.shared().await?;
    ensure(matches!(server.kill().await, Err(Error::NotOurs(_))), "a shared server was killed")
}

async fn keeps_its_ports_after_a_kill(kind: Kind) -> Outcome {
    let server = private(kind).await?;
    let (urls, ports) = (server.urls().to_vec(), server.ports().to_vec());
    server.kill().await?;
    for port in &ports {
        let open = TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).await;
        ensure(open.is_err(), format!("port {port} is open after the kill"))?;
    }
    server.start().await?;
    ensure(urls == server.urls(), "the URL has changed")?;
    for port in &ports {
        TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).await?;
    }
    Ok(())
}

async fn does_not_offer_tls(kind: Kind) -> Outcome {
    ensure(ssl_request(&kind.private().await?).await? == b'N', "the server offers TLS")
}

async fn offers_tls(kind: Kind) -> Outcome {
    ensure(ssl_request(&kind.private().await?).await? == b'S', "the server does not offer TLS")
}

async fn ssl_request(server: &Server) -> Result<u8, Box<dyn std::error::Error>> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, server.ports()[0])).await?;
    stream.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).await?;
    Ok(stream.read_u8().await?)
}

async fn keeps_its_data_after_a_kill(kind: Kind) -> Outcome {
    let server = private(kind).await?;
    let port = server.ports()[0];
    for round in 0..3 {
        let value = format!("round-{round}");
        ensure(redis(port, &["SET", "k", &value]).await? == "+OK\r\n", "SET")?;
        server.restart().await?;
        let seen = redis(port, &["GET", "k"]).await?;
        ensure(seen.contains(&value), format!("{value} became {seen}"))?;
    }
    Ok(())
}

async fn accepts_options(kind: Kind) -> Outcome {
    let server = kind.private_with(&["--maxmemory", "5mb"]).await?;
    let seen = redis(server.ports()[0], &["CONFIG", "GET", "maxmemory"]).await?;
    ensure(seen.contains("5242880"), seen)
}

async fn fails_with_unknown_options(kind: Kind) -> Outcome {
    // If the server is not available at all, this reports it first.
    drop(private(kind).await?);
    match kind.private_with(&["--no-such-option", "1"]).await {
        Ok(_) => Err("the server accepted an unknown option".into()),
        Err(missing) => ensure(
            missing.reason.contains("has stopped") && missing.reason.contains("no-such-option"),
            missing.reason,
        ),
    }
}

async fn is_removed_on_drop(kind: Kind) -> Outcome {
    let server = private(kind).await?;
    let port = server.ports()[0];
    drop(server);
    let open = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await;
    ensure(open.is_err(), "the port is still open")
}

async fn listens_only_on_loopback(kind: Kind) -> Outcome {
    let server = private(kind).await?;
    // No packet is sent: this only selects the local address.
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    if socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).is_err() {
        return Ok(()); // the machine has only the loopback address
    }
    let IpAddr::V4(address) = socket.local_addr()?.ip() else {
        return Ok(());
    };
    let open = TcpStream::connect((address, server.ports()[0])).await;
    ensure(address.is_loopback() || open.is_err(), format!("the server answers on {address}"))
}

async fn pauses(kind: Kind) -> Outcome {
    let server = private(kind).await?;
    let port = server.ports()[0];
    server.pause().await?;
    let answer = timeout(Duration::from_millis(300), redis(port, &["PING"])).await;
    ensure(answer.is_err(), "the server answers while it is paused")?;
    server.resume().await?;
    ensure(redis(port, &["PING"]).await? == "+PONG\r\n", "the server does not answer")
}

async fn refuses_without_password(kind: Kind) -> Outcome {
    let server = private(kind).await?;
    let seen = redis(server.ports()[0], &["PING"]).await?;
    ensure(seen.starts_with("-NOAUTH"), seen)
}

async fn refuses_without_tls(kind: Kind) -> Outcome {
    let server = private(kind).await?;
    let seen = redis(server.ports()[0], &["PING"]).await;
    ensure(!seen.is_ok_and(|answer| answer.contains("PONG")), "the server answers without TLS")?;
    let other = server.other_ca_path().map(std::fs::read_to_string);
    let other = other.ok_or("the other authority is missing")??;
    ensure(Some(other.as_str()) != server.ca_pem(), "the authorities are equal")
}

async fn announces_its_ports(kind: Kind) -> Outcome {
    let server = private(kind).await?;
    let slots = redis(server.ports()[0], &["CLUSTER", "SLOTS"]).await?;
    for port in server.ports() {
        ensure(
            slots.contains(&format!("$9\r\n127.0.0.1\r\n:{port}\r\n")),
            format!("{port} is not in {slots}"),
        )?;
    }
    ensure(server.urls().len() == 3, "the cluster does not have three nodes")
}

async fn loses_and_regains_a_node(kind: Kind) -> Outcome {
    let server = private(kind).await?;
    let (lost, kept) = (server.ports()[1], server.ports()[0]);
    server.kill_node(1).await?;
    ensure(redis(lost, &["PING"]).await.is_err(), "the node still answers")?;
    ensure(redis(kept, &["PING"]).await? == "+PONG\r\n", "another node does not answer")?;
    server.start_node(1).await?;
    server.wait_ready().await?;
    ensure(redis(lost, &["PING"]).await? == "+PONG\r\n", "the node does not answer after its start")
}

async fn fails_over(kind: Kind) -> Outcome {
    let server = private(kind).await?;
    let &[master, replica, sentinel] = server.ports() else {
        return Err("the server does not have three ports".into());
    };
    let ask = ["SENTINEL", "get-master-addr-by-name", SENTINEL_MASTER];
    let seen = redis(sentinel, &ask).await?;
    ensure(seen.contains(&master.to_string()), seen)?;

    server.kill_node(0).await?;
    until("the replica is promoted", async || {
        Ok(redis(sentinel, &ask).await?.contains(&replica.to_string()))
    })
    .await?;

    // The old master returns as the replica, and after a kill of all servers they agree again. Either node may be the
    // master then, because a stalled machine may cause another failover.
    server.start_node(0).await?;
    server.wait_ready().await?;
    server.restart().await?;
    until("the Sentinel and both nodes agree on one master", async || {
        let named = redis(sentinel, &ask).await?;
        let mut agreed = true;
        for port in [master, replica] {
            let is_master = redis(port, &["ROLE"]).await?.contains("\r\nmaster\r\n");
            agreed &= is_master == named.contains(&port.to_string());
        }
        Ok(agreed)
    })
    .await
}

/// Waits until a set of servers reaches a state.
async fn until(state: &str, reached: impl AsyncFn() -> Result<bool, std::io::Error>) -> Outcome {
    timeout(Duration::from_secs(60), async {
        while !reached().await? {
            sleep(Duration::from_millis(50)).await;
        }
        Outcome::Ok(())
    })
    .await
    .map_err(|_| format!("waited over a minute until {state}"))?
}

async fn compares_and_sets(kind: Kind) -> Outcome {
    let server = private(kind).await?;
    let port = server.ports()[0];
    ensure(redis(port, &["SET", "k", "1"]).await? == "+OK\r\n", "SET")?;
    let lost = redis(port, &["SET", "k", "2", "IFEQ", "0"]).await?;
    let won = redis(port, &["SET", "k", "2", "IFEQ", "1"]).await?;
    ensure(lost == "$-1\r\n" && won == "+OK\r\n", format!("{lost} {won}"))
}

/// Sends a command, and returns the first part of the reply, which is enough for short replies.
async fn redis(port: u16, words: &[&str]) -> Result<String, std::io::Error> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    let mut packet = format!("*{}\r\n", words.len());
    for word in words {
        packet.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    stream.write_all(packet.as_bytes()).await?;
    let mut answer = vec![0; 64 * 1024];
    let length = stream.read(&mut answer).await?;
    if length == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
}
