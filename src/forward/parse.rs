//! How ssh reads the value of `-L`, `-R` and `-D`.

use std::path::PathBuf;

use super::{Direction, Endpoint};

/// One field between colons.
struct Field {
    text: String,
    is_path: bool,
}

/// Where to listen, and what to connect to.
type Ends = (Endpoint, Option<Endpoint>);

/// As `parse_forward` of OpenSSH tells the forms apart: by the number of fields, and by which of
/// them are paths.
pub(super) fn parse(direction: Direction, text: &str) -> Result<Ends, &'static str> {
    let fields = fields(text.trim_start())?;
    let at = |of: &Field| port(&of.text).map(|port| Endpoint::Port { host: None, port });
    let host_at = |host: &Field, of: &Field| {
        let host = Some(host.text.clone());
        port(&of.text).map(|port| Endpoint::Port { host, port })
    };
    let socket = |of: &Field| Endpoint::Socket(PathBuf::from(&of.text));
    let (listen, target) = match &fields[..] {
        [a] if a.is_path => (socket(a), None),
        [a] => (at(a)?, None),
        [a, b] if a.is_path && b.is_path => (socket(a), Some(socket(b))),
        [a, b] if b.is_path => (at(a)?, Some(socket(b))),
        [a, b] => (host_at(a, b)?, None),
        [a, b, c] if a.is_path => (socket(a), Some(host_at(b, c)?)),
        [a, b, c] if c.is_path => (host_at(a, b)?, Some(socket(c))),
        [a, b, c] => (at(a)?, Some(host_at(b, c)?)),
        [a, b, c, d] => (host_at(a, b)?, Some(host_at(c, d)?)),
        _ => return Err("it has too many fields"),
    };
    match (direction, &listen, &target) {
        (Direction::Dynamic, _, Some(_)) => Err("it names a target, which clients do here"),
        (Direction::Dynamic, Endpoint::Socket(_), _) => Err("SOCKS comes by a port"),
        (Direction::Local, _, None) => Err("there is nothing to connect to"),
        (_, _, Some(Endpoint::Port { port: 0, .. })) => Err("port 0 is none to connect to"),
        _ => Ok((listen, target)),
    }
}

fn port(text: &str) -> Result<u16, &'static str> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(port) if is_number => Ok(port),
        _ => Err("a port is a number from 0 to 65535"),
    }
}

fn fields(text: &str) -> Result<Vec<Field>, &'static str> {
    if text.contains(char::is_control) {
        return Err("it has a control character");
    }
    if text.contains('%') || text.contains("${") {
        return Err("ssh would expand what stands behind a % or in ${}, which is not done here");
    }
    let mut fields = Vec::new();
    let mut chars = text.chars().peekable();
    loop {
        let mut field = Field { text: String::new(), is_path: false };
        if chars.next_if_eq(&'[').is_some() {
            loop {
                match chars.next() {
                    None => return Err("a [ has no ]"),
                    Some(']') => break,
                    Some(c) => field.text.push(c),
                }
            }
            if chars.peek().is_some_and(|next| *next != ':') {
                return Err("behind a ] comes a colon");
            }
        } else {
            while let Some(c) = chars.next_if(|c| *c != ':') {
                match c {
                    '\\' => field.text.push(chars.next().ok_or("a \\ is the last character")?),
                    c => field.text.push(c),
                }
            }
        }
        field.is_path = field.text.contains('/');
        if field.text.starts_with('-') {
            return Err("a host or a path does not begin with a dash (./-x is a path)");
        }
        fields.push(field);
        if chars.next().is_none() {
            return Ok(fields);
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use crate::forward::{Direction, ForwardSpec};

    /// As ssh says it back: `ssh -G` prints what it has read (see the test of the gate that
    /// compares).
    #[rstest]
    #[case("-L 8080:localhost:80", "-L 8080:localhost:80")]
    #[case("-L8080:[::1]:80", "-L 8080:[::1]:80")]
    #[case("-L *:8080:db:5432", "-L *:8080:db:5432")]
    #[case("-L :8080:db:5432", "-L :8080:db:5432")]
    #[case("-L [::1]:0:db:5432", "-L [::1]:0:db:5432")]
    #[case("-L 8080:/run/d.sock", "-L 8080:/run/d.sock")]
    #[case("-L 127.0.0.1:8080:/run/d.sock", "-L 127.0.0.1:8080:/run/d.sock")]
    #[case("-L ./x:db:1", "-L ./x:db:1")]
    #[case("-L ./x:/y", "-L ./x:/y")]
    #[case(r"-L /a\:b:/y", r"-L /a\:b:/y")]
    #[case("-R 0:localhost:80", "-R 0:localhost:80")]
    #[case("-R 9000", "-R 9000")]
    #[case("-R localhost:9000", "-R localhost:9000")]
    #[case("-R /s:/t", "-R /s:/t")]
    #[case("-R /s", "-R /s")]
    #[case("-D 1080", "-D 1080")]
    #[case("-D *:1080", "-D *:1080")]
    #[case("8080:localhost:80", "-L 8080:localhost:80")]
    fn what_ssh_takes(#[case] text: &str, #[case] expected: &str) {
        let spec: ForwardSpec = text.parse().expect("ssh takes it");
        assert_eq!(spec.to_string(), expected);
        assert_eq!(expected.parse(), Ok(spec), "it is read back");
    }

    #[rstest]
    #[case("-L ")]
    #[case("-L 8080")]
    #[case("-L 8080:80")]
    #[case("-L 8080:db:http")]
    #[case("-L 99999:db:80")]
    #[case("-L +80:db:80")]
    #[case("-L a:b:c:d:e")]
    #[case("-L [::1:80:db:80")]
    #[case("-L [::1]80:db:80")]
    #[case("-L 80:db:0")]
    #[case("-L 80:-oProxyCommand=x:90")]
    #[case("-L /x%h:/y")]
    #[case("-L /x:${HOME}/y")]
    #[case("-L /x\n:/y")]
    #[case("-L /x\\")]
    #[case("-D /s")]
    #[case("-D 80:db:80")]
    #[case("-D 80:/s")]
    fn what_is_refused(#[case] text: &str) {
        let why = text.parse::<ForwardSpec>().expect_err("it is not taken").to_string();
        assert!(why.contains("(allowed: ") && why.lines().count() == 1, "{why}");
    }

    #[test]
    fn paths_of_this_side_are_those_of_the_caller() {
        let here = std::path::Path::new("/home/u");
        let of = |direction, text| {
            ForwardSpec::parse(direction, text).expect("it is").in_directory(here).to_string()
        };
        assert_eq!(of(Direction::Local, "./a:b/c"), "-L /home/u/./a:b/c");
        assert_eq!(of(Direction::Remote, "./a:b/c"), "-R ./a:/home/u/b/c");
        assert_eq!(of(Direction::Remote, "0:b/c"), "-R 0:/home/u/b/c");
    }
}
