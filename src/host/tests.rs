//! What a host can be, and what it cannot.

use super::check::SHELL_TEXT;
use super::*;
use rstest::rstest;

#[rstest]
#[case("web1")]
#[case("web-1.example_net.org")]
#[case("10.0.0.7")]
#[case("::1")]
#[case("fe80::1%eth0")]
#[case("a+b")]
#[case("x^y")]
#[case("ünï")]
#[case("a,b=c~d/e#f%g!h*i?j")]
#[case("[x]")]
#[case("1:2")]
fn names_that_are_accepted(#[case] name: &str) {
    assert_eq!(Host::new(name).expect("a valid name").name(), name);
    Host::new("x").unwrap().address(name).expect("a valid address");
}

#[rstest]
#[case("", "invalid host name \"\": it must not be empty")]
#[case("-oProxyCommand=x", "invalid host name \"-oProxyCommand=x\": it must not start with \"-\"")]
#[case(
    "a;b",
    "invalid host name \"a;b\": it must not contain ';'; \
     give the host a name without it, by Host and HostName in the ssh_config"
)]
#[case(
    "a\nb",
    "invalid host name \"a\\nb\": it must not contain '\\n'; \
     give the host a name without it, by Host and HostName in the ssh_config"
)]
#[case("ssh://web1", "invalid host name \"ssh://web1\": it is a URI, and not a name")]
fn names_that_are_refused(#[case] name: &str, #[case] message: &str) {
    assert_eq!(Host::new(name).unwrap_err().to_string(), message);
    let message = message.replace("host name", "address");
    assert_eq!(Host::new("x").unwrap().address(name).unwrap_err().to_string(), message);
}

#[test]
fn what_has_no_end_is_refused() {
    let name = |length| Host::new("ä".repeat(length));
    assert!(name(512).is_ok() && name(513).is_err() && name(1 << 20).is_err());
    let user = |length| Host::new("web1").and_then(|host| host.user("a".repeat(length)));
    assert!(user(4096).is_ok() && user(4097).is_err() && user(1 << 20).is_err());
}

/// What a shell could take for more than a letter is in none of them, wherever it stands.
#[test]
fn b8_shell_text_and_options_are_no_names() {
    for c in SHELL_TEXT.chars().chain("\0\t\n\r\x0b\x0c\x1b\x7f\u{9b}\u{2028}".chars()) {
        for text in [format!("{c}"), format!("{c}a"), format!("a{c}"), format!("a{c}b")] {
            assert!(Host::new(&*text).is_err(), "{text:?}");
            assert!(Host::new("x").unwrap().address(&*text).is_err(), "{text:?}");
            let user = Host::new("x").unwrap().user(&*text).is_ok();
            let harmless = match c {
                '$' => text.ends_with('$'),
                '\\' => !text.ends_with('\\'),
                _ => false,
            };
            assert_eq!(user, harmless, "{text:?}");
        }
    }
    for text in ["-", "-l", "-oProxyCommand=x", "ssh://-oProxyCommand=x", "a@-oProxyCommand=x"] {
        assert!(text.parse::<Host>().is_err(), "{text}");
    }
    for text in ["-l", "a -oProxyCommand=x"] {
        assert!(Host::new("x").unwrap().user(text).is_err(), "{text}");
    }
}

#[rstest]
#[case("deploy", true)]
#[case("deploy+ci@example.org", true)]
#[case("CORP\\deploy", true)]
#[case("", false)]
#[case("-l", false)]
#[case("a;b", false)]
#[case("a$b", false)]
#[case("a`b", false)]
#[case("a\\", false)]
#[case("a -b", false)]
#[case("lab:x", true)]
#[case("cf:3e1d/0", true)]
#[case("a#b", true)]
#[case("a%b", true)]
#[case("John Doe", true)]
#[case("ünï", true)]
#[case("CORP\\web1$", true)]
fn users(#[case] user: &str, #[case] accepted: bool) {
    assert_eq!(Host::new("web1").unwrap().user(user).is_ok(), accepted);
}

#[rstest]
#[case("web1", None, "web1", None)]
#[case("web1:2222", None, "web1", Some(2222))]
#[case("deploy@web1", Some("deploy"), "web1", None)]
#[case("a@b@web1:1", Some("a@b"), "web1", Some(1))]
#[case("::1", None, "::1", None)]
#[case("[::1]", None, "::1", None)]
#[case("deploy@[fe80::1%eth0]:65535", Some("deploy"), "fe80::1%eth0", Some(65535))]
#[case("lab:x@web1:22", Some("lab:x"), "web1", Some(22))]
#[case("a#b%c@web1", Some("a#b%c"), "web1", None)]
#[case("[a:b]:22", None, "a:b", Some(22))]
#[case("[web1]:22", None, "web1", Some(22))]
#[case("[x]", None, "[x]", None)]
#[case("[[x]]:22", None, "[x]", Some(22))]
#[case("ssh://web1", None, "web1", None)]
#[case("ssh://web1/", None, "web1", None)]
#[case("ssh://web1:", None, "web1", None)]
#[case("ssh://lab@web1:24711", Some("lab"), "web1", Some(24711))]
#[case("ssh://a%2fb%25;x=y@web1:022/", Some("a/b%"), "web1", Some(22))]
#[case("ssh://a+b%2Bc@[::1]:22", Some("a b+c"), "::1", Some(22))]
#[case("ssh://%C3%BC@web1", Some("ü"), "web1", None)]
fn texts_that_are_read(
    #[case] text: &str,
    #[case] user: Option<&str>,
    #[case] name: &str,
    #[case] port: Option<u16>,
) {
    let host: Host = text.parse().expect("a valid host");
    assert_eq!((host.get_user(), host.name(), host.get_port()), (user, name, port));
}

