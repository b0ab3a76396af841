//! Ports for the programs that have to be told one.

use std::{
    collections::HashSet,
    net::{Ipv4Addr, TcpListener},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

/// A port of 127.0.0.1 on which nothing listens. Each call returns another one.
///
/// It is below the ports that Linux and macOS pick themselves, for connections and for listeners on port 0. A port that the
/// system picked can be another test's a moment later, before the program that was told it listens.
pub fn unused_port() -> u16 {
    static TRIED: AtomicU32 = AtomicU32::new(0);
    loop {
        // Two runs of the tests at once begin at different ports.
        let number = process::id().wrapping_add(TRIED.fetch_add(1, Ordering::Relaxed));
        let port = 20_000 + u16::try_from(number % 12_000).unwrap();
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

#[test]
fn no_port_is_handed_out_twice_or_picked_by_the_system() {
    let ports: HashSet<u16> = (0..100).map(|_| unused_port()).collect();
    let picked = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    assert_eq!(ports.len(), 100);
    assert!(ports.iter().all(|port| (20_000..32_000).contains(port)) && picked >= 32_000, "{picked}");
}
