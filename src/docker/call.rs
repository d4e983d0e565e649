//! The words before `compose`: which program, for which daemon, and where it is looked for.

use crate::command::escape::escape;
use crate::command::{Command, Runner};
use crate::config::DockerConfig;
use crate::host::Host;

/// Docker's client on this host; arguments are added to it.
///
/// A daemon or a context is told by the variable, which `podman compose` reads, too. Behind `sudo`
/// and the like variables are gone, so there it is told by Docker's own option. All of it is one
/// command that csh and fish understand as well.
pub(super) fn client(runner: &dyn Runner, host: &Host, docker: &DockerConfig) -> Command {
    Command::shell(runner.shared(), host, words(docker))
}

/// The same as shell text.
pub(super) fn words(docker: &DockerConfig) -> String {
    let program: Vec<&str> = docker.get_program().collect();
    let is_alone = program.len() == 1;
    let daemon = [("HOST", docker.get_host()), ("CONTEXT", docker.get_context())]
        .into_iter()
        .find_map(|(name, value)| Some((name, value?)));

    let mut assignments: Vec<Vec<u8>> = Vec::new();
    if docker.get_path().next().is_some() {
        let mut path = b"PATH=".to_vec();
        for directory in docker.get_path() {
            match directory.strip_prefix('~') {
                Some(rest) => {
                    path.extend_from_slice(b"\"$HOME\"");
                    if !rest.is_empty() {
                        escape(rest.as_bytes(), &mut path);
                    }
                }
                None => escape(directory.as_bytes(), &mut path),
            }
            path.push(b':');
        }
        path.extend_from_slice(b"\"$PATH\"");
        assignments.push(path);
    }
    if let Some((name, value)) = daemon.filter(|_| is_alone) {
        let mut assignment = format!("DOCKER_{name}=").into_bytes();
        escape(value.as_bytes(), &mut assignment);
        assignments.push(assignment);
    }

    let mut words: Vec<Vec<u8>> = Vec::new();
    if !assignments.is_empty() {
        words.push(b"env".to_vec());
        words.append(&mut assignments);
    }
    let option = daemon.filter(|_| !is_alone);
    let option = option.map(|(name, value)| format!("--{}={value}", name.to_lowercase()));
    for word in program.into_iter().chain(option.as_deref()) {
        let mut escaped = Vec::new();
        escape(word.as_bytes(), &mut escaped);
        words.push(escaped);
    }
    String::from_utf8(words.join(&b' ')).expect("what was escaped is text, and so is the rest")
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use rstest::rstest;

    use super::*;
    use crate::command::{Child, ExitStatus, Output, Pending, Request};

    /// Keeps the text that it was to run.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<String>>);

    impl Runner for Written {
        fn shared(&self) -> Arc<dyn Runner> {
            Arc::new(self.clone())
        }
        fn output(&self, request: Request) -> Pending<'_, Output> {
            *self.0.lock().expect("nobody panics") = request.text.into_string().expect("text");
            let output = Output { status: ExitStatus::exited(0), stdout: vec![], stderr: vec![] };
            Box::pin(async { Ok(output) })
        }
        fn status(&self, _: Request) -> Pending<'_, ExitStatus> {
            unreachable!("nobody asks for it")
        }
        fn spawn(&self, _: Request) -> Pending<'_, Child> {
            unreachable!("nobody asks for it")
        }
        fn lease(&self, _: &Host) -> Pending<'_, Arc<dyn Runner>> {
            unreachable!("nobody asks for it")
        }
    }

    fn of(words: &[&str]) -> DockerConfig {
        DockerConfig::new().program(words.iter().copied()).expect("it is right")
    }

    #[rstest]
    #[case::plain(DockerConfig::new(), "docker compose ls")]
    #[case::program(of(&["/opt/my tools/docker"]), "'/opt/my tools/docker' compose ls")]
    #[case::sudo(of(&["sudo", "-n", "docker"]), "sudo -n docker compose ls")]
    #[case::host(
        of(&["podman"]).host("unix:///run/a;b").expect("it is right"),
        "env DOCKER_HOST='unix:///run/a;b' podman compose ls"
    )]
    #[case::context(
        DockerConfig::new().context("far").expect("it is right"),
        "env DOCKER_CONTEXT=far docker compose ls"
    )]
    #[case::sudo_host(
        of(&["sudo", "docker"]).host("tcp://h:1").expect("it is right"),
        "sudo docker '--host=tcp://h:1' compose ls"
    )]
    #[case::path(
        DockerConfig::new().path(["/snap/bin", "~/bin", "~", "/$(reboot)"]).expect("it is right"),
        "env PATH=/snap/bin:\"$HOME\"/bin:\"$HOME\":'/$(reboot)':\"$PATH\" docker compose ls"
    )]
    #[case::all(
        of(&["sudo", "docker"]).path(["/a b"]).and_then(|c| c.context("c")).expect("it is right"),
        "env PATH='/a b':\"$PATH\" sudo docker '--context=c' compose ls"
    )]
    #[tokio::test]
    async fn g2_a_shell_gets_these_words(#[case] docker: DockerConfig, #[case] expected: &str) {
        let (written, host) = (Written::default(), Host::new("web1").expect("a name"));
        let command = client(&written, &host, &docker).args(["compose", "ls"]);
        command.output().await.expect("it is written");
        assert_eq!(*written.0.lock().expect("nobody panics"), expected);
    }
}
