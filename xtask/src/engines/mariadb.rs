//! MariaDB: a primary and a replica that follows it by GTID.

use std::{fs, path::Path};

use anyhow::Result;

use super::{
    Environment,
    place::{Place, User},
    probe,
};
use crate::shell;

pub(super) fn start(place: &Place) -> Result<Environment> {
    let user = User::system("mysql")?; // it refuses root
    let ports: [u16; 2] = probe::free_ports()?;
    let follow = format!(
        "CHANGE MASTER TO master_host='127.0.0.1', master_port={}, master_user='throng', \
         master_password='throng', master_use_gtid=slave_pos;\nSTART SLAVE;\n",
        ports[0]
    );
    let servers = [("primary", ""), ("replica_1", &follow)];
    for ((number, port), (name, more)) in (1..).zip(ports).zip(servers) {
        let folder = place.server(name, &user)?;
        boot(&user, &folder, number, port, more)?;
        probe::wait(&[port], answers)?;
    }
    let url = |port| format!("mysql://throng:throng@127.0.0.1:{port}/throng");
    Ok(vec![
        ("THRONG_TEST_MARIADB_URL".to_owned(), url(ports[0])),
        ("THRONG_TEST_MARIADB_REPLICA_1_URL".to_owned(), url(ports[1])),
    ])
}

/// A server greets first: a packet with number 0 and protocol version 10.
pub(super) fn answers(port: u16) -> bool {
    probe::greets(port, |start| start.len() > 4 && start[3..5] == [0, 10])
}

fn boot(user: &User, folder: &Path, number: u32, port: u16, more: &str) -> Result<()> {
    let data = folder.join("data");
    let mut install = user.command("mariadb-install-db", folder);
    install.args(["--no-defaults", "--skip-test-db", "--auth-root-authentication-method=normal"]);
    shell::run_quietly(install.arg(format!("--datadir={}", data.display())))?;
    let init = folder.join("init.sql");
    fs::write(&init, format!("{INIT}{more}"))?;

    let mut mariadbd = user.command("mariadbd", folder);
    mariadbd.args(["--no-defaults", "--bind-address=127.0.0.1", "--socket=server.sock"]);
    mariadbd.args(["--log-bin=binlog", "--log-slave-updates", "--gtid-strict-mode=1"]);
    mariadbd.args(["--innodb-flush-log-at-trx-commit=2", "--innodb-buffer-pool-size=64M"]);
    mariadbd.arg(format!("--server-id={number}")).arg(format!("--port={port}"));
    mariadbd.arg(format!("--read-only={}", u8::from(number > 1)));
    mariadbd.arg(format!("--datadir={}", data.display()));
    mariadbd.arg(format!("--pid-file={}", folder.join("pid").display()));
    mariadbd.arg(format!("--init-file={}", init.display()));
    user.start(&mut mariadbd, folder)
}

/// Run at each start of each server, and so outside the binary log: a replica has it of its own.
const INIT: &str = "
SET sql_log_bin = 0;
CREATE DATABASE IF NOT EXISTS throng CHARACTER SET utf8mb4;
CREATE USER IF NOT EXISTS throng@'%' IDENTIFIED BY 'throng';
CREATE USER IF NOT EXISTS throng@localhost IDENTIFIED BY 'throng';
GRANT ALL ON *.* TO throng@'%' WITH GRANT OPTION;
GRANT ALL ON *.* TO throng@localhost WITH GRANT OPTION;
";
