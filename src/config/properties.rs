//! What holds for any configuration: it is read as it is meant, or refused in one line that names
//! the place.

use std::path::Path;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use super::settings::SETTINGS;
use super::units::{LARGEST, LONGEST, format_millis, format_size};
use super::{Config, parse_duration, parse_size};

/// What TOML is made of, well formed and not.
fn toml() -> impl Strategy<Value = String> {
    let known = prop::sample::select(
        &[
            "[pool]",
            "[hosts.web1]",
            "[hosts.web1.options]",
            "[groups]",
            "\"web[1-3],@web\"",
            "[[hosts]]",
            "[",
            "]",
            "{",
            "}",
            "=",
            ",",
            ".",
            "#",
            "\n",
            "\r\n",
            "\r",
            "\"",
            "'''",
            "\"\"\"",
            "\\u",
            "\\U0010FFFF",
            "idle_timeout",
            "max_output",
            "max_connections",
            "health_checks",
            "port",
            "user",
            "address",
            "identity_file",
            "options",
            "\"60s\"",
            "\"10MiB\"",
            "true",
            "0x1F",
            "1_000",
            "1e400",
            "nan",
            "-0",
            "1979-05-27T07:32:00Z",
            "99999999999999999999",
            "\u{feff}",
            "\0",
            "\u{1b}[31m",
            "\u{2028}",
        ][..],
    );
    let piece = prop_oneof![
        4 => known.prop_map(str::to_owned),
        1 => any::<String>(),
        1 => "[a-z]{0,4} = [0-9\"'.a-z]{0,6}\n",
    ];
    vec(piece, 0..25).prop_map(|pieces| pieces.concat())
}

/// A value of TOML.
fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f32>().prop_map(|number| format!("{number:?}").to_lowercase()),
        any::<bool>().prop_map(|flag| flag.to_string()),
        "\"[0-9]{1,6}(ms|s|m|h|d|B|kB|KiB|MiB|GiB|)\"",
        "'[^'\\x00-\\x1f\\x7f]{0,20}'",
        Just("[1, 2]".to_owned()),
        Just("{ a = 1 }".to_owned()),
        Just("1979-05-27".to_owned()),
    ]
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused_in_one_line_with_its_place(text in toml()) {
        if let Err(error) = Config::from_toml(&text, Path::new("config.toml")) {
            let message = error.to_string();
            let place = message.strip_prefix("config.toml:").and_then(|rest| rest.split_once(": "));
            let line = place.and_then(|(line, _)| line.parse::<usize>().ok());
            let lines = 1 + text.matches('\n').count();
            prop_assert!(line.is_some_and(|line| (1..=lines).contains(&line)), "{message:?}");
            let is_one_line = !message.contains(char::is_control) && !message.contains('\u{2028}');
            prop_assert!(is_one_line, "{message:?}");
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused_in_one_line_with_their_place(
        bytes in vec(any::<u8>(), 0..200),
    ) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("config.toml");
        std::fs::write(&path, bytes).expect("it is written");
        if let Err(error) = Config::load(&path) {
            let message = error.to_string();
            prop_assert!(message.starts_with(&format!("{}:", path.display())), "{message:?}");
            prop_assert!(!message.contains(char::is_control), "{message:?}");
        }
    }

    #[test]
    fn a_value_that_is_refused_is_named_with_its_line_and_key(
        before in 0..20_usize,
        setting in 0..SETTINGS.len(),
        value in value(),
    ) {
        let name = SETTINGS[setting].name;
        let text = format!("{}[pool]\n{name} = {value}\n", "#\n".repeat(before));
        match Config::from_toml(&text, Path::new("config.toml")) {
            Ok(config) => prop_assert_eq!(config.pool.validate(), Ok(())),
            Err(error) => {
                let message = error.to_string();
                let start = format!("config.toml:{}: pool.{name}: ", before + 2);
                prop_assert!(message.starts_with(&start) && message.contains(" is not valid: \
                    expected "), "{message}");
            }
        }
    }

    #[test]
    fn any_value_of_an_environment_variable_is_read_or_refused_in_one_line(
        setting in 0..SETTINGS.len(),
        value in prop_oneof![
            any::<String>(),
            "[0-9]{0,22}",
            "[+-]?[0-9]{1,3}( |ms)?",
            "true|false|1|0|yes",
        ],
    ) {
        let (mut pool, variable) = (super::PoolConfig::default(), SETTINGS[setting].variable);
        match pool.apply_variables([(variable.into(), value.clone().into())]) {
            Ok(()) => prop_assert_eq!(pool.validate(), Ok(())),
            Err(error) => {
                let message = error.to_string();
                prop_assert!(message.starts_with(&format!("environment variable \
                    {variable}: ")) && !message.contains(char::is_control), "{message:?}");
                prop_assert_eq!(pool, super::PoolConfig::default());
            }
        }
    }

    #[test]
    fn durations_are_read_as_they_were_written(millis in 0..=LONGEST.as_secs() * 1000) {
        prop_assert_eq!(parse_duration(&format_millis(millis)), Ok(Duration::from_millis(millis)));
    }

    #[test]
    fn sizes_are_read_as_they_were_written(bytes in 0..=LARGEST) {
        prop_assert_eq!(parse_size(&format_size(bytes as u64)), Ok(bytes));
        prop_assert_eq!(parse_size(&bytes.to_string()), Ok(bytes));
    }

    #[test]
    fn any_text_is_a_duration_and_a_size_within_the_limits_or_none(
        text in prop_oneof![any::<String>(), "[0-9]{0,25}(\\.[0-9]{0,12})?[a-zA-Z]{0,3}"],
    ) {
        prop_assert!(parse_duration(&text).map_or(true, |duration| duration <= LONGEST));
        prop_assert!(parse_size(&text).map_or(true, |size| size <= LARGEST));
    }
}
