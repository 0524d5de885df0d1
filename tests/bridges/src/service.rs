//! A service in a process of its own.

use std::{net::SocketAddr, process::Stdio};

use larder_testkit::Must;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

/// Starts a service, whose first line of output contains its URL. Returns its process, which is killed on drop, and
/// its address.
pub async fn start_service(command: &mut Command) -> (Child, SocketAddr) {
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut process = command.spawn().must("start the service");
    // The output stays open, because the service may write more.
    let mut lines = BufReader::new(process.stdout.as_mut().must("take its output")).lines();
    let line = lines.next_line().await.must("read its output").must("read its first line");
    let (_, url) = line.split_once("http://").must("find its URL");
    let (address, _) = url.split_once('/').unwrap_or((url, ""));
    (process, address.parse().must("parse its address"))
}
