//! The website as a process.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test fails by panicking.
#![allow(dead_code)] // Not every test uses everything.

use std::{net::SocketAddr, process::Stdio};

use larder_testkit::Must;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStdout, Command},
};

/// The running website. It is killed on drop.
pub(crate) struct Site {
    process: Child,
    address: SocketAddr,
    /// Stays open.
    _output: BufReader<ChildStdout>,
}

impl Site {
    /// Starts the website at a free port.
    pub(crate) async fn start(storage: &str) -> Self {
        Self::start_at("127.0.0.1:0", storage).await
    }

    async fn start_at(address: &str, storage: &str) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_accounts"))
            .args(["--listen", address, "--storage", storage])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .must("start the website");
        let mut output = BufReader::new(process.stdout.take().must("take its output"));
        let mut line = String::new();
        output.read_line(&mut line).await.must("read its output");
        let address = line.trim_end().strip_prefix("Listening on http://").must("find its address");
        Self { process, address: address.parse().must("parse its address"), _output: output }
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Kills the website with SIGKILL and starts it again at the same address.
    pub(crate) async fn kill_and_restart(&mut self, storage: &str) {
        self.process.kill().await.must("kill the website");
        *self = Self::start_at(&self.address.to_string(), storage).await;
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
