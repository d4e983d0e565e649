//! What holds for any destination: nothing that a shell or ssh could take for something else gets through.

use proptest::prelude::*;

use super::Host;

/// Destinations, nearly destinations, and anything at all.
fn destination() -> impl Strategy<Value = String> {
    let user = prop_oneof![
        Just(String::new()),
        "[a-zA-Z0-9._@+\\\\-]{0,6}@",
        "[a-z$`;|&<> \\t\\n'\"\\\\%-]{0,4}@",
        any::<String>().prop_map(|user| user + "@"),
    ];
    let name = prop_oneof![
        "[a-zA-Z0-9._-]{0,8}",
        "\\[?[0-9a-f:.%]{0,12}\\]?",
        "-o?[A-Za-z=]{0,8}",
        "[a-z$`;|&<>(){}*?!~# \\t\\n'\"\\\\%/-]{0,6}",
        any::<String>(),
    ];
    let port = prop_oneof![
        Just(String::new()),
        any::<u32>().prop_map(|port| format!(":{port}")),
        ":[0-9+ -]{0,6}",
        any::<String>()
    ];
    (user, name, port).prop_map(|(user, name, port)| user + &name + &port)
}

/// Made of nothing that a shell, a list of options or a terminal takes for more than a letter.
fn is_harmless(text: &str, more: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c) || more.contains(c);
    !text.is_empty() && !text.starts_with('-') && text.chars().all(letter)
}

/// An IPv6 address has colons, and a zone behind a `%`; no shell takes either for more.
fn is_harmless_name(name: &str) -> bool {
    is_harmless(name, if name.contains(':') { ":%" } else { "" })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn any_destination_is_harmless_or_refused(text in destination()) {
        match text.parse::<Host>() {
            Ok(host) => {
                prop_assert!(is_harmless_name(host.name()), "{:?}", host.name());
                prop_assert_ne!(host.get_port(), Some(0));
                if let Some(user) = host.get_user() {
                    // Between a domain and an account, and nowhere else.
                    let harmless = user.splitn(2, '\\').all(|part| is_harmless(part, "@+") || part.starts_with('-'));
                    prop_assert!(harmless && !user.starts_with('-'), "{user:?}");
                }
                // What it is shown as is read as the same again.
                let key = host.key();
                let again: Host = key.to_string().parse().expect("a key is a destination");
                prop_assert_eq!((again.name(), again.get_port()), (host.name(), Some(key.port())));
            }
            Err(error) => {
                let message = error.to_string();
                prop_assert!(!message.contains(char::is_control), "{message:?}");
            }
        }
    }

    #[test]
    fn any_value_is_harmless_or_refused(text in any::<String>(), key in any::<String>()) {
        let host = Host::new("web1").expect("a valid name");
        if let Ok(host) = Host::new(&*text) {
            prop_assert!(is_harmless_name(host.name()));
        }
        if let Ok(host) = host.clone().address(&*text) {
            prop_assert!(host.get_address().is_some_and(is_harmless_name));
        }
        let file = |path: Option<&std::path::Path>| {
            let path = path.map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
            !path.is_empty() && !path.starts_with('-') && !path.contains(char::is_control)
        };
        if let Ok(host) = host.clone().identity_file(&*text) {
            prop_assert!(file(host.get_identity_file()));
        }
        if let Ok(host) = host.clone().config_file(&*text) {
            prop_assert!(file(host.get_config_file()));
        }
        for key in [&*key, "ProxyJump", "SendEnv"] {
            match host.clone().option(key, &*text) {
                Ok(host) => for (key, value) in host.get_options() {
                    prop_assert!(key.chars().all(|c| c.is_ascii_alphanumeric()) && !value.contains(char::is_control));
                },
                Err(error) => prop_assert!(!error.to_string().contains(char::is_control), "{error}"),
            }
        }
    }
}
