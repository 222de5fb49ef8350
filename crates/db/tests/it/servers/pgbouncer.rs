//! PgBouncer in transaction mode, one process in front of each server of a cluster.

use std::{
    fs,
    net::TcpStream,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use super::{find, free_port, is_root, output, postgres::Postgres, signal};

/// The poolers of one cluster; they end with it.
pub(crate) struct PgBouncer {
    _folder: tempfile::TempDir,
    poolers: Vec<(u16, Child)>,
}

impl PgBouncer {
    /// None where PgBouncer is not installed. Each pooler keeps `size` connections to its server.
    pub(crate) fn start(cluster: &Postgres, size: u32) -> Option<Self> {
        let program = find("pgbouncer", &["/usr/sbin"])?;
        let folder = super::folder("pgbouncer");
        if is_root() {
            output(Command::new("chown").arg("postgres").arg(folder.path()));
        }
        let mut poolers = Vec::new();
        for server in &cluster.servers {
            let port = free_port();
            let file = folder.path().join(format!("{port}.ini"));
            let settings = format!(
                "[databases]\n* = host=127.0.0.1 port={} user=postgres\n[pgbouncer]\n\
                 listen_addr=127.0.0.1\nlisten_port={port}\nunix_socket_dir=\nauth_type=any\n\
                 pool_mode=transaction\ndefault_pool_size={size}\nmax_client_conn=200\n\
                 server_round_robin=1\nlog_connections=0\nlog_disconnections=0\n",
                server.port,
            );
            fs::write(&file, settings).unwrap();
            let mut command = if is_root() {
                let mut command = Command::new("runuser");
                command.args(["-u", "postgres", "--"]).arg(&program);
                command
            } else {
                Command::new(&program)
            };
            let quiet = command.arg(&file).stdin(Stdio::null()).stdout(Stdio::null());
            poolers.push((port, quiet.stderr(Stdio::null()).spawn().unwrap()));
            let start = Instant::now();
            while TcpStream::connect(("127.0.0.1", port)).is_err() {
                assert!(start.elapsed() < Duration::from_secs(60), "PgBouncer does not answer");
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        Some(Self { _folder: folder, poolers })
    }

    pub(crate) fn url(&self, options: &str) -> String {
        let hosts: Vec<_> = self.poolers.iter().map(|(p, _)| format!("127.0.0.1:{p}")).collect();
        format!("postgres://postgres@{}/site{options}", hosts.join(","))
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        for (_, process) in &mut self.poolers {
            // Who runs it for another user hands the signal on only if it can be caught.
            signal(process.id(), "TERM");
            let _ = process.wait();
        }
    }
}
