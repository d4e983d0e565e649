//! What answers in the place of an SSH server.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::pooled::PATIENCE;

/// What nobody wants to see obeyed by their terminal: a title, colours, a cleared screen, C1
/// controls, a change of direction.
pub const ESCAPES: &[u8] =
    b"\x1b]0;owned\x07\x1b[31m\x1b[2J\x1b[?1049h\x9b31m\xc2\x9b31m\xe2\x80\xae\x08\x08\0\x7f\xff\xfe\xc3(\r";

/// How it serves one client, until that goes or it is over for all.
pub type Serve = fn(&mut TcpStream, &AtomicBool) -> std::io::Result<()>;

/// A server that greets everybody in its own way, until it is dropped.
pub struct Fake {
    pub port: u16,
    over: Arc<AtomicBool>,
}

impl Fake {
    pub fn start(serve: Serve) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("it has one").port();
        let over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&over);
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                if ends.load(Ordering::Relaxed) {
                    return;
                }
                // The client goes when it has had enough.
                let _ = stream.set_write_timeout(Some(PATIENCE));
                let _ = serve(&mut stream, &ends);
            }
        });
        Fake { port, over }
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // The one who waits for a client gets one.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// Writes this again and again, as long as somebody reads.
fn for_ever(stream: &mut TcpStream, text: &[u8], over: &AtomicBool) -> std::io::Result<()> {
    let block = text.repeat(65536 / text.len() + 1);
    while !over.load(Ordering::Relaxed) {
        stream.write_all(&block)?;
    }
    Ok(())
}

pub fn an_endless_line(stream: &mut TcpStream, over: &AtomicBool) -> std::io::Result<()> {
    for_ever(stream, b"SSH-2.0-endless", over)
}

pub fn endless_lines(stream: &mut TcpStream, over: &AtomicBool) -> std::io::Result<()> {
    for_ever(stream, b"welcome \x1b[31m\xff\r\n", over)
}

pub fn escapes_before_the_version(stream: &mut TcpStream, _: &AtomicBool) -> std::io::Result<()> {
    stream.write_all(&[ESCAPES, b"\r\n", ESCAPES, b"\n"].concat())
}

pub fn escapes_in_the_version(stream: &mut TcpStream, over: &AtomicBool) -> std::io::Result<()> {
    stream.write_all(&[b"SSH-2.0-", &ESCAPES[..30], b"\r\n"].concat())?;
    for_ever(stream, ESCAPES, over)
}

pub fn an_old_version(stream: &mut TcpStream, _: &AtomicBool) -> std::io::Result<()> {
    stream.write_all(b"SSH-1.3-\x1b[31mold\r\n")
}

pub fn nothing(stream: &mut TcpStream, _: &AtomicBool) -> std::io::Result<()> {
    // Until the client goes.
    stream.set_read_timeout(Some(PATIENCE))?;
    while stream.read(&mut [0; 1024])? > 0 {}
    Ok(())
}

pub fn garbage(stream: &mut TcpStream, over: &AtomicBool) -> std::io::Result<()> {
    stream.write_all(b"SSH-2.0-garbage\r\n")?;
    for_ever(stream, &(0..=255).rev().collect::<Vec<u8>>(), over)
}

/// A packet that says that it is of a length that is allowed, and never comes to its end.
pub fn half_a_packet(stream: &mut TcpStream, over: &AtomicBool) -> std::io::Result<()> {
    stream.write_all(b"SSH-2.0-half\r\n\x00\x03\xff\xf4\x04\x14")?;
    nothing(stream, over)
}

/// `SSH_MSG_DISCONNECT` before anything is encrypted: whoever stands between can send it.
pub fn a_farewell(stream: &mut TcpStream, over: &AtomicBool) -> std::io::Result<()> {
    let text = [ESCAPES, b"\nssh: second line\r\n"].concat();
    let mut payload =
        [&b"\x01\0\0\0\x02"[..], &(text.len() as u32).to_be_bytes(), &text, b"\0\0\0\0"].concat();
    let padding = 8 - (payload.len() + 5) % 8 + 8;
    let length = (payload.len() + padding + 1) as u32;
    payload.extend(vec![0; padding]);
    stream.write_all(b"SSH-2.0-farewell\r\n")?;
    stream.write_all(&[&length.to_be_bytes()[..], &[padding as u8], &payload].concat())?;
    nothing(stream, over)
}

pub fn a_byte_now_and_then(stream: &mut TcpStream, over: &AtomicBool) -> std::io::Result<()> {
    for byte in b"welcome\r\nto this\r\nserver\r\n".iter().cycle() {
        if over.load(Ordering::Relaxed) {
            break;
        }
        stream.write_all(&[*byte])?;
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}
