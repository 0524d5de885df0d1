//! Free loopback ports that stay free.

use std::{
    io,
    net::{Ipv4Addr, TcpListener},
    sync::atomic::{AtomicU16, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

/// The range ends below the ports of outgoing connections (32768 and up on Linux). Otherwise such a connection could
/// take the port of a stopped server, and its restart would fail. A Redis Cluster node also listens on its port plus
/// 10000.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// Returns `count` ports that are free now. Another process may take one first, so the caller must be ready to try
/// again with other ports.
pub(crate) fn free(count: usize) -> io::Result<Vec<u16>> {
    // Processes that start together begin at different ports.
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.subsec_nanos());
    let begin = (std::process::id().wrapping_mul(7919) ^ clock) % u32::from(COUNT);
    let begin = u16::try_from(begin).unwrap_or_default();

    let mut found = Vec::with_capacity(count);
    for _ in 0..COUNT {
        if found.len() == count {
            return Ok(found);
        }
        let step = NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
        let port = FIRST + (begin + step) % COUNT;
        if !found.contains(&port) && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            found.push(port);
        }
    }
    Err(io::Error::new(io::ErrorKind::AddrInUse, format!("cannot find {count} free ports from {FIRST} on")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_distinct_and_free() {
        let ports = free(5).unwrap();
        assert_eq!(ports.len(), 5);
        for (index, port) in ports.iter().enumerate() {
            assert!(!ports[..index].contains(port));
            assert!((FIRST..FIRST + COUNT).contains(port));
        }
    }

    #[test]
    fn a_port_in_use_is_not_returned() {
        let taken = free(1).unwrap()[0];
        let _listener = TcpListener::bind((Ipv4Addr::LOCALHOST, taken)).unwrap();
        assert!(!free(50).unwrap().contains(&taken));
    }
}
