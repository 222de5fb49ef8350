//! RabbitMQ: two nodes that know nothing of each other, as a producer with two brokers needs.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};

use super::{
    Environment,
    place::{Place, User},
    probe,
};

pub(super) fn start(place: &Place) -> Result<Environment> {
    let server = server().context("cannot find rabbitmq-server")?;
    let user = User::ourselves();
    let [names, first, second, first_link, second_link] = probe::free_ports()?;

    // Erlang would start its name server by itself, as a daemon that nobody finds to stop.
    let folder = place.server("epmd", &user)?;
    let mut epmd = user.command("epmd", &folder);
    epmd.args(["-address", "127.0.0.1", "-port", &names.to_string()]);
    user.start(&mut epmd, &folder)?;

    for (number, port, link) in [(1, first, first_link), (2, second, second_link)] {
        let folder = place.server(&format!("node-{number}"), &user)?;
        let plugins = folder.join("enabled_plugins");
        fs::write(&plugins, "[].\n")?;
        let mut rabbitmq = user.command(&server, &folder);
        rabbitmq
            .env("HOME", &folder) // it keeps its cookie there
            .env("ERL_EPMD_PORT", names.to_string())
            .env("RABBITMQ_NODENAME", format!("throng-{number}@localhost"))
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODE_PORT", port.to_string())
            .env("RABBITMQ_DIST_PORT", link.to_string())
            .env("RABBITMQ_BASE", &folder)
            .env("RABBITMQ_MNESIA_BASE", folder.join("mnesia"))
            .env("RABBITMQ_LOG_BASE", folder.join("logs"))
            .env("RABBITMQ_PID_FILE", folder.join("pid"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", &plugins)
            .env("RABBITMQ_CONF_ENV_FILE", folder.join("none.conf"))
            .env("RABBITMQ_CONFIG_FILE", folder.join("none"))
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "+S 1:1 +sbwt none");
        user.start(&mut rabbitmq, &folder)?;
    }
    probe::wait(&[first, second], answers)?;
    let url = format!("amqp://guest:guest@127.0.0.1:{first},127.0.0.1:{second}/");
    Ok(vec![("THRONG_TEST_RABBITMQ_URL".to_owned(), url)])
}

/// Whoever speaks the protocol begins to, with method 10,10 on channel 0.
pub(super) fn answers(port: u16) -> bool {
    probe::asks(port, b"AMQP\x00\x00\x09\x01", b"\x01\x00\x00")
}

/// The script of the release itself: Debian's wrapper on PATH insists on a user of its own.
pub(super) fn server() -> Option<PathBuf> {
    let releases = fs::read_dir("/usr/lib/rabbitmq/lib").into_iter().flatten().flatten();
    let scripts = releases.map(|release| release.path().join("sbin/rabbitmq-server"));
    scripts.filter(|script| script.exists()).max()
}
