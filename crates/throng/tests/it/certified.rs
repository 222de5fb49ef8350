//! `throng edge --file` with `[acme]`: certificates from pebble, kept over restarts and ordered anew in time.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::{authority::Authority, port::free_port, running::Running};

/// A certificate for `localhost` and its key, and `ca.pem`, by which it is believed.
fn own_certificate(folder: &Path) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    fs::write(folder.join("ca.pem"), issuer.pem()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let certificate = certificate.signed_by(&key, &issuer).unwrap();
    fs::write(folder.join("localhost.pem"), certificate.pem()).unwrap();
    fs::write(folder.join("localhost.key"), key.serialize_pem()).unwrap();
}

fn edge(file: &Path) -> Running {
    let mut command = Command::new(env!("CARGO_BIN_EXE_throng"));
    command.args(["edge", "--file"]).arg(file).env("THRONG_LOG_LEVEL", "info");
    let mut running = Running(command.stderr(Stdio::piped()).spawn().unwrap());
    let lines = BufReader::new(running.0.stderr.take().unwrap()).lines();
    // What is wrong is for whoever reads why the test failed.
    thread::spawn(move || lines.map_while(Result::ok).for_each(|line| println!("{line}")));
    running
}

/// Tries until there is something.
fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(180), "{what}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// What curl tells of the handshake, once there is one.
fn visit(port: u16) -> Option<String> {
    let (url, resolve) =
        (format!("https://a.example:{port}/"), format!("a.example:{port}:127.0.0.1"));
    let output = Command::new("curl").args(["-ksv", "--resolve", &resolve, &url]).output().unwrap();
    output.status.success().then(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Orders with this proof, starts again at once, and once more when the certificate is due.
fn comes_stays_and_is_renewed(proof: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    own_certificate(folder.path());
    let [http, tls] = [free_port(), free_port()];
    let own = [&*path("localhost.pem"), &*path("localhost.key")];
    let asked = if proof == "http-01" { [http, 1] } else { [1, tls] };
    let Some(authority) = Authority::start(folder.path(), own, asked, LASTS_S) else { return };
    let file = path("edge.toml");
    let text = format!(
        "listen = \"127.0.0.1:{http}\"\n[tls]\nlisten = \"127.0.0.1:{tls}\"\nredirect = true\n\
         [acme]\nnames = [\"a.example\"]\nfolder = \"acme\"\nroot = \"ca.pem\"\n\
         directory = \"{}\"\nproof = \"{proof}\"\n[[upstream]]\nurl = \"http://127.0.0.1:1\"\n",
        authority.directory
    );
    fs::write(&file, text).unwrap();
    let chain = path("acme/certificate.pem");
    let read = || fs::read(&chain).ok();

    let running = edge(&file);
    let first = until("it is ordered", read);
    let ordered = Instant::now();
    let said = until("it is shown", || visit(tls));
    assert!(said.contains("Pebble"), "{said}");
    drop(running);

    // The next process has it, and orders none before its time.
    let running = edge(&file);
    let said = until("it is shown again", || visit(tls));
    assert!(said.contains("Pebble"), "{said}");
    let now = read().unwrap();
    if ordered.elapsed() < Duration::from_secs(LASTS_S / 2) {
        assert_eq!(now, first, "it is kept");
    }
    drop(running);

    // Two thirds of its time later a process finds it due.
    let due = Duration::from_secs(LASTS_S / 3 * 2 + 2);
    thread::sleep(due.saturating_sub(ordered.elapsed()));
    let _running = edge(&file);
    until("it is ordered anew", || read().filter(|chain| *chain != now));
    until("it is shown as well", || visit(tls));
}

#[test]
fn a_certificate_is_ordered_by_the_command_kept_over_restarts_and_ordered_anew_in_time() {
    comes_stays_and_is_renewed("http-01");
}

#[test]
fn the_same_with_a_proof_at_the_port_of_tls_alone() {
    comes_stays_and_is_renewed("tls-alpn-01");
}

const LASTS_S: u64 = 30;
