//! A host, written as a word.

use std::fmt::Write as _;
use std::str::FromStr;

use super::check::check_name;
use super::{Host, HostError};

/// How the address of a URI begins.
pub(super) const URI: &str = "ssh://";

/// Reads `[user@]host[:port]`, and `ssh://[user@]host[:port]` as ssh does, with `%20` and the like
/// in the user. A name with a colon, such as an IPv6 address, stands in brackets where a port
/// follows: `[::1]:2222`.
impl FromStr for Host {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        if let Some(rest) = text.strip_prefix(URI) {
            return of_uri(text, rest);
        }
        let (user, rest) = match text.rsplit_once('@') {
            Some((user, rest)) => (Some(user), rest),
            None => (None, text),
        };
        let (name, port) = if let Some(inside) = rest.strip_prefix('[') {
            match inside.rsplit_once(']') {
                // Brackets around what has no colon are a part of the name, as for ssh.
                Some((name, "")) => (if name.contains(':') { name } else { rest }, None),
                Some((name, port)) if port.starts_with(':') => (name, Some(&port[1..])),
                _ => {
                    return Err(HostError::new(
                        "host",
                        text,
                        "expected \"[ADDRESS]\" or \"[ADDRESS]:PORT\"",
                    ));
                }
            }
        } else {
            match rest.split_once(':') {
                // More than one colon, and no brackets: an address without a port.
                Some((_, more)) if more.contains(':') => (rest, None),
                Some((name, port)) => (name, Some(port)),
                None => (rest, None),
            }
        };
        let mut host = Host::new(name)?;
        if let Some(port) = port {
            host = host.port(port_of(port, rest)?)?;
        }
        match user {
            Some(user) => host.user(user),
            None => Ok(host),
        }
    }
}

/// What stands behind the colon of `rest`, which may have been meant as a whole.
fn port_of(port: &str, rest: &str) -> Result<u16, HostError> {
    let number = port.parse().ok().filter(|_| port.bytes().all(|byte| byte.is_ascii_digit()));
    number.ok_or_else(|| {
        let mut reason = "expected a number from 1 to 65535".to_owned();
        if port.contains(char::is_alphabetic)
            && !rest.starts_with('[')
            && check_name("", rest).is_ok()
        {
            write!(reason, " (a name with a colon stands in brackets: {:?})", format!("[{rest}]"))
                .expect("writing to a String cannot fail");
        }
        HostError::new("port", port, reason)
    })
}

/// What stands behind `ssh://`, read as ssh reads it: a user with `%` and two digits for what
/// cannot stand there, `;` and parameters that nobody knows, a host, a port.
fn of_uri(text: &str, rest: &str) -> Result<Host, HostError> {
    let wrong = |reason: &str| HostError::new("address", text, reason);
    let (user, rest) = match rest.split_once('@') {
        Some((user, rest)) => (Some(user.split(';').next().unwrap_or_default()), rest),
        None => (None, rest),
    };
    let end = match rest.starts_with('[') {
        true => rest.rfind(']').ok_or_else(|| wrong("its bracket is not closed"))? + 1,
        false => rest.find([':', '/']).unwrap_or(rest.len()),
    };
    let (name, rest) = rest.split_at(end);
    let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    let mut host = Host::new(name)?;
    let (port, path) = match rest.strip_prefix(':') {
        Some(rest) => {
            rest.split_once('/').map_or((Some(rest), ""), |(port, path)| (Some(port), path))
        }
        None => (None, rest.strip_prefix('/').unwrap_or(rest)),
    };
    if !path.is_empty() {
        return Err(wrong("a path has no meaning here: expected \"ssh://[user@]host[:port]\""));
    }
    // Nothing at all behind the colon is no port, for ssh too.
    if let Some(port) = port.filter(|port| !(port.is_empty() && rest == ":")) {
        host = host.port(port_of(port, "")?)?;
    }
    match user {
        Some(user) => host.user(decoded(user).ok_or_else(|| {
            wrong("a \"%\" in its user has to be followed by two hexadecimal digits, of UTF-8 text")
        })?),
        None => Ok(host),
    }
}

/// The text that a URI has in such a form: `%` and two digits for a byte, `+` for a blank.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

/// A user in a form that stands in a URI, and in whatever takes commas, blanks and brackets for
/// more than letters.
pub(crate) fn encoded(user: &str) -> String {
    let mut text = String::new();
    for byte in user.bytes() {
        if byte.is_ascii_alphanumeric() || b"._-".contains(&byte) {
            text.push(char::from(byte));
        } else {
            write!(text, "%{byte:02X}").expect("writing to a String cannot fail");
        }
    }
    text
}
