//! Why `docker compose` failed.

use crate::config::DockerConfig;
use crate::error::Error;
use crate::text::printable;

/// What can go wrong with a Compose project on a host. One line each, with Docker's own words where
/// there are any.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ComposeError {
    /// The name of a project, a service or an action is not acceptable. Nothing was run.
    #[error("invalid {what} {value:?}: {reason}")]
    Name {
        /// What it was to name.
        what: &'static str,
        /// The name, cut when it is very long.
        value: String,
        /// What is wrong with it.
        reason: String,
    },

    /// The command could not be run to its end.
    #[error(transparent)]
    Run(#[from] Error),

    /// There is no `docker` program.
    #[error("{host}: {program} is not installed, or not on the PATH of this account")]
    NoDocker {
        /// The host's name.
        host: String,
        /// The program that was called, `docker` unless it was said otherwise.
        program: String,
    },

    /// There is a `docker`, but it has no `compose`.
    #[error("{host}: the Compose plugin of {program} is not installed")]
    NoCompose {
        /// The host's name.
        host: String,
        /// The program that was called, `docker` unless it was said otherwise.
        program: String,
        /// Docker's own words.
        text: String,
    },

    /// The account may not use Docker's socket.
    #[error(
        "{host}: no permission for Docker's socket: {text} (is the account in the group docker?)"
    )]
    Permission {
        /// The host's name.
        host: String,
        /// Docker's own words.
        text: String,
    },

    /// Docker's daemon does not run, or not where it is looked for.
    #[error("{host}: Docker's daemon does not answer: {text}")]
    NoDaemon {
        /// The host's name.
        host: String,
        /// Docker's own words.
        text: String,
    },

    /// Compose does not know the files of the project: name them with
    /// [`Action::file`](super::Action::file).
    #[error(
        "{host}: the Compose files of project {project:?} are not known: {reason}; name them \
            (--file)"
    )]
    NoFiles {
        /// The host's name.
        host: String,
        /// The project's name.
        project: String,
        /// Why not.
        reason: &'static str,
    },

    /// Compose does not know the project.
    #[error("{host}: there is no project {project:?}: {text}")]
    NoProject {
        /// The host's name.
        host: String,
        /// The project's name.
        project: String,
        /// Compose's own words.
        text: String,
    },

    /// Something else; Compose's own words tell.
    #[error("{host}: docker compose failed with {}: {text}", status(*code))]
    Failed {
        /// The host's name.
        host: String,
        /// The exit status; `None` when a signal ended it.
        code: Option<i32>,
        /// The end of what it wrote to stderr.
        text: String,
    },

    /// The answer is not what Compose is known to print.
    #[error("{host}: cannot read the answer of {what}: {reason}")]
    Malformed {
        /// The host's name.
        host: String,
        /// Whose answer.
        what: &'static str,
        /// What is wrong with it, and where.
        reason: String,
    },
}

fn status(code: Option<i32>) -> String {
    code.map_or_else(|| "a signal".to_owned(), |code| format!("code {code}"))
}

/// An action that has failed.
pub(super) struct Failure<'a> {
    pub host: &'a str,
    pub program: &'a DockerConfig,
    pub project: &'a str,
    /// A program in a container can have written the texts, too. Then only Docker's own last line
    /// counts, and only with Docker's own status.
    pub foreign: bool,
}

impl Failure<'_> {
    /// The usual causes by the texts that give them away.
    pub(super) fn explain(&self, code: Option<i32>, stderr: &str) -> ComposeError {
        explain(self, code, stderr)
    }

    /// The program that a shell, `env` or `sudo` has not found, in the words of sh and bash, mksh,
    /// csh, zsh, fish, env and sudo.
    fn not_found(&self, code: Option<i32>, says: impl Fn(&[&str]) -> bool) -> Option<String> {
        let mut program = self.program.get_program();
        let last = program.next_back().unwrap_or_default();
        let first = program.next();
        // sudo and csh have another status for it.
        let of_csh = says(&[&format!("{last}: Command not found.")]);
        let is_status = code == Some(127) || code == Some(1) && (of_csh || first.is_some());
        let is_missing = |program: &&str| {
            let texts = [
                format!("{program}: not found"),
                format!("{program}: command not found"),
                format!("{program}: Command not found"),
                format!("{program}: inaccessible or not found"),
                format!("{program}: No such file or directory"),
                format!("command not found: {program}"),
                format!("no such file or directory: {program}"),
                format!("Unknown command: {program}"),
                format!("‘{program}’: No such file"),
                format!("'{program}': No such file"),
            ];
            says(&texts.each_ref().map(String::as_str))
        };
        first.into_iter().chain([last]).find(is_missing).filter(|_| is_status).map(str::to_owned)
    }
}

