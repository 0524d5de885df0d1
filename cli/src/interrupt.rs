//! Signals that end the command.

use std::io;

/// A signal that asks the process to exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// SIGINT: Ctrl-C on a terminal.
    Interrupt,
    /// SIGHUP: the terminal was closed. Handled on Linux only, and not under `nohup`.
    #[cfg(unix)]
    HangUp,
    /// SIGTERM: a service manager, or a container that stops.
    #[cfg(unix)]
    Terminate,
}

impl Signal {
    /// The exit code that shells use: 128 plus the number of the signal.
    pub(super) const fn exit_code(self) -> u8 {
        match self {
            #[cfg(unix)]
            Self::HangUp => 129,
            Self::Interrupt => 130,
            #[cfg(unix)]
            Self::Terminate => 143,
        }
    }

    /// The signal as a participle, for messages.
    pub(super) const fn done(self) -> &'static str {
        match self {
            Self::Interrupt => "interrupted",
            #[cfg(unix)]
            Self::HangUp => "hung up",
            #[cfg(unix)]
            Self::Terminate => "terminated",
        }
    }
}

/// Receives the signals. While it exists, they do not end the process.
#[derive(Debug)]
pub(super) struct Signals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    hang_up: Option<tokio::signal::unix::Signal>,
}

impl Signals {
    #[cfg(unix)]
    pub(super) fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};

        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            // A handler would undo the effect of `nohup`.
            hang_up: if hang_up_is_ignored() { None } else { Some(signal(SignalKind::hangup())?) },
        })
    }

    #[cfg(not(unix))]
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {})
    }

    /// Waits for the next signal.
    #[cfg(unix)]
    pub(super) async fn next(&mut self) -> Signal {
        let hang_up = async {
            match &mut self.hang_up {
                Some(signal) => signal.recv().await,
                None => None,
            }
        };
        tokio::select! {
            Some(()) = self.interrupt.recv() => Signal::Interrupt,
            Some(()) = self.terminate.recv() => Signal::Terminate,
            Some(()) = hang_up => Signal::HangUp,
            else => std::future::pending().await,
        }
    }

    /// Waits for the next signal.
    #[cfg(not(unix))]
    pub(super) async fn next(&mut self) -> Signal {
        match tokio::signal::ctrl_c().await {
            Ok(()) => Signal::Interrupt,
            Err(_) => std::future::pending().await,
        }
    }

    /// Runs `work` until it ends or a signal arrives. The signal drops `work`, which is allowed: a call of a
    /// store may be dropped at any point.
    pub(super) async fn or_until<T>(&mut self, work: impl IntoFuture<Output = T>) -> Result<T, Signal> {
        tokio::select! {
            done = work.into_future() => Ok(done),
            signal = self.next() => Err(signal),
        }
    }
}

/// Whether the process was started with SIGHUP ignored. Also `true` if this is unknown.
#[cfg(unix)]
fn hang_up_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // The lowest bit is signal 1, SIGHUP.
    ignored.is_none_or(|mask| mask & 1 == 1)
}
