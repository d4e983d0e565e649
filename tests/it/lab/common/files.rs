//! The files of one server and of its clients: keys, configuration, log.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use super::process;
use super::sshd::Builder;

/// `client` has what clients use, `server` what the server uses, and a container is given nothing
/// but that.
pub(super) struct Files {
    /// Only its owner may enter it, so what is in it can be open to the accounts of a container.
    dir: TempDir,
    /// How the server itself names its directory.
    seen_as: PathBuf,
    /// Lines of sshd_config, before those that all servers have.
    options: String,
    host_key_types: Vec<String>,
    /// Arguments of Dropbear, when the server is that.
    dropbear: Option<Vec<String>>,
}

impl Files {
    /// Makes the directories and the key that logs in. `mount` is where a container has the
    /// server's directory; `mark` is a variable for the environment of all remote commands.
    pub(super) fn create(mount: Option<&Path>, mark: &str, builder: Builder) -> Files {
        let dir = tempfile::Builder::new()
            .prefix("sshpool-sshd-")
            .tempdir()
            .expect("a temporary directory can be made");
        let seen_as = mount.map_or_else(|| dir.path().join("server"), Path::to_owned);
        let set_env = match mount {
            Some(_) => format!("SetEnv {mark}{}\n", builder.env),
            None => format!(
                "SetEnv {mark} \"HOME={}\"{}\n",
                seen_as.join("home").display(),
                builder.env
            ),
        };
        let options = builder.options + &set_env;
        let (host_key_types, dropbear) = (builder.host_key_types, builder.dropbear);
        let files = Files { dir, seen_as, options, host_key_types, dropbear };
        for dir in [files.client(""), files.server(""), files.home()] {
            fs::create_dir(dir).expect("a directory can be made in a new directory");
        }

        keygen("ed25519", &files.client("id"));
        fs::copy(files.client("id.pub"), files.server("authorized_keys"))
            .expect("a file can be copied");
        // Made here, because sshd would make it readable for its own user alone, who is another one
        // in a container.
        fs::write(files.server("log"), "").expect("a file can be made");
        for (name, mode) in [("", 0o755), ("authorized_keys", 0o644), ("log", 0o666)] {
            let mode = Permissions::from_mode(mode);
            fs::set_permissions(files.server(name), mode)
                .expect("one's own file can be opened to others");
        }
        files.make_host_keys();
        files
    }

    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(super) fn client(&self, name: &str) -> PathBuf {
        self.dir.path().join("client").join(name)
    }

    pub(super) fn server(&self, name: &str) -> PathBuf {
        self.dir.path().join("server").join(name)
    }

    /// What a plain process has for a home, so that no start-up file of the user has a part in a
    /// test: theirs may be slow, may print, and are not made for being killed half-way.
    pub(super) fn home(&self) -> PathBuf {
        self.server("home")
    }

    /// Makes host keys in place of those that may be there.
    pub(super) fn make_host_keys(&self) {
        for kind in &self.host_key_types {
            let path = self.server(&format!("host_{kind}"));
            // ssh-keygen would ask before it replaces a key.
            let _ = fs::remove_file(&path);
            keygen(kind, &path);
        }
    }

    /// Writes the server's configuration, ssh_config and known_hosts for a port and an account.
    pub(super) fn configure(&self, port: u16, user: &str) {
        match &self.dropbear {
            None => write(&self.server("sshd_config"), &self.sshd_config(port)),
            Some(arguments) => {
                let arguments =
                    [&["-p".to_owned(), format!("127.0.0.1:{port}")], arguments.as_slice()]
                        .concat();
                write(&self.server("dropbear_arguments"), &(arguments.join("\n") + "\n"));
            }
        }
        write(&self.client("ssh_config"), &self.ssh_config(port, user));
        let known = |kind: &String| {
            let key = fs::read_to_string(self.server(&format!("host_{kind}.pub")))
                .expect("the key was made");
            format!("[127.0.0.1]:{port} {}\n", key.trim())
        };
        write(
            &self.client("known_hosts"),
            &self.host_key_types.iter().map(known).collect::<String>(),
        );
    }

    fn sshd_config(&self, port: u16) -> String {
        let seen = |name: &str| format!("\"{}\"", self.seen_as.join(name).display());
        let host_key = |kind: &String| format!("HostKey {}\n", seen(&format!("host_{kind}")));
        let host_keys: String = self.host_key_types.iter().map(host_key).collect();
        let (options, keys, pid_file) = (&self.options, seen("authorized_keys"), seen("sshd.pid"));
        // A port that the server chooses for a -R is free by IPv6 first, and may be the port of
        // somebody else by IPv4.
        format!(
            "{options}\
             {host_keys}\
             ListenAddress 127.0.0.1:{port}\n\
             AddressFamily inet\n\
             AuthorizedKeysFile {keys}\n\
             PidFile {pid_file}\n\
             LogLevel VERBOSE\n\
             UsePAM no\n\
             StrictModes no\n\
             PasswordAuthentication no\n\
             KbdInteractiveAuthentication no\n\
             PermitRootLogin yes\n\
             PermitUserRC no\n\
             PrintMotd no\n\
             PrintLastLog no\n\
             AcceptEnv LANG LC_*\n\
             Subsystem sftp internal-sftp\n"
        )
    }

    fn ssh_config(&self, port: u16, user: &str) -> String {
        let (identity, known_hosts) = (self.client("id"), self.client("known_hosts"));
        let (identity, known_hosts) = (identity.display(), known_hosts.display());
        format!(
            "Host lab\n    \
                 HostName 127.0.0.1\n    \
                 Port {port}\n    \
                 User {user}\n    \
                 IdentityFile \"{identity}\"\n    \
                 IdentitiesOnly yes\n    \
                 UserKnownHostsFile \"{known_hosts}\"\n    \
                 GlobalKnownHostsFile /dev/null\n    \
                 StrictHostKeyChecking accept-new\n"
        )
    }
}

fn write(path: &Path, text: &str) {
    fs::write(path, text)
        .unwrap_or_else(|error| panic!("{} cannot be written: {error}", path.display()));
}

fn keygen(kind: &str, path: &Path) {
    let mut command = process::command("ssh-keygen");
    command.args(["-q", "-N", "", "-C", "", "-t", kind, "-f"]).arg(path);
    let made = process::run(&mut command, Duration::from_secs(30));
    assert!(made.status.success(), "{command:?} failed: {}", made.last_words());
}
