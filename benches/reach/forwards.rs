//! A forward of the agent's against `ssh -L` of a live master.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::lab::Lab;
use crate::support::milliseconds;
use crate::support::stats::median;
use crate::{Figure, Plan};

pub fn measure(lab: &Lab, plan: &Plan) -> Vec<Figure> {
    // The server has this machine's network.
    let service = serve(plan.largest);
    let [ours, theirs] = [free_port(), free_port()];
    let forward = |port: u16| format!("{port}:127.0.0.1:{service}");
    let kept = lab
        .home
        .sshpool(&["forward", "h1", "--keep", "-L", &forward(ours)])
        .stdout(Stdio::null())
        .status();
    let made = lab
        .bare("ssh")
        .args(["-O", "forward", "-L", &forward(theirs), "h1"])
        .stderr(Stdio::null())
        .status();
    assert!(kept.is_ok_and(|status| status.success()), "the agent forwards");
    assert!(made.is_ok_and(|status| status.success()), "the master forwards");
    let first = |port: u16| {
        let times: Result<Vec<f64>, String> = (0..plan.clients).map(|_| bytes(port, 1)).collect();
        Ok(median(&times?).expect("there are clients"))
    };
    let way = ("a forward of the agent", "ssh -L of a live master");
    let name = format!("the first byte over a forward, median of {}", plan.clients);
    vec![
        Figure::new(name, way.0, way.1, 1.3).measure(
            plan.rounds,
            |_| first(ours),
            |_| first(theirs),
        ),
        Figure::new(format!("{} MiB over a forward", plan.largest >> 20), way.0, way.1, 1.25)
            .measure(plan.rounds, |_| bytes(ours, plan.largest), |_| bytes(theirs, plan.largest)),
    ]
}

/// Sends so many bytes to each client, and begins at once.
fn serve(count: usize) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = listener.local_addr().expect("it has one").port();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut client = client;
                let piece = vec![7; 1 << 16];
                let mut left = count;
                // A client may have enough.
                while left > 0 && client.write_all(&piece[..piece.len().min(left)]).is_ok() {
                    left = left.saturating_sub(piece.len());
                }
            });
        }
    });
    port
}

/// Milliseconds until a client has read so many bytes.
fn bytes(port: u16, count: usize) -> Result<f64, String> {
    let started = Instant::now();
    let read = || -> std::io::Result<()> {
        let mut client = TcpStream::connect(("127.0.0.1", port))?;
        client.set_read_timeout(Some(Duration::from_secs(60)))?;
        let mut buffer = vec![0; 1 << 16];
        let mut left = count;
        while left > 0 {
            let most = buffer.len().min(left);
            match client.read(&mut buffer[..most])? {
                0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                read => left -= read,
            }
        }
        Ok(())
    };
    read().map_err(|error| format!("a client: {error}"))?;
    Ok(milliseconds(started))
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    listener.local_addr().expect("it has one").port()
}
