//! memcached: five servers, as many as a ring needs to show its placement.

use anyhow::Result;

use super::{
    Environment,
    place::{Place, User},
    probe,
};

pub(super) fn start(place: &Place) -> Result<Environment> {
    let user = User::system("nobody")?; // it refuses root
    let ports: [u16; 5] = probe::free_ports()?;
    for (number, port) in (1..).zip(ports) {
        let folder = place.server(&format!("server-{number}"), &user)?;
        let mut memcached = user.command("memcached", &folder);
        memcached.args(["-l", "127.0.0.1", "-p", &port.to_string(), "-m", "64", "-t", "1"]);
        user.start(&mut memcached, &folder)?;
    }
    probe::wait(&ports, answers)?;
    let hosts: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    let url = format!("memcached://{}", hosts.join(","));
    Ok(vec![("THRONG_TEST_MEMCACHED_URL".to_owned(), url)])
}

pub(super) fn answers(port: u16) -> bool {
    probe::asks(port, b"version\r\n", b"VERSION ")
}
