//! A port of 127.0.0.1 for one server, from its first start to the end of the test.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::fd::AsRawFd;
use std::process;
use std::sync::atomic::{AtomicU16, Ordering};

use nix::sys::socket::{Shutdown, shutdown};

/// Below the ports that the kernel gives out by itself, lest a connection of somebody takes it
/// during a restart.
const FIRST: u16 = 20_000;
const COUNT: u16 = 10_000;

pub struct Port {
    pub number: u16,
    /// The same number as a UDP port, which only these tests take. It keeps the port reserved while
    /// no server listens there, and a killed process cannot forget to give it back.
    _reservation: UdpSocket,
}

impl Port {
    /// A free port that no other test gets as long as this value lives.
    pub fn reserve() -> Port {
        static TRIED: AtomicU16 = AtomicU16::new(0);
        // Each process begins elsewhere, so that few collide.
        let start = process::id() % 1000 * 10;
        for _ in 0..COUNT {
            let tried = u32::from(TRIED.fetch_add(1, Ordering::Relaxed));
            let offset =
                u16::try_from((start + tried) % u32::from(COUNT)).expect("COUNT itself is a u16");
            let number = FIRST + offset;
            if let Ok(reservation) = UdpSocket::bind((Ipv4Addr::LOCALHOST, number)) {
                let port = Port { number, _reservation: reservation };
                if !port.is_taken() {
                    return port;
                }
            }
        }
        panic!("no port of 127.0.0.1 from {FIRST} to {} is free", FIRST + COUNT - 1);
    }

    /// Whether something listens there. Found out by an attempt to listen too, and not to connect,
    /// which sshd would count as a login that has begun.
    pub fn is_taken(&self) -> bool {
        match TcpListener::bind((Ipv4Addr::LOCALHOST, self.number)) {
            // Dropped alone, it would listen on as long as a process that is just being started has
            // a copy.
            Ok(listener) => shutdown(listener.as_raw_fd(), Shutdown::Both).is_err(),
            Err(_) => true,
        }
    }
}
