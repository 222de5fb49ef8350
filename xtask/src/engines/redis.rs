//! Redis: one server, nothing kept on disk.

use anyhow::Result;

use super::{
    Environment,
    place::{Place, User},
    probe,
};

pub(super) fn start(place: &Place) -> Result<Environment> {
    let user = User::ourselves();
    let folder = place.server("server", &user)?;
    let [port] = probe::free_ports()?;
    let mut redis = user.command("redis-server", &folder);
    redis.args(["--bind", "127.0.0.1", "--port", &port.to_string()]);
    redis.args(["--save", "", "--appendonly", "no", "--dir"]).arg(&folder);
    user.start(&mut redis, &folder)?;
    probe::wait(&[port], answers)?;
    Ok(vec![("THRONG_TEST_REDIS_URL".to_owned(), format!("redis://127.0.0.1:{port}/0"))])
}

pub(super) fn answers(port: u16) -> bool {
    probe::asks(port, b"PING\r\n", b"+PONG")
}
