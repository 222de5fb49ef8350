//! PostgreSQL: a primary and two replicas that stream from it.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::{
    Environment,
    place::{Place, User},
    probe,
};
use crate::shell;

pub(super) fn start(place: &Place) -> Result<Environment> {
    let programs = programs().context("cannot find PostgreSQL's initdb")?;
    let user = User::system("postgres")?; // it refuses root
    let ports: [u16; 3] = probe::free_ports()?;

    let primary = place.server("primary", &user)?;
    let mut initdb = user.command(programs.join("initdb"), place.folder());
    initdb.args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8"]);
    shell::run_quietly(initdb.arg("--no-sync").arg("-D").arg(&primary))?;
    configure(&primary, &format!("{CONFIG}port = {}\n", ports[0]))?;
    boot(&programs, &user, place, &primary)?;

    for (number, port) in (1..).zip(&ports[1..]) {
        let name = format!("replica_{number}");
        let replica = place.server(&name, &user)?;
        let mut copy = user.command(programs.join("pg_basebackup"), place.folder());
        copy.args(["-X", "stream", "-c", "fast", "--no-sync", "-R", "-C", "-S", &name, "-d"]);
        copy.arg(format!("host=127.0.0.1 port={} user=postgres application_name={name}", ports[0]));
        shell::run_quietly(copy.arg("-D").arg(&replica))?;
        configure(&replica, &format!("port = {port}\n"))?;
        boot(&programs, &user, place, &replica)?;
    }

    let url = |port| format!("postgres://postgres@127.0.0.1:{port}/postgres");
    Ok(vec![
        ("THRONG_TEST_POSTGRES_URL".to_owned(), url(ports[0])),
        ("THRONG_TEST_POSTGRES_REPLICA_1_URL".to_owned(), url(ports[1])),
        ("THRONG_TEST_POSTGRES_REPLICA_2_URL".to_owned(), url(ports[2])),
        // For tests that break servers, and so make clusters of their own.
        ("THRONG_TEST_POSTGRES_BIN".to_owned(), programs.display().to_string()),
    ])
}

/// A server answers an SSLRequest with one letter before it knows who asks.
pub(super) fn answers(port: u16) -> bool {
    probe::asks(port, b"\x00\x00\x00\x08\x04\xd2\x16\x2f", b"N")
}

fn boot(programs: &Path, user: &User, place: &Place, data: &Path) -> Result<()> {
    let mut pg_ctl = user.command(programs.join("pg_ctl"), place.folder());
    pg_ctl.args(["-w", "-t", "60", "-l"]).arg(data.with_extension("log"));
    shell::run_quietly(pg_ctl.arg("-D").arg(data).arg("start"))
}

fn configure(data: &Path, lines: &str) -> Result<()> {
    let path = data.join("postgresql.conf");
    let file = OpenOptions::new().append(true).open(&path);
    file.and_then(|mut file| file.write_all(lines.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// The newest version's programs, where Debian keeps them; else where `initdb` is on PATH.
pub(super) fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|version| Path::new(&bin(*version)).join("initdb").exists())
        .max();
    let on_path = || Some(shell::which("initdb")?.parent()?.to_owned());
    newest.map(|version| bin(version).into()).or_else(on_path)
}

fn bin(version: u32) -> String {
    format!("/usr/lib/postgresql/{version}/bin")
}

/// Logical replication is on because moving buckets needs it; the replicas inherit all of it.
const CONFIG: &str = "
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
wal_level = logical
max_wal_senders = 20
max_replication_slots = 20
max_connections = 200
shared_buffers = 64MB
wal_keep_size = 512MB
";
