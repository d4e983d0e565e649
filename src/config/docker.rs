//! How Docker's client is called on a host.
//!
//! This file owns what may be said of that ([`DockerConfig`]) and what is allowed. It promises that
//! no word of it can be taken for an option of something else, or for an assignment. How a command
//! is made of it is the affair of [`docker`](crate::docker).

use super::{ConfigError, quoted};

/// How Docker's client is called on a host: by which program, for which daemon, and where programs
/// are looked for. By default it is `docker`, as the account finds it, with the account's own
/// context and `DOCKER_HOST`.
///
/// ```
/// use sshpool::DockerConfig;
///
/// let by_sudo = DockerConfig::new().program(["sudo", "-n", "docker"])?;
/// let rootless = DockerConfig::new().host("unix:///run/user/1000/docker.sock")?;
/// let of_snap = DockerConfig::new().path(["/snap/bin", "~/bin"])?;
/// # Ok::<(), sshpool::ConfigError>(())
/// ```
///
/// In the TOML file it is the table `[hosts.NAME.docker]` with the keys `program`, `host`,
/// `context` and `path`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DockerConfig {
    program: Vec<String>,
    host: Option<String>,
    context: Option<String>,
    path: Vec<String>,
}

impl DockerConfig {
    /// The default for all of it.
    pub fn new() -> Self {
        DockerConfig::default()
    }

    /// The program, and what stands before it: `["podman"]`, `["/snap/bin/docker"]`,
    /// `["sudo", "-n", "docker"]`.
    ///
    /// # Errors
    ///
    /// No word, one that is empty or has control characters; a first word that is an option or an
    /// assignment (`A=b`).
    pub fn program<S: Into<String>>(
        mut self,
        words: impl IntoIterator<Item = S>,
    ) -> Result<Self, ConfigError> {
        let words: Vec<String> = words.into_iter().map(Into::into).collect();
        let is_wrong = |word: &String| word.is_empty() || word.contains(char::is_control);
        if let Some(word) = words.iter().find(|word| is_wrong(word)) {
            return Err(wrong("program", word, "words without control characters"));
        }
        match words.first() {
            Some(first) if !first.starts_with('-') && !first.contains('=') => {}
            first => {
                let first = first.map_or("", String::as_str);
                return Err(wrong("program", first, "a program first, such as \"docker\""));
            }
        }
        self.program = words;
        Ok(self)
    }

    /// The daemon, as `DOCKER_HOST` has it: `unix:///run/user/1000/docker.sock`,
    /// `tcp://10.0.0.7:2376`. It takes the place of a [context](Self::context).
    ///
    /// # Errors
    ///
    /// What is no `SCHEME://…`, or has blanks or control characters.
    pub fn host(mut self, host: impl Into<String>) -> Result<Self, ConfigError> {
        let host = host.into();
        let has_scheme = host.split_once("://").is_some_and(|(scheme, _)| {
            !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_lowercase())
        });
        if !has_scheme || host.contains(|c: char| c.is_control() || c.is_whitespace()) {
            let expected = "SCHEME://…, such as \"unix:///run/user/1000/docker.sock\"";
            return Err(wrong("host", &host, expected));
        }
        (self.host, self.context) = (Some(host), None);
        Ok(self)
    }

    /// The context of the account, as `docker context use` names it. It takes the place of a
    /// [host](Self::host).
    ///
    /// # Errors
    ///
    /// Docker's own rule: letters, digits, `_`, `.`, `+` and `-`, the first one a letter or a
    /// digit.
    pub fn context(mut self, name: impl Into<String>) -> Result<Self, ConfigError> {
        let name = name.into();
        let allowed = |c: char| c.is_ascii_alphanumeric() || "_.+-".contains(c);
        if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || !name.chars().all(allowed) {
            let expected = "letters, digits, \"_\", \".\", \"+\" and \"-\", a letter or a digit \
                first";
            return Err(wrong("context", &name, expected));
        }
        (self.context, self.host) = (Some(name), None);
        Ok(self)
    }

    /// Directories in which programs are looked for before those of the account's `PATH`. A leading
    /// `~/` is the account's home.
    ///
    /// # Errors
    ///
    /// What is neither absolute nor below `~`, or has a `:` or control characters.
    pub fn path<S: Into<String>>(
        mut self,
        directories: impl IntoIterator<Item = S>,
    ) -> Result<Self, ConfigError> {
        let directories: Vec<String> = directories.into_iter().map(Into::into).collect();
        let is_right = |directory: &&String| {
            (directory.starts_with('/') || directory.starts_with("~/") || *directory == "~")
                && !directory.contains(|c: char| c == ':' || c.is_control())
        };
        if let Some(directory) = directories.iter().find(|directory| !is_right(directory)) {
            let expected = "directories of the host, absolute or below ~/, such as \"/snap/bin\"";
            return Err(wrong("path", directory, expected));
        }
        self.path = directories;
        Ok(self)
    }

    /// The program, and what stands before it.
    pub fn get_program(&self) -> impl DoubleEndedIterator<Item = &str> {
        let default = self.program.is_empty().then_some("docker");
        default.into_iter().chain(self.program.iter().map(String::as_str))
    }

    /// The daemon, if one was set.
    pub fn get_host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    /// The context, if one was set.
    pub fn get_context(&self) -> Option<&str> {
        self.context.as_deref()
    }

    /// The directories that are looked into first.
    pub fn get_path(&self) -> impl Iterator<Item = &str> {
        self.path.iter().map(String::as_str)
    }
}

