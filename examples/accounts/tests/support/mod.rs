//! The website as a process.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test fails by panicking.
#![allow(dead_code)] // Not every test uses everything.

use std::{net::SocketAddr, process::Stdio};

use larder_test_servers::Relay;
use larder_testkit::Must;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStdout, Command},
};

/// The running website. It is killed on drop.
pub(crate) struct Site {
    process: Child,
    /// Keeps its address when the website restarts at another port.
    relay: Relay,
    /// Stays open.
    _output: BufReader<ChildStdout>,
}

impl Site {
    /// Starts the website at a free port.
    pub(crate) async fn start(storage: &str) -> Self {
        let (process, output, address) = run(storage).await;
        let relay = Relay::to(&address, |_| {}).await.must("start a relay");
        Self { process, relay, _output: output }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.relay.address().parse().must("parse the address")
    }

    /// Kills the website with SIGKILL and starts it again. Visitors reach it at the same address.
    pub(crate) async fn kill_and_restart(&mut self, storage: &str) {
        self.process.kill().await.must("kill the website");
        let address;
        (self.process, self._output, address) = run(storage).await;
        self.relay.redirect(&address);
    }

    /// Sends a signal, such as `TERM`, and waits for the end. Returns whether it was a success.
    #[cfg(unix)]
    pub(crate) async fn end(mut self, signal: &str) -> bool {
        let id = self.process.id().must("find the process").to_string();
        let sent = Command::new("kill").args([&format!("-{signal}"), &id]).status().await;
        assert!(sent.must("run kill").success());
        self.process.wait().await.must("wait for the end").success()
    }
}

/// Returns the website's process, its output and its address.
async fn run(storage: &str) -> (Child, BufReader<ChildStdout>, String) {
    let mut process = Command::new(env!("CARGO_BIN_EXE_accounts"))
        .args(["--listen", "127.0.0.1:0", "--storage", storage])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .must("start the website");
    let mut output = BufReader::new(process.stdout.take().must("take its output"));
    let mut line = String::new();
    output.read_line(&mut line).await.must("read its output");
    let address = line.trim_end().strip_prefix("Listening on http://").must("find its address");
    (process, output, address.to_owned())
}
