//! pebble, the ACME server that Let's Encrypt tests its clients with.

use std::{
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use crate::port::free_port;

/// An authority; it ends with the test.
pub(crate) struct Authority {
    programs: Vec<Child>,
    /// Where its directory is. It shows the certificate that it was given, for `localhost`.
    pub(crate) directory: String,
}

impl Drop for Authority {
    fn drop(&mut self) {
        for child in &mut self.programs {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Authority {
    /// `None`, after saying so, where it is not installed; in CI that fails.
    ///
    /// Keeps its config in `folder`, speaks TLS with the certificate and the key in two files, asks for
    /// proof at two ports (HTTP and TLS), and issues what is good for `lasts_s` seconds.
    pub(crate) fn start(
        folder: &Path,
        [chain, key]: [&Path; 2],
        [http_port, tls_port]: [u16; 2],
        lasts_s: u64,
    ) -> Option<Self> {
        if !["pebble", "pebble-challtestsrv"].into_iter().all(is_installed) {
            return None;
        }
        let [dns, management, port, other] = [(); 4].map(|()| free_port());
        let (chain, key) = (chain.display(), key.display());
        let config = format!(
            r#"{{"pebble": {{
                "listenAddress": "127.0.0.1:{port}", "managementListenAddress": "127.0.0.1:{other}",
                "certificate": "{chain}", "privateKey": "{key}",
                "httpPort": {http_port}, "tlsPort": {tls_port}, "certificateValidityPeriod": {lasts_s},
                "ocspResponderURL": "", "externalAccountBindingRequired": false
            }}}}"#
        );
        let path = folder.join("pebble.json");
        std::fs::write(&path, config).unwrap();
        let quiet = |command: &mut Command| {
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
        };
        let dns_server = format!("127.0.0.1:{dns}");
        let names = quiet(
            Command::new("pebble-challtestsrv")
                .args(["-dns01", &dns_server, "-management", &format!("127.0.0.1:{management}")])
                .args(["-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv6", ""]),
        );
        let pebble = quiet(
            Command::new("pebble")
                .arg("-config")
                .arg(&path)
                .args(["-dnsserver", &dns_server])
                .env("PEBBLE_VA_NOSLEEP", "1"),
        );
        let directory = format!("https://localhost:{port}/dir");
        let authority = Self { programs: vec![names, pebble], directory };
        for port in [port, management] {
            while TcpStream::connect(("127.0.0.1", port)).is_err() {
                thread::sleep(Duration::from_millis(20));
            }
        }
        Some(authority)
    }
}

fn is_installed(program: &str) -> bool {
    let found = Command::new(program).arg("-h").stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    match found {
        Ok(mut child) => child.wait().is_ok(),
        Err(_) if std::env::var_os("CI").is_some() => panic!("{program} is not installed"),
        Err(_) => {
            println!("skip: {program} is not installed");
            false
        }
    }
}
