//! A PostgreSQL primary with streaming replicas.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{children, find, folder, free_port, is_root, output, signal};

/// A primary and its replicas; they end with it.
pub(crate) struct Postgres {
    bin: PathBuf,
    folder: tempfile::TempDir,
    pub(crate) servers: Vec<Server>,
}

pub(crate) struct Server {
    pub(crate) port: u16,
    data: PathBuf,
}

impl Postgres {
    /// None where PostgreSQL is not installed.
    pub(crate) fn start(replicas: usize) -> Option<Self> {
        // Set by `cargo xtask test`, which installs what is missing.
        let told = std::env::var("THRONG_TEST_POSTGRES_BIN").unwrap_or_default();
        let versions = ["18", "17", "16", "15", "14"];
        let usual = versions.map(|v| format!("/usr/lib/postgresql/{v}/bin"));
        let folders: Vec<&str> = std::iter::once(&told).chain(&usual).map(String::as_str).collect();
        let bin = find("initdb", &folders)?.parent()?.to_owned();
        let folder = folder("pg");
        if is_root() {
            output(Command::new("chown").arg("postgres").arg(folder.path()));
        }
        let mut cluster = Self { bin, folder, servers: Vec::new() };
        cluster.start_primary();
        for _ in 0..replicas {
            cluster.add_replica();
        }
        cluster.sql(0, "CREATE DATABASE site");
        Some(cluster)
    }

    pub(crate) fn url(&self, options: &str) -> String {
        format!("postgres://postgres@{}/site{options}", self.hosts())
    }

    /// All servers, as in a URL.
    pub(crate) fn hosts(&self) -> String {
        let hosts: Vec<_> = self.servers.iter().map(|s| format!("127.0.0.1:{}", s.port)).collect();
        hosts.join(",")
    }

    pub(crate) fn url_of(&self, servers: &[usize], options: &str) -> String {
        let host = |at: &usize| format!("127.0.0.1:{}", self.servers[*at].port);
        let hosts: Vec<_> = servers.iter().map(host).collect();
        format!("postgres://postgres@{}/site{options}", hosts.join(","))
    }

    /// Runs SQL through psql, so that a test's own connections are not involved.
    pub(crate) fn sql(&self, at: usize, sql: &str) -> String {
        let port = self.servers[at].port.to_string();
        let mut psql = Command::new(self.bin.join("psql"));
        psql.args(["-h", "127.0.0.1", "-p", &port, "-U", "postgres", "-d", "postgres", "-AtXq"]);
        output(psql.args(["-c", sql]))
    }

    /// Runs SQL in the site's database that may fail; gives what the server said.
    pub(crate) fn sql_in_site(&self, at: usize, sql: &str) -> String {
        let port = self.servers[at].port.to_string();
        let mut psql = Command::new(self.bin.join("psql"));
        psql.args(["-h", "127.0.0.1", "-p", &port, "-U", "postgres", "-d", "site", "-AtXq"]);
        let done = psql.args(["-c", sql]).output().unwrap();
        let text = [done.stdout, done.stderr].concat();
        String::from_utf8_lossy(&text).into_owned()
    }

    pub(crate) fn pause_replay(&self, at: usize) {
        self.sql(at, "SELECT pg_wal_replay_pause()");
    }

    pub(crate) fn resume_replay(&self, at: usize) {
        self.sql(at, "SELECT pg_wal_replay_resume()");
    }

    /// Cuts a replica off from its primary, or connects it again.
    pub(crate) fn connect_replica(&self, at: usize, is_connected: bool) {
        let port = if is_connected { self.servers[0].port } else { 1 };
        let info = format!("host=127.0.0.1 port={port} user=postgres application_name=r{at}");
        self.sql(at, &format!("ALTER SYSTEM SET primary_conninfo = '{info}'"));
        self.sql(at, "SELECT pg_reload_conf()");
    }

    pub(crate) fn set(&self, at: usize, name: &str, value: &str) {
        self.sql(at, &format!("ALTER SYSTEM SET {name} = '{value}'"));
        self.sql(at, "SELECT pg_reload_conf()");
    }

    pub(crate) fn promote(&self, at: usize) {
        self.sql(at, "SELECT pg_promote(true, 10)");
    }

