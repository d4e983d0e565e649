//! What docs/files.md shows is what happens: its console blocks are run, and its Rust block is a
//! part of this file.

use sshpool::{Host, Pool};

use crate::lab::agents::Home;
use crate::lab::common::process::{path_with_sshpool, run};
use crate::lab::common::sshd::Sshd;
use crate::lab::documents::{blocks, matches};
use crate::lab::pooled::{self, PATIENCE, config, pool};

const GUIDE: &str = include_str!("../../docs/files.md");

#[test]
fn the_console_blocks_print_what_they_say() {
    let (sshd, home) = (Sshd::builder().max_startups("100").start(), Home::new());
    let directory = tempfile::tempdir().expect("a directory");
    let config = std::fs::read_to_string(sshd.ssh_config()).expect("the fixture has one");
    let config = format!("Host db1\n    Port 1\n{}", config.replace("Host lab", "Host *"));
    let ssh_config = directory.path().join("ssh_config");
    std::fs::write(&ssh_config, config).expect("a file");
    let is_root = sshd.exec("id -u").stdout == "0\n";
    let mut steps: Vec<(&str, String)> = Vec::new();
    for line in blocks(GUIDE, "console").into_iter().flat_map(str::lines) {
        match line.strip_prefix("$ ") {
            Some(line) => steps.push((line, String::new())),
            None => steps.last_mut().expect("it begins with a command").1 += &format!("{line}\n"),
        }
    }
    assert!(steps.len() > 10);
    for (line, expected) in steps {
        if is_root && line.contains("/etc/shadow") {
            continue;
        }
        let mut shell = pooled::command("sh");
        // The function stands for an alias of whoever reads it.
        let text = format!("sshpool() {{ command sshpool -F \"$CONFIG\" \"$@\"; }}; {line}");
        shell.args(["-c", &text]).current_dir(directory.path());
        let mut shell = home.in_its_place(shell, [""; 0]);
        shell.env("PATH", path_with_sshpool()).env("CONFIG", &ssh_config);
        let ended = run(&mut shell, PATIENCE);
        let shown = format!("{}{}", ended.stdout, ended.stderr);
        assert!(matches(&expected, &shown), "{line}\n{expected}\n{shown}");
    }
}

type Ends = Result<(), Box<dyn std::error::Error>>;

async fn shown(pool: Pool, web1: Host) -> Ends {
    use sshpool::files::{self, Options};

    files::write(&pool, &web1, "files/token", "secret\n", &Options::new().mode(0o600)).await?;
    assert_eq!(files::read(&pool, &web1, "files/token").await?, b"secret\n");
    let options = Options::new().recursive(true);
    files::upload(&pool, &web1, "site", "files/site", &options).await?;
    files::download(&pool, &web1, "files/site", "copy", &options).await?;
    Ok(())
}

/// As far as the paths, which belong to a directory that this process is not in.
#[tokio::test]
async fn the_rust_block_is_this_function_and_works() {
    let own = include_str!("files_docs.rs");
    for block in blocks(GUIDE, "rust") {
        let indented: String = block
            .lines()
            .map(|line| if line.is_empty() { "\n".to_owned() } else { format!("    {line}\n") })
            .collect();
        assert!(own.contains(&indented), "{block}");
    }
    let sshd = Sshd::builder().start();
    assert_eq!(sshd.exec("mkdir files").code(), 0);
    let failed = shown(pool(config()), pooled::host(&sshd)).await.expect_err("there is no site");
    assert_eq!(failed.to_string(), "site: No such file or directory");
    assert_eq!(sshd.exec("stat -c %a files/token && cat files/token").stdout, "600\nsecret\n");
}
