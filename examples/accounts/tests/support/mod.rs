//! The website as a process.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test fails by panicking.
#![allow(dead_code)] // Not every test uses everything.

use std::net::SocketAddr;

use larder_bridge_tests::start_service;
use larder_testkit::Must;
use tokio::process::{Child, Command};

/// The running website. It is killed on drop.
pub(crate) struct Site {
    process: Child,
    address: SocketAddr,
}

impl Site {
    /// Starts the website at a free port.
    pub(crate) async fn start(storage: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_accounts"));
        command.args(["--listen", "127.0.0.1:0", "--storage", storage]);
        let (process, address) = start_service(&mut command).await;
        Self { process, address }
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Kills the website with SIGKILL, and waits for its end.
    pub(crate) async fn kill(&mut self) {
        self.process.kill().await.must("kill the website");
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
