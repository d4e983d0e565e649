//! What docs/sudo.md shows is what happens: its console blocks are run, and its Rust block is a
//! part of this file.

use sshpool::{Host, Pool};

use crate::lab::agents::Home;
use crate::lab::common::process::{path_with_sshpool, run};
use crate::lab::common::sshd::Sshd;
use crate::lab::documents::{blocks, matches};
use crate::lab::pooled::{self, PATIENCE, config, pool};
use crate::sudo::{ALL, PASSWORD, server};

const GUIDE: &str = include_str!("../../docs/sudo.md");

/// The names of the guide, which mean this server.
fn names(sshd: &Sshd, home: &Home) -> std::path::PathBuf {
    let config = std::fs::read_to_string(sshd.ssh_config()).expect("the fixture has one");
    let path = home.path().join("ssh_config");
    std::fs::write(&path, config.replace("Host lab", "Host *")).expect("a file");
    path
}

#[test]
fn the_console_blocks_print_what_they_say() {
    let Some(sshd) = server("/bin/bash", ALL) else { return };
    let home = Home::new();
    let ssh_config = names(&sshd, &home);
    let says = |word: &str| format!("[sudo]\npassword_command = [\"echo\", {word:?}]\n");
    home.config(&says(PASSWORD));
    std::fs::write(home.path().join("work").join("wrong.toml"), says("no")).expect("a file");
    std::fs::write(home.path().join("work").join("none.toml"), "").expect("a file");
    let mut steps: Vec<(String, String)> = Vec::new();
    for line in blocks(GUIDE, "console").into_iter().flat_map(str::lines) {
        match line.strip_prefix("$ ") {
            // Of the command before it.
            Some("echo $?") => steps.last_mut().expect("there is one").0 += "; echo $?",
            Some(line) => steps.push((line.to_owned(), String::new())),
            None => steps.last_mut().expect("it begins with a command").1 += &format!("{line}\n"),
        }
    }
    assert!(steps.len() > 7);
    for (line, expected) in steps {
        let mut shell = pooled::command("sh");
        // The function stands for an alias of whoever reads it.
        let text =
            format!("sshpool() {{ command sshpool -F \"$CONFIG\" \"$@\"; }}; {{ {line}; }} 2>&1");
        shell.args(["-c", &text]);
        let mut shell = home.in_its_place(shell, [""; 0]);
        shell.env("PATH", path_with_sshpool()).env("CONFIG", &ssh_config);
        let ended = run(&mut shell, PATIENCE);
        assert!(matches(&expected, &ended.stdout), "{line}\n{expected}\n{}", ended.stdout);
    }
}

type Ends = Result<(), Box<dyn std::error::Error>>;

async fn shown(pool: Pool, web1: Host, secret: &str) -> Ends {
    use sshpool::{Password, Sudo};

    let sudo = Sudo::new().password(Password::new(secret)?);
    let log = pool.command(&web1, "tail").args(["-n", "1", "/root/sorted"]);
    assert_eq!(log.sudo(&sudo).output().await?.stdout, b"two\n");

    // Everything that is made of commands works over a runner that is another user's.
    let root = sudo.over(&pool);
    assert_eq!(sshpool::files::read(&*root, &web1, "/root/sorted").await?, b"one\ntwo\n");

    // One sudo for all that it runs in a row.
    let root = sudo.reuse(true).over(&pool);
    for user in ["root", "lab"] {
        let account = root.command(&web1, "getent").args(["shadow", user]).output().await?;
        assert!(account.status.success());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rust_block_does_what_it_says() {
    let block = blocks(GUIDE, "rust")[0];
    let own = include_str!("sudo_docs.rs");
    let lines = |text: &str| {
        text.lines().map(str::trim).filter(|l| !l.is_empty()).collect::<Vec<_>>().join("\n")
    };
    assert!(lines(own).contains(&lines(block)), "{block}");
    let Some(sshd) = server("/bin/bash", ALL) else { return };
    sshd.as_root("printf 'one\\ntwo\\n' >/root/sorted");
    let pool = pool(config());
    shown(pool.clone(), pooled::host(&sshd), PASSWORD).await.expect("it works");
    pool.close().await;
}
