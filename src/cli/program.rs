//! The command line: options and subcommands.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::commands::{
    agent, close, completions, cp, docker, doctor, exec, forward, man, ssh, status, warm,
};
use super::{bench, compose, resources, run};

/// Keeps authenticated OpenSSH connections open and runs commands over them.
#[derive(Debug, Parser)]
#[command(name = "sshpool", version, max_term_width = 100)]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) global: Global,

    #[command(subcommand)]
    pub(super) command: Command,
}

// The options of every subcommand. (A documentation comment would take the place of Cli's.)
#[derive(Debug, Args)]
pub(super) struct Global {
    /// Use this ssh_config instead of the user's and the system's
    #[arg(short = 'F', value_name = "FILE", global = true)]
    pub(super) ssh_config: Option<PathBuf>,

    /// Read settings and hosts from this TOML file [default: sshpool/config.toml in the user's
    /// configuration directory]
    #[arg(long, value_name = "FILE", global = true)]
    pub(super) config: Option<PathBuf>,

    /// Write a log to stderr; twice for details
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub(super) verbose: u8,

    /// Keep no connection for the next command: do without the agent
    #[arg(long, global = true)]
    pub(super) no_agent: bool,
}

impl Cli {
    /// The command line of this subcommand alone, where it is one that is called often: all of them
    /// together take longer to describe than a command takes on its host.
    pub(super) fn with_only(name: &str) -> Option<clap::Command> {
        let subcommand = match name {
            "exec" => exec::Exec::augment_args(clap::Command::new("exec")),
            "run" => run::Run::augment_args(clap::Command::new("run")),
            "cp" => cp::Cp::augment_args(clap::Command::new("cp")),
            "ssh" => ssh::Ssh::augment_args(clap::Command::new("ssh")),
            _ => return None,
        };
        Some(Global::augment_args(clap::Command::new("sshpool")).subcommand(subcommand))
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run a command on a host
    ///
    /// The words are joined by spaces and given to the remote shell, as ssh does. There is no
    /// terminal. The exit status is the command's own; 124 when it timed out; 255 when it could not
    /// be run, a signal killed it, its connection was lost or it wrote more than --max-output; 141
    /// when whoever read the output has gone away; 2 for wrong usage or configuration. After SIGINT
    /// and SIGTERM the connection is closed, and then this program ends as by that signal.
    Exec(exec::Exec),
    /// Run a command on many hosts
    ///
    /// The words are joined by spaces and given to the remote shells, as ssh does. There is no
    /// terminal. Each line comes with its host before it, as soon as it is there. What failed is
    /// summed up at the end. The first Ctrl-C shows what is still running, the second one ends it,
    /// here and there.
    #[command(override_usage = run::USAGE, after_help = run::HELP)]
    Run(run::Run),
    /// Copy files and directories to hosts, and from them
    ///
    /// What is on this machine is read once, for however many hosts. A name has its old contents or
    /// all of the new ones: they are written under a temporary name beside it and renamed. The exit
    /// status is 1 when some file could not be copied, 255 when some host could not be reached or
    /// was lost, 124 when a host took too long, 2 for wrong usage or configuration.
    #[command(after_help = cp::HELP)]
    Cp(cp::Cp),
    /// Forward ports and Unix sockets, and keep them where they are
    ///
    /// Takes -L, -R and -D as ssh does. What listens here is there before the first login, connects
    /// when a client comes, and stays while a connection is replaced. A client whose connection is
    /// lost is reset: what it has read does not look complete. Each thing that happens is a line on
    /// stdout. The exit status is 255 when something could not be forwarded; it runs until a
    /// signal.
    Forward(forward::Forward),
    /// Run the local docker over a host's engine
    ///
    /// Any command of Docker's works: docker runs here, with DOCKER_HOST at a socket that leads to
    /// the engine of the host over the pool's connection. The exit status is docker's own; 255
    /// when the engine cannot be reached.
    Docker(docker::Docker),
    /// Print the DOCKER_HOST of a host's engine, for any client of Docker
    ///
    /// The agent keeps a socket that leads to the engine, always at the same path, until
    /// `sshpool forward rm` or the agent's own end: then this is to be run again.
    DockerEnv(docker::DockerEnv),
    /// Look at Docker Compose projects on hosts, and change them
    ///
    /// Runs `docker compose` there. The exit status is its own; 255 when it could not be run, and
    /// for ls and ps when some host did not answer.
    Compose(compose::Compose),
    /// Show CPU, memory and disks of hosts
    ///
    /// The exit status is 255 when some host did not answer, 124 when the worst was a timeout.
    Resources(resources::Resources),
    /// Connect to hosts now, so that the next commands find a connection
    ///
    /// On a terminal it asks what ssh asks: passwords, one-time codes, passphrases, unknown host
    /// keys. Afterwards nothing is asked until the connection ends. The exit status is 255 when
    /// some host could not be connected to.
    Warm(warm::Warm),
    /// Show the connections that the agent keeps
    Status(status::Status),
    /// Close connections
    ///
    /// Commands that run on them have 5 seconds to finish.
    Close(close::Close),
    /// Print the agent's statistics as Prometheus reads them
    Metrics,
    /// Run the agent in the foreground, or stop it
    ///
    /// The agent is one background process of a user that keeps the connections of all commands.
    /// The first command that needs it starts it, and it ends when it has had no client and no
    /// connection for its idle time. Programs in any language can use it by HTTP over its Unix
    /// socket.
    Agent(agent::Agent),
    /// Be ssh, over a connection of the agent
    ///
    /// Takes what ssh takes and does what ssh does, with a terminal where ssh has one; the options
    /// of this program stand before the word ssh. What cannot go over a shared connection, such as
    /// X11, is left to plain ssh. So is everything where there is no agent, where a
    /// password has to be asked, and where the agent cannot connect; -v says so. A link of the name
    /// ssh to this program does the same, for programs that take a path.
    #[command(disable_help_flag = true, override_usage = ssh::USAGE, after_help = ssh::HELP)]
    Ssh(ssh::Ssh),
    /// Measure a command through the pool against plain ssh
    ///
    /// The command is `true`, which does nothing. It is run by plain ssh with a login each time, by
    /// the pool, and by a pool that opens no session ahead of need (standby_sessions = 0), in
    /// turns: with a pause before each command, and by the pools also tight, one directly after
    /// another. With many logins at once a real server may drop some (MaxStartups) or ban this
    /// machine (fail2ban). The exit status is 1 when some run failed, 255 when no login was
    /// possible, 2 for wrong usage.
    Bench(bench::Bench),
    /// Find out what is wrong with a host, or that nothing is
    ///
    /// Looks at ssh, its configuration for this host, keys, agent and known hosts, logs in once as
    /// any command does, with the time of each step, and sees what the account and the server are
    /// like. It says what is wrong, why, and what to do about it. Nothing secret is shown. The exit
    /// status is 0 when commands can run, 255 when not, 124 when that is because the time ran out
    /// (connect_timeout), 2 for wrong usage or configuration.
    Doctor(doctor::Doctor),
    /// Print a script that completes command lines, for bash, zsh or fish
    ///
    /// It completes subcommands, options, files, and hosts and groups from the TOML file and the
    /// ssh_config.
    Completions(completions::Completions),
    /// Print or write the man pages
    Man(man::Man),
}
