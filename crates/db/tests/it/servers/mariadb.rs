//! A MariaDB primary with replicas by GTID.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use super::{find, folder, free_port, is_root, output, signal};

/// A primary and its replicas; they end with it.
pub(crate) struct MariaDb {
    folder: tempfile::TempDir,
    pub(crate) servers: Vec<Server>,
}

pub(crate) struct Server {
    pub(crate) port: u16,
    process: Child,
}

impl MariaDb {
    /// None where MariaDB is not installed. `cargo xtask test` installs it, because it finds the
    /// name `THRONG_TEST_MARIADB_URL` here; the cluster is the test's own all the same.
    pub(crate) fn start(replicas: usize) -> Option<Self> {
        find("mariadbd", &["/usr/sbin"])?;
        let mut cluster = Self { folder: folder("maria"), servers: Vec::new() };
        for _ in 0..=replicas {
            cluster.add();
        }
        let user = "CREATE DATABASE site; CREATE USER site@'127.0.0.1' IDENTIFIED BY 'secret'; \
                    GRANT ALL ON *.* TO site@'127.0.0.1'";
        cluster.sql(0, user);
        let primary = cluster.servers[0].port;
        for at in 1..=replicas {
            cluster.sql(
                at,
                &format!(
                    "CHANGE MASTER TO master_host='127.0.0.1', master_port={primary}, \
                     master_user='site', master_password='secret', master_use_gtid=slave_pos, \
                     master_connect_retry=1; START SLAVE"
                ),
            );
            let joined = || cluster.sql(at, "SHOW DATABASES LIKE 'site'").contains("site");
            wait_until("a replica has joined", joined);
            cluster.sql(at, "SET GLOBAL read_only = 1");
        }
        Some(cluster)
    }

    pub(crate) fn url(&self, options: &str) -> String {
        format!("mariadb://site:secret@{}/site{options}", self.hosts())
    }

    /// All servers, as in a URL.
    pub(crate) fn hosts(&self) -> String {
        let hosts: Vec<_> = self.servers.iter().map(|s| format!("127.0.0.1:{}", s.port)).collect();
        hosts.join(",")
    }

    /// Runs SQL through the client, so that a test's own connections are not involved.
    pub(crate) fn sql(&self, at: usize, sql: &str) -> String {
        let socket = self.socket(at);
        let mut client = Command::new("mariadb");
        client.arg("--no-defaults").arg("-S").arg(socket).args(["-u", "root", "-BN", "-e", sql]);
        output(&mut client)
    }

    /// Kills a server, as a crash of the machine would.
    pub(crate) fn kill(&mut self, at: usize) {
        signal(self.servers[at].process.id(), "KILL");
        let _ = self.servers[at].process.wait();
    }

    /// Starts a server that was killed, with what it had.
    #[allow(dead_code, reason = "the queue's tests ask for it, the database's do not")]
    pub(crate) fn restart(&mut self, at: usize) {
        self.servers[at].process = self.spawn(at, self.servers[at].port);
        self.wait(at);
    }

    pub(crate) fn pause_replay(&self, at: usize) {
        self.sql(at, "STOP SLAVE SQL_THREAD");
    }

    pub(crate) fn resume_replay(&self, at: usize) {
        self.sql(at, "START SLAVE SQL_THREAD");
    }

    fn add(&mut self) {
        let at = self.servers.len();
        let data = self.folder.path().join(format!("s{at}"));
        let mut install = Command::new("mariadb-install-db");
        install.args([
            "--no-defaults",
            "--skip-test-db",
            "--auth-root-authentication-method=normal",
        ]);
        install.arg(format!("--datadir={}", data.display()));
        if is_root() {
            install.arg("--user=root");
        }
        // Two that run at once would take each other's temporary tables.
        output(install.env("TMPDIR", self.folder.path()));
        let port = free_port();
        let process = self.spawn(at, port);
        self.servers.push(Server { port, process });
        self.wait(at);
    }

    fn spawn(&self, at: usize, port: u16) -> Child {
        let data = self.folder.path().join(format!("s{at}"));
        let mut server = Command::new(find("mariadbd", &["/usr/sbin"]).unwrap());
        server.arg("--no-defaults").arg(format!("--datadir={}", data.display()));
        server.arg(format!("--socket={}", self.socket(at).display()));
        server.args([format!("--port={port}"), format!("--server-id={}", at + 1)]);
        server.args(["--bind-address=127.0.0.1", "--log-bin=log", "--log-slave-updates"]);
        server.args([
            "--gtid-strict-mode=1",
            "--innodb-buffer-pool-size=32M",
            "--skip-name-resolve",
        ]);
        server.args(["--innodb-flush-log-at-trx-commit=2", "--slave-net-timeout=5"]);
        if is_root() {
            server.arg("--user=root");
        }
        let quiet = server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        quiet.spawn().unwrap()
    }

    fn wait(&self, at: usize) {
        let socket = self.socket(at);
        wait_until("a server answers", || {
            let mut ping = Command::new("mariadb-admin");
            ping.arg("--no-defaults").arg("-S").arg(&socket).args(["-u", "root", "ping"]);
            ping.output().is_ok_and(|done| done.status.success())
        });
    }

    fn socket(&self, at: usize) -> PathBuf {
        self.folder.path().join(format!("s{at}.sock"))
    }
}

impl Drop for MariaDb {
    fn drop(&mut self) {
        for server in &mut self.servers {
            if matches!(server.process.try_wait(), Ok(None)) {
                signal(server.process.id(), "KILL");
                let _ = server.process.wait();
            }
        }
    }
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(60), "waiting until {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