    /// Kills the server and everything that it started, as a crash of the machine would: all of it
    /// at one moment. Without the stop, backends that outlive the postmaster by a millisecond give
    /// up waiting for the standbys, and show others a commit that nobody was promised.
    pub(crate) fn kill(&self, at: usize) {
        // Twice: the first list may lack what was started while it was made.
        self.freeze(at);
        self.freeze(at);
        let all = self.all(at);
        all.iter().for_each(|pid| signal_if_there(*pid, "KILL"));
        // A server that starts while a process of the old one lives would refuse to.
        while all.iter().any(|pid| is_alive(*pid)) {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// Starts a server that was killed.
    pub(crate) fn restart(&self, at: usize) {
        // What a crash leaves behind names a process that may not have been buried yet.
        let _ = fs::remove_file(self.servers[at].data.join("postmaster.pid"));
        let socket = self.folder.path().join(format!(".s.PGSQL.{}", self.servers[at].port));
        let _ = fs::remove_file(socket.with_extension(format!("{}.lock", self.servers[at].port)));
        let _ = fs::remove_file(socket);
        self.pg_ctl(at, &["-w", "start"]);
    }

    /// Keeps a copy of a replica as it is now, cut off from its primary.
    pub(crate) fn keep_copy(&self, at: usize) {
        self.connect_replica(at, false);
        self.kill(at);
        let data = &self.servers[at].data;
        output(Command::new("cp").arg("-a").arg(data).arg(data.with_extension("copy")));
        self.restart(at);
        self.connect_replica(at, true);
    }

    /// Kills a replica and starts the copy in its place: the same server, some time ago.
    pub(crate) fn go_back(&self, at: usize) {
        self.kill(at);
        let data = &self.servers[at].data;
        fs::remove_dir_all(data).unwrap();
        fs::rename(data.with_extension("copy"), data).unwrap();
        self.restart(at);
    }

    /// Stops every process of the server where it is, as a hung machine would.
    pub(crate) fn freeze(&self, at: usize) {
        self.all(at).into_iter().for_each(|pid| signal_if_there(pid, "STOP"));
    }

    pub(crate) fn thaw(&self, at: usize) {
        self.all(at).into_iter().for_each(|pid| signal_if_there(pid, "CONT"));
    }

    fn all(&self, at: usize) -> Vec<u32> {
        let pid = self.pid(at);
        let mut all = children(pid);
        all.insert(0, pid);
        all
    }

    fn pid(&self, at: usize) -> u32 {
        let file = fs::read_to_string(self.servers[at].data.join("postmaster.pid")).unwrap();
        file.lines().next().unwrap().parse().unwrap()
    }

    fn start_primary(&mut self) {
        let data = self.folder.path().join("primary");
        let mut initdb = self.command("initdb");
        initdb.arg("-D").arg(&data).args(["-U", "postgres", "-A", "trust", "--no-sync"]);
        output(initdb.args(["-E", "UTF8", "--locale=C"]));
        let port = free_port();
        let socket = self.folder.path().display();
        append(
            &data.join("postgresql.conf"),
            &format!(
                "port={port}\nlisten_addresses='127.0.0.1'\nunix_socket_directories='{socket}'\n\
                 wal_level=logical\nmax_wal_senders=20\nmax_replication_slots=20\n\
                 max_connections=200\nshared_buffers=64MB\nwal_keep_size=512MB\n\
                 wal_retrieve_retry_interval=100ms\nhot_standby_feedback=on\nfsync=off\n"
            ),
        );
        self.servers.push(Server { port, data });
        self.pg_ctl(0, &["-w", "start"]);
    }

    fn add_replica(&mut self) {
        let at = self.servers.len();
        let data = self.folder.path().join(format!("replica-{at}"));
        let from = self.servers[0].port;
        let mut backup = self.command("pg_basebackup");
        backup.args(["-h", "127.0.0.1", "-p", &from.to_string(), "-U", "postgres", "-X", "stream"]);
        backup.args(["-c", "fast", "--no-sync", "-R", "-D"]).arg(&data);
        let info = format!("host=127.0.0.1 port={from} user=postgres application_name=r{at}");
        output(backup.arg("-d").arg(info));
        let port = free_port();
        append(&data.join("postgresql.conf"), &format!("port={port}\n"));
        self.servers.push(Server { port, data });
        self.pg_ctl(at, &["-w", "start"]);
    }

    fn pg_ctl(&self, at: usize, what: &[&str]) {
        let data = &self.servers[at].data;
        let log = data.with_extension("log");
        let mut command = self.command("pg_ctl");
        command.arg("-D").arg(data).arg("-l").arg(log).args(what);
        // The server keeps its standard streams, so they must not be pipes that somebody reads.
        let status = command.stdin(std::process::Stdio::null());
        let status = status.stdout(std::process::Stdio::null()).status().unwrap();
        assert!(status.success(), "pg_ctl {what:?} of server {at}");
    }

    fn command(&self, program: &str) -> Command {
        let program = self.bin.join(program);
        if !is_root() {
            return Command::new(program);
        }
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(program).current_dir(self.folder.path());
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        for at in 0..self.servers.len() {
            if self.servers[at].data.join("postmaster.pid").exists() {
                self.thaw(at);
                let mut stop = self.command("pg_ctl");
                stop.arg("-D").arg(&self.servers[at].data).args(["-m", "immediate", "stop"]);
                let _ = stop.output();
            }
        }
    }
}

fn append(path: &Path, text: &str) {
    let old = fs::read_to_string(path).unwrap();
    fs::write(path, old + text).unwrap();
}

/// Whether a process is there and not only waits for its parent to notice its end.
fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
}

fn signal_if_there(pid: u32, name: &str) {
    if Path::new(&format!("/proc/{pid}")).exists() {
        let _ = std::panic::catch_unwind(|| signal(pid, name));
    }
}
