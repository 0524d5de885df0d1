//! Starts every server, and uses it without a driver.

use std::{
    future::Future,
    net::{IpAddr, Ipv4Addr, UdpSocket},
    process::ExitCode,
    time::Duration,
};

use larder_test_servers::{DATABASE, Error, Kind, Missing, PASSWORD, SENTINEL_MASTER, Server, USER};
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use sha1_smol::Sha1;
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
    trials.push(trial(Kind::Mariadb, "does_not_offer_tls", does_not_offer_tls));
    trials.push(trial(Kind::Mariadb, "keeps_its_tables_after_a_kill", keeps_its_tables_after_a_kill));
    trials.push(trial(Kind::MariadbTls, "offers_tls", offers_tls));
    trials.push(trial(Kind::MariadbTls, "refuses_a_login_without_tls", refuses_a_login_without_tls));
    trials.push(trial(Kind::MariadbReplica, "follows_its_primary", follows_its_primary));
    trials.push(trial(Kind::MariadbReplica, "refuses_writes", refuses_writes));
    trials.push(trial(Kind::Mysql, "offers_tls", offers_tls));
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
    ensure(!has_tls(&kind.private().await?).await?, "the server offers TLS")
}

async fn offers_tls(kind: Kind) -> Outcome {
    ensure(has_tls(&kind.private().await?).await?, "the server does not offer TLS")
}

/// Asks a Postgres server for TLS, and reads the greeting of any other server as MySQL's.
async fn has_tls(server: &Server) -> Result<bool, std::io::Error> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, server.ports()[0])).await?;
    if matches!(server.kind(), Kind::Postgres | Kind::PostgresTls) {
        stream.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).await?;
        return Ok(stream.read_u8().await? == b'S');
    }
    Ok(Greeting::read(&mut stream).await?.tls)
}

async fn keeps_its_tables_after_a_kill(kind: Kind) -> Outcome {
    let server = private(kind).await?;
    let port = server.ports()[0];
    ensure_ok(&mysql(port, "CREATE TABLE t (v INT)").await?)?;
    for round in 100..103 {
        ensure_ok(&mysql(port, &format!("INSERT INTO t VALUES ({round})")).await?)?;
        server.restart().await?;
        let seen = mysql(port, "SELECT MAX(v) FROM t").await?;
        ensure(seen.contains(&round.to_string()), format!("{round} became {seen}"))?;
    }
    Ok(())
}

async fn refuses_a_login_without_tls(kind: Kind) -> Outcome {
    let server = private(kind).await?;
    let seen = mysql(server.ports()[0], "SELECT 1").await.map_err(|error| error.to_string());
    ensure(seen.as_ref().is_err_and(|error| error.contains("insecure transport")), format!("{seen:?}"))
}

async fn follows_its_primary(kind: Kind) -> Outcome {
    let server = private(kind).await?;
    let &[replica, primary] = server.ports() else {
        return Err("the server does not have two ports".into());
    };
    let direct_url = server.direct_url().ok_or("the primary has no URL")?;
    ensure(direct_url.contains(&format!(":{primary}/")), "`direct_url` is not that of the primary")?;
    ensure(server.url().contains(&format!(":{replica}/")), "`url` is not that of the replica")?;

    ensure_ok(&mysql(primary, "CREATE TABLE t (v INT)").await?)?;
    for round in 100..102 {
        ensure_ok(&mysql(primary, &format!("INSERT INTO t VALUES ({round})")).await?)?;
        until("the replica has the row", async || {
            Ok(mysql(replica, "SELECT MAX(v) FROM t").await?.contains(&round.to_string()))
        })
        .await?;
        server.restart().await?;
    }
    Ok(())
}

async fn refuses_writes(kind: Kind) -> Outcome {
    let server = private(kind).await?;
    for _ in 0..2 {
        let seen = mysql(server.ports()[0], "CREATE TABLE t (v INT)").await?;
        ensure(seen.contains("--read-only"), seen)?;
        server.restart().await?;
    }
    Ok(())
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

/// Logs in to MariaDB, sends a statement in the database of its URL, and returns the first part of the reply, which is
/// enough for short replies. A refused login is an error.
async fn mysql(port: u16, statement: &str) -> Result<String, std::io::Error> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    let greeting = Greeting::read(&mut stream).await?;

    // CLIENT_CONNECT_WITH_DB, CLIENT_PROTOCOL_41, CLIENT_SECURE_CONNECTION and CLIENT_PLUGIN_AUTH.
    let mut login = 0x0008_8208_u32.to_le_bytes().to_vec();
    // The largest packet, the character set and unused bytes.
    login.resize(32, 0);
    login.extend([USER.as_bytes(), &[0, 20], &greeting.token(PASSWORD), DATABASE.as_bytes(), b"\0"].concat());
    login.extend(b"mysql_native_password\0");
    write_packet(&mut stream, 1, &login).await?;
    let answer = read_packet(&mut stream).await?;
    if answer.first() != Some(&0) {
        return Err(std::io::Error::other(String::from_utf8_lossy(&answer)));
    }

    write_packet(&mut stream, 0, &[b"\x03", statement.as_bytes()].concat()).await?;
    let mut answer = vec![0; 64 * 1024];
    let length = stream.read(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
}

/// Fails unless a reply to a statement is MySQL's OK packet, whose contents begin after its header.
fn ensure_ok(reply: &str) -> Outcome {
    ensure(reply.as_bytes().get(4) == Some(&0), reply)
}

/// The first packet of a MySQL or MariaDB server.
struct Greeting {
    tls: bool,
    scramble: [u8; 20],
}

impl Greeting {
    async fn read(stream: &mut TcpStream) -> Result<Self, std::io::Error> {
        let packet = read_packet(stream).await?;
        // After the version follow the connection's id, 8 bytes of the scramble, capabilities and more, and the other 12
        // bytes of the scramble.
        let id = packet.iter().position(|byte| *byte == 0).map(|end| &packet[end + 1..]);
        let Some(rest) = id.filter(|rest| rest.len() >= 43) else {
            return Err(std::io::Error::other(String::from_utf8_lossy(&packet)));
        };
        let mut scramble = [0; 20];
        scramble[..8].copy_from_slice(&rest[4..12]);
        scramble[8..].copy_from_slice(&rest[31..43]);
        // CLIENT_SSL is in the second byte of the capabilities.
        Ok(Self { tls: rest[14] & 8 != 0, scramble })
    }

    /// The proof that the client has the password, as of mysql_native_password.
    fn token(&self, password: &str) -> [u8; 20] {
        let sha1 = |bytes: &[u8]| Sha1::from(bytes).digest().bytes();
        let stage = sha1(password.as_bytes());
        let mask = sha1(&[self.scramble, sha1(&stage)].concat());
        std::array::from_fn(|at| stage[at] ^ mask[at])
    }
}

async fn read_packet(stream: &mut TcpStream) -> Result<Vec<u8>, std::io::Error> {
    // Three bytes of length, and the packet's number.
    let length = stream.read_u32_le().await? & 0x00ff_ffff;
    let mut packet = vec![0; length as usize];
    stream.read_exact(&mut packet).await?;
    Ok(packet)
}

async fn write_packet(stream: &mut TcpStream, number: u8, body: &[u8]) -> Result<(), std::io::Error> {
    let length = u32::try_from(body.len()).map_err(std::io::Error::other)?;
    let header = (length | u32::from(number) << 24).to_le_bytes();
    stream.write_all(&[&header[..], body].concat()).await
}