#[rstest]
#[case("web1:0", "invalid port \"0\": expected a number from 1 to 65535")]
#[case("web1:70000", "invalid port \"70000\": expected a number from 1 to 65535")]
#[case("web1:+22", "invalid port \"+22\": expected a number from 1 to 65535")]
#[case("web1:", "invalid port \"\": expected a number from 1 to 65535")]
#[case("@web1", "invalid user \"\": expected 1 to 4096 characters")]
#[case("[::1", "invalid host \"[::1\": expected \"[ADDRESS]\" or \"[ADDRESS]:PORT\"")]
#[case("[::1]22", "invalid host \"[::1]22\": expected \"[ADDRESS]\" or \"[ADDRESS]:PORT\"")]
#[case(
    "web1:ssh",
    "invalid port \"ssh\": expected a number from 1 to 65535 \
     (a name with a colon stands in brackets: \"[web1:ssh]\")"
)]
#[case("ssh://web1:/", "invalid port \"\": expected a number from 1 to 65535")]
#[case(
    "ssh://web1/x",
    "invalid address \"ssh://web1/x\": a path has no meaning here: expected \"ssh://[user@]host[:port]\""
)]
#[case("ssh://@web1", "invalid user \"\": expected 1 to 4096 characters")]
#[case(
    "ssh://a%2@web1",
    "invalid address \"ssh://a%2@web1\": a \"%\" in its user has to be followed by two hexadecimal digits, of UTF-8 text"
)]
#[case(
    "ssh://a%3Bb@web1",
    "invalid user \"a;b\": it must not contain ';'; a User in the ssh_config can have it"
)]
#[case(
    "ssh://a@b@web1",
    "invalid host name \"b@web1\": it must not contain '@'; \
     give the host a name without it, by Host and HostName in the ssh_config"
)]
fn texts_that_are_refused(#[case] text: &str, #[case] message: &str) {
    assert_eq!(text.parse::<Host>().unwrap_err().to_string(), message);
}

#[rstest]
#[case("ProxyJump", "bastion", None)]
#[case("controlpath", "/x", Some("the pool itself decides about it"))]
#[case("User", "x", Some("say it with `user`"))]
#[case("Proxy Jump", "x", Some("expected the name of an option"))]
#[case("ProxyJump=x", "x", Some("expected the name of an option"))]
#[case("ProxyJump", " ", Some("its value \" \" is empty"))]
#[case("ProxyJump", "a\nb", Some("its value \"a\\nb\" is empty or has control characters"))]
fn options(#[case] key: &str, #[case] value: &str, #[case] refused: Option<&str>) {
    match (Host::new("web1").unwrap().option(key, value), refused) {
        (Ok(host), None) => assert_eq!(host.get_options().collect::<Vec<_>>(), [(key, value)]),
        (Err(error), Some(reason)) => assert!(error.to_string().contains(reason), "{error}"),
        (result, _) => panic!("{result:?}"),
    }
}

#[rstest]
#[case("")]
#[case("-key")]
#[case("a\nb")]
fn paths_that_are_refused(#[case] path: &str) {
    assert!(Host::new("web1").unwrap().identity_file(path).is_err());
    assert!(Host::new("web1").unwrap().config_file(path).is_err());
}

#[test]
fn a_tilde_is_the_home_directory() {
    let home = std::env::home_dir().expect("tests run with a home directory");
    let host = Host::new("web1").unwrap().identity_file("~/.ssh/key").unwrap();
    assert_eq!(host.get_identity_file(), Some(home.join(".ssh/key").as_path()));
}

/// Whatever the name has in it, its key is read as the same name and port.
#[rstest]
#[case("a:b", "[a:b]:22")]
#[case("[x]", "[[x]]:22")]
#[case("[a]:5", "[[a]:5]:22")]
#[case("x]", "x]:22")]
#[case("a,b", "a,b:22")]
fn b8_a_key_is_read_as_what_it_is_of(#[case] name: &str, #[case] key: &str) {
    let host = Host::new(name).unwrap();
    assert_eq!(host.key().to_string(), key);
    let again: Host = key.parse().unwrap();
    assert_eq!((again.name(), again.get_port()), (name, Some(22)));
}

#[test]
fn a_key_has_22_when_there_is_no_port_and_brackets_around_ipv6() {
    assert_eq!(Host::new("web1").unwrap().key().to_string(), "web1:22");
    assert_eq!(Host::new("::1").unwrap().port(2222).unwrap().key().to_string(), "[::1]:2222");
}

#[test]
fn only_the_address_may_differ_where_connections_are_shared() {
    let host = || Host::new("web1").unwrap();
    assert_eq!(host().identity(), host().address("10.0.0.1").unwrap().identity());
    for other in [
        host().user("x").unwrap(),
        host().port(22).unwrap(),
        host().identity_file("/k").unwrap(),
        host().config_file("/c").unwrap(),
        host().option("Compression", "yes").unwrap(),
    ] {
        assert_ne!(host().identity(), other.identity());
    }
}