fn wrong(key: &str, value: &str, expected: &str) -> ConfigError {
    ConfigError::invalid(format!("docker.{key}"), &quoted(value), expected)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn program(words: &[&str]) -> Result<DockerConfig, ConfigError> {
        DockerConfig::new().program(words.iter().copied())
    }

    #[test]
    fn g2_what_is_said_is_there_to_be_read() {
        let config =
            program(&["sudo", "-n", "docker"]).and_then(|c| c.path(["~/bin", "/snap/bin"]));
        let config = config.and_then(|config| config.context("a")).expect("it is right");
        assert_eq!(config.get_program().collect::<Vec<_>>(), ["sudo", "-n", "docker"]);
        assert_eq!(config.get_path().collect::<Vec<_>>(), ["~/bin", "/snap/bin"]);
        assert_eq!((config.get_host(), config.get_context()), (None, Some("a")));
        let config = config.host("tcp://[::1]:2376").expect("it is right");
        assert_eq!((config.get_host(), config.get_context()), (Some("tcp://[::1]:2376"), None));
        assert_eq!(DockerConfig::new().get_program().collect::<Vec<_>>(), ["docker"]);
    }

    #[rstest]
    #[case::nothing(program(&[]))]
    #[case::empty(program(&[""]))]
    #[case::option(program(&["-n", "docker"]))]
    #[case::assignment(program(&["PATH=/tmp", "docker"]))]
    #[case::lines(program(&["docker", "a\nb"]))]
    #[case::no_scheme(DockerConfig::new().host("localhost:2375"))]
    #[case::option(DockerConfig::new().host("-x://a"))]
    #[case::blanks(DockerConfig::new().host("unix:///a b"))]
    #[case::no_context(DockerConfig::new().context(""))]
    #[case::option(DockerConfig::new().context("-a"))]
    #[case::shell(DockerConfig::new().context("a;b"))]
    #[case::relative(DockerConfig::new().path(["bin"]))]
    #[case::of_somebody(DockerConfig::new().path(["~root/bin"]))]
    #[case::two(DockerConfig::new().path(["/a:/b"]))]
    #[case::lines(DockerConfig::new().path(["/a\nb"]))]
    fn what_could_be_something_else_is_refused(#[case] made: Result<DockerConfig, ConfigError>) {
        let error = made.expect_err("it is wrong").to_string();
        assert!(error.starts_with("docker.") && error.contains(" is not valid: "), "{error}");
        assert!(!error.contains(char::is_control), "{error}");
    }
}