fn explain(failure: &Failure<'_>, code: Option<i32>, stderr: &str) -> ComposeError {
    let Failure { project, foreign, .. } = *failure;
    let host = failure.host.to_owned();
    let program = || failure.program.get_program().next_back().unwrap_or_default().to_owned();
    let last = stderr.lines().rev().map(str::trim).find(|line| !line.is_empty());
    let last = last.unwrap_or("it wrote nothing to stderr");
    let says = |texts: &[&str]| match foreign {
        false => texts.iter().any(|text| stderr.contains(text)),
        true => code == Some(1) && texts.iter().any(|text| last.starts_with(text)),
    };
    // A deprecation or a progress line may come before or after it.
    let line = |texts: &[&str]| {
        let telling = stderr.lines().rfind(|line| texts.iter().any(|text| line.contains(text)));
        printable(telling.unwrap_or_default())
    };
    const NO_COMPOSE: &[&str] = &[
        "is not a docker command",
        "unknown command: docker compose",
        // Podman, of which a provider is the other half.
        "looking up compose provider failed",
        "unrecognized command `podman compose`",
    ];
    // A docker without the plugin takes Compose's options for its own.
    const NOT_ITS_OPTION: &[&str] = &["unknown shorthand flag: ", "unknown flag: "];
    const PERMISSION: &[&str] =
        &["permission denied while trying to connect", "Got permission denied"];
    const NO_DAEMON: &[&str] = &[
        "Cannot connect to the Docker daemon",
        "error during connect",
        "unable to resolve docker endpoint",
        "failed to connect to the docker API",
    ];
    const NO_PROJECT: &[&str] = &[
        "no such project",
        "no container found for project",
        "no configuration file provided",
        "no resource found",
    ];
    if let Some(program) = failure.not_found(code, says) {
        return ComposeError::NoDocker { host, program };
    }
    if code == Some(125) && says(NOT_ITS_OPTION) {
        return ComposeError::NoCompose { host, program: program(), text: line(NOT_ITS_OPTION) };
    }
    if says(NO_COMPOSE) {
        return ComposeError::NoCompose { host, program: program(), text: line(NO_COMPOSE) };
    }
    for (texts, make) in [
        (
            PERMISSION,
            (|host, text| ComposeError::Permission { host, text })
                as fn(String, String) -> ComposeError,
        ),
        (NO_DAEMON, |host, text| ComposeError::NoDaemon { host, text }),
    ] {
        if says(texts) {
            return make(host, line(texts));
        }
    }
    if !foreign && says(NO_PROJECT) {
        return ComposeError::NoProject {
            host,
            project: project.to_owned(),
            text: line(NO_PROJECT),
        };
    }
    ComposeError::Failed { host, code, text: printable(last) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn explain(code: Option<i32>, stderr: &str, foreign: bool) -> ComposeError {
        let program = &DockerConfig::new();
        Failure { host: "web1", program, project: "shop", foreign }.explain(code, stderr)
    }

    /// `CAUSE<TAB>EXIT_CODE<TAB>TEXT` in each line.
    const RECORDED: &str = include_str!("../../tests/recorded/errors.txt");

    #[test]
    fn recorded_texts_have_their_causes() {
        for line in RECORDED.lines() {
            let [cause, code, text] = line.split('\t').collect::<Vec<_>>()[..] else {
                panic!("{line}")
            };
            let stderr =
                format!("time=\"2026-01-01\" level=warning msg=\"something else\"\n{text}\n\n");
            let error = explain(code.parse().ok(), &stderr, false);
            let found = match &error {
                ComposeError::NoDocker { .. } => "no_docker",
                ComposeError::NoCompose { .. } => "no_compose",
                ComposeError::Permission { .. } => "permission",
                ComposeError::NoDaemon { .. } => "no_daemon",
                ComposeError::NoProject { .. } => "no_project",
                ComposeError::Failed { .. } => "failed",
                other => panic!("{other}"),
            };
            assert_eq!(found, cause, "{text}");
            assert!(error.to_string().starts_with("web1: "), "{error}");
            assert!(
                ["no_docker", "no_compose"].contains(&cause) || error.to_string().contains(text),
                "{error} does not say {text}"
            );
        }
        assert!(RECORDED.lines().count() > 20);
    }

    #[test]
    fn the_newer_texts_of_permission_and_daemon_are_known() {
        let of = |text: &str| explain(Some(1), text, false);
        let text = "permission denied while trying to connect to the docker API at \
            unix:///var/run/docker.sock";
        assert!(matches!(of(text), ComposeError::Permission { .. }));
        let text = "failed to connect to the docker API at unix:///var/run/docker.sock; check if \
            the path is correct and if the daemon is running";
        assert!(matches!(of(text), ComposeError::NoDaemon { .. }));
    }

    #[test]
    fn what_a_program_in_a_container_says_is_not_dockers() {
        for (code, stderr) in [
            (127, "sh: 1: docker: not found"),
            (3, "error during connect: my own db"),
            (3, "no such project"),
            (1, "Cannot connect to the Docker daemon of mine\nand more"),
        ] {
            let error = explain(Some(code), stderr, true);
            assert!(matches!(error, ComposeError::Failed { .. }), "{error}");
        }
        let text = "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the \
            docker daemon running?\n";
        assert!(matches!(explain(Some(1), text, true), ComposeError::NoDaemon { .. }));
    }

    #[rstest]
    #[case::sudo(&["sudo", "-n", "docker"], 1, "sudo: docker: command not found", "docker")]
    #[case::no_sudo(&["sudo", "-n", "docker"], 127, "sh: 1: sudo: not found", "sudo")]
    #[case::path(
        &["/snap/bin/docker"], 127,
        "bash: line 1: /snap/bin/docker: No such file or directory", "/snap/bin/docker"
    )]
    #[case::zsh(
        &["/snap/bin/docker"], 127,
        "zsh:1: no such file or directory: /snap/bin/docker", "/snap/bin/docker"
    )]
    #[case::env(&["podman"], 127, "env: ‘podman’: No such file or directory", "podman")]
    #[case::csh(&["docker"], 1, "docker: Command not found.", "docker")]
    fn g2_a_program_that_is_not_there_is_named(
        #[case] words: &[&str],
        #[case] code: i32,
        #[case] stderr: &str,
        #[case] program: &str,
    ) {
        let config = DockerConfig::new().program(words.iter().copied()).expect("it is right");
        let failure = Failure { host: "web1", program: &config, project: "shop", foreign: false };
        let expected =
            format!("web1: {program} is not installed, or not on the PATH of this account");
        assert_eq!(failure.explain(Some(code), stderr).to_string(), expected);
    }

    #[rstest]
    #[case::podman(
        "podman",
        125,
        "Error: looking up compose provider failed\n7 errors occurred:\n\t* exec: \
         \"docker-compose\": executable file not found in $PATH"
    )]
    #[case::docker("docker", 125, "unknown flag: --format\nSee 'docker --help'.")]
    fn g9_a_missing_plugin_is_told_alone(
        #[case] program: &str,
        #[case] code: i32,
        #[case] stderr: &str,
    ) {
        let config = DockerConfig::new().program([program]).expect("it is right");
        let failure = Failure { host: "web1", program: &config, project: "shop", foreign: false };
        let expected = format!("web1: the Compose plugin of {program} is not installed");
        assert_eq!(failure.explain(Some(code), stderr).to_string(), expected);
    }

    #[test]
    fn a_silent_failure_is_told_with_its_status() {
        let error = explain(Some(14), "\n", false);
        assert_eq!(
            error.to_string(),
            "web1: docker compose failed with code 14: it wrote nothing to stderr"
        );
        let error = explain(None, "", false);
        assert_eq!(
            error.to_string(),
            "web1: docker compose failed with a signal: it wrote nothing to stderr"
        );
    }
}
