//! What holds for any destination: nothing that a shell or ssh could take for something else gets
//! through.

use proptest::prelude::*;

use super::Host;

/// Destinations, nearly destinations, and anything at all.
fn destination() -> impl Strategy<Value = String> {
    let user = prop_oneof![
        Just(String::new()),
        "[a-zA-Z0-9._@+\\\\-]{0,6}@",
        "[a-z$`;|&<> \\t\\n'\"\\\\%-]{0,4}@",
        any::<String>().prop_map(|user| user + "@"),
        "ssh://[a-z%+;0-9:/]{0,8}@",
    ];
    let name = prop_oneof![
        "[a-zA-Z0-9._-]{0,8}",
        "[a-c\\[\\]:,=~+^#%/!?*ü]{0,6}",
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

/// Made of nothing that ssh takes for an option, a shell for more than letters, or a terminal for a
/// command.
fn is_harmless(text: &str, more: &str) -> bool {
    let text_of_shells = |c: char| "'`\"$\\;&<>|(){}".contains(c) && !more.contains(c);
    !text.is_empty()
        && !text.starts_with('-')
        && !text.contains(text_of_shells)
        && !text.contains(char::is_control)
}

fn is_harmless_name(name: &str) -> bool {
    is_harmless(name, "") && !name.contains(|c: char| c == '@' || c.is_ascii_whitespace())
}

/// A `$` at the end, and a `\` elsewhere, are letters to a shell.
fn is_harmless_user(user: &str) -> bool {
    let body = user.strip_suffix('$').unwrap_or(user);
    (body.is_empty() || is_harmless(body, "\\")) && !body.ends_with('\\') && !user.contains(" -")
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
                    prop_assert!(is_harmless_user(user), "{user:?}");
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
