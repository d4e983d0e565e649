//! examples/config.toml says every setting as it is without the file, with what is written about
//! it.

use std::path::Path;

use sshpool::{Config, PoolConfig};

const TEXT: &str = include_str!("../../examples/config.toml");

fn example() -> Config {
    Config::from_toml(TEXT, Path::new("examples/config.toml"))
        .unwrap_or_else(|error| panic!("{error}"))
}

/// The names of the settings, by the names of their fields.
fn settings() -> Vec<String> {
    let text = format!("{:#?}", PoolConfig::default());
    let names = text.lines().filter_map(|line| line.trim().split_once(": ")).map(|(name, _)| name);
    // This one says of a setting whether it was set, and is none by itself.
    names.filter(|name| *name != "keep_connect_timeout").map(str::to_owned).collect()
}

#[test]
fn each_setting_stands_with_its_default() {
    let config = example();
    assert_eq!(config.pool, PoolConfig::default().keep_connect_timeout(true));
    let said: toml::Table = TEXT.parse().expect("it is TOML");
    let said: Vec<&String> = said["pool"].as_table().expect("a table").keys().collect();
    let mut settings = settings();
    settings.sort();
    assert_eq!(said, settings.iter().collect::<Vec<_>>());
}

/// The comment before a setting names the variable that really sets it, and the unit.
#[test]
fn the_variable_of_each_setting_is_named_with_its_unit() {
    for name in settings() {
        let (before, _) = TEXT.split_once(&format!("\n{name} = ")).expect("it stands there");
        let comment = before.rsplit("\n\n").next().expect("there is always a last part");
        let variable = comment.split_whitespace().find(|word| word.starts_with("SSH_POOL_"));
        let variable =
            variable.unwrap_or_else(|| panic!("{name}: {comment}")).trim_end_matches([',', '.']);
        // docs/settings.md has the same, and a test of it sets each variable.
        let row = include_str!("../../docs/settings.md")
            .lines()
            .find(|line| line.starts_with(&format!("| `{name}` |")));
        assert!(
            row.is_some_and(|row| row.contains(&format!("`{variable}`"))),
            "{name}: {variable}"
        );
        let unit = match variable {
            variable if variable.ends_with("_MS") => "in milliseconds",
            variable if variable.ends_with("_BYTES") => "in bytes",
            _ => "",
        };
        assert!(comment.contains(unit), "{name}: {comment}");
    }
}

#[test]
fn there_are_hosts_and_groups() {
    let config = example();
    let web1 = &config.hosts["web1"];
    assert_eq!(
        (web1.get_address(), web1.get_port(), web1.get_user()),
        (Some("192.0.2.7"), Some(2222), Some("deploy"))
    );
    assert!(web1.get_identity_file().is_some_and(|file| file.is_absolute()));
    let options: Vec<_> = web1.get_options().collect();
    assert_eq!(
        options,
        [("ProxyJump", "bastion"), ("Compression", "yes"), ("ServerAliveInterval", "30")]
    );
    let docker = config.docker(web1);
    assert_eq!(docker.get_program().collect::<Vec<_>>(), ["sudo", "-n", "docker"]);
    assert_eq!(docker.get_path().collect::<Vec<_>>(), ["/snap/bin", "~/bin"]);
    assert_eq!(docker.get_context(), Some("default"));
    let forwards: Vec<_> = config.forwards["web1"].iter().map(ToString::to_string).collect();
    assert_eq!(forwards, ["-L 5432:localhost:5432"]);
    assert_eq!(config.groups.keys().collect::<Vec<_>>(), ["all", "db", "web"]);
}
