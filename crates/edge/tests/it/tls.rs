//! Visitors who come over TLS: certificates, names, protocols, and curl.

use std::{path::PathBuf, process::Command, sync::Arc, time::Duration};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName},
};
use throng_core::{Clock, Shutdown, Trigger};
use throng_edge::{Certificates, Config, Edge, Listener, PemFiles, Upstream};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::wire::{BackEnd, bypass};

/// An issuer that only these tests believe, and a folder for what it issues.
pub(crate) struct Issuer {
    own: CertifiedIssuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

impl Issuer {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "issuer of tests");
        let own = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let issuer = Self { own, folder: tempfile::tempdir().unwrap() };
        std::fs::write(issuer.path("ca.pem"), issuer.own.pem()).unwrap();
        issuer
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a new certificate for `names` under `file`.
    pub(crate) fn issue(&self, file: &str, names: &[&str]) -> PemFiles {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let params = CertificateParams::new(names).unwrap();
        let certificate = params.signed_by(&key, &self.own).unwrap();
        let files = PemFiles {
            chain: self.path(&format!("{file}.pem")),
            key: self.path(&format!("{file}.key")),
        };
        std::fs::write(&files.chain, certificate.pem()).unwrap();
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
        files
    }

    /// What a visitor who believes this issuer speaks.
    pub(crate) fn connector(&self, protocols: &[&str]) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.own.der().clone()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        TlsConnector::from(Arc::new(config))
    }
}

/// An edge with a door in the clear and one with TLS.
struct Doors {
    plain: String,
    secure: String,
    edge: Edge,
    _trigger: Trigger,
    task: JoinHandle<throng_edge::Result<()>>,
}

impl Drop for Doors {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn open(config: Config, back_end: &BackEnd, certificates: &Certificates) -> Doors {
    open_before(config, &back_end.url(), certificates).await
}

async fn open_before(config: Config, url: &str, certificates: &Certificates) -> Doors {
    let upstream = Upstream::http(url).unwrap();
    let edge = Edge::new(config, vec![upstream], &Clock::system()).unwrap();
    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let secure = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = |listener: &TcpListener| listener.local_addr().unwrap().to_string();
    let addresses = (address(&plain), address(&secure));
    let port = secure.local_addr().unwrap().port();
    let listeners =
        [Listener::plain(plain).sending_to_https(port), Listener::tls(secure, certificates)];
    let (trigger, shutdown) = Shutdown::pair();
    let serving = edge.clone();
    let grace = Duration::from_secs(10);
    let task = tokio::spawn(async move { serving.serve_on(listeners, shutdown, grace).await });
    let (plain, secure) = addresses;
    Doors { plain, secure, edge, _trigger: trigger, task }
}

impl Doors {
    async fn connect(&self, issuer: &Issuer, name: &str) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(&self.secure).await?;
        let name = ServerName::try_from(name.to_owned()).unwrap();
        issuer.connector(&["http/1.1"]).connect(name, stream).await
    }

    async fn get(&self, issuer: &Issuer, name: &str) -> String {
        let mut stream = self.connect(issuer, name).await.unwrap();
        let request = format!("GET / HTTP/1.1\r\nhost: {name}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut all = String::new();
        stream.read_to_string(&mut all).await.unwrap();
        all
    }
}

fn shown(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

#[tokio::test]
async fn each_name_gets_its_certificate_and_the_back_end_hears_of_https() {
    let back_end = BackEnd::page("", "hello").await;
    let issuer = Issuer::new();
    let files = [
        issuer.issue("one", &["one.example", "www.one.example"]),
        issuer.issue("two", &["*.two.example"]),
    ];
    let certificates = Certificates::from_files(files).unwrap();
    let site = open(bypass(), &back_end, &certificates).await;
    for name in ["one.example", "www.one.example", "a.two.example"] {
        assert!(site.get(&issuer, name).await.ends_with("hello"), "{name}");
        let seen = back_end.last().to_ascii_lowercase();
        assert!(seen.contains("x-forwarded-proto: https\r\n"), "{seen}");
        assert!(seen.contains(&format!("host: {name}\r\n")), "{seen}");
    }
    // A wildcard stands for one label; whoever asks for what is not there gets the first.
    for name in ["a.b.two.example", "two.example", "three.example"] {
        let error = site.connect(&issuer, name).await.unwrap_err().to_string();
        assert!(error.contains("not valid for name"), "{error}");
    }
    assert_eq!(certificates.status()[1].names, ["*.two.example"]);
    let mut stream = TcpStream::connect(&site.secure).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let _ = stream.read_to_end(&mut Vec::new()).await;
    while site.edge.prometheus().contains("throng_edge_failed_handshakes_total 0") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn new_certificates_are_shown_without_losing_a_connection_and_wrong_ones_change_nothing() {
    let back_end = BackEnd::page("", "hello").await;
    let issuer = Issuer::new();
    let files = issuer.issue("one", &["one.example"]);
    let certificates = Certificates::from_files([files.clone()]).unwrap();
    let site = open(bypass(), &back_end, &certificates).await;
    let mut old = site.connect(&issuer, "one.example").await.unwrap();
    assert!(!certificates.reload().unwrap(), "nothing has changed");

    issuer.issue("one", &["one.example", "new.example"]);
    assert!(certificates.reload().unwrap());
    let new = site.connect(&issuer, "new.example").await.unwrap();
    assert_ne!(shown(&old), shown(&new));
    old.write_all(b"GET / HTTP/1.1\r\nhost: one.example\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut all = String::new();
    old.read_to_string(&mut all).await.unwrap();
    assert!(all.ends_with("hello"), "the connection from before goes on");

    let other = issuer.issue("other", &["other.example"]);
    std::fs::copy(&other.key, &files.key).unwrap();
    let error = certificates.reload().unwrap_err().to_string();
    assert!(error.contains("one.key") && error.contains("it is not the key of"), "{error}");
    std::fs::write(&files.chain, "nothing").unwrap();
    let error = certificates.reload().unwrap_err().to_string();
    assert!(error.contains("one.pem") && error.contains("no `BEGIN CERTIFICATE`"), "{error}");
    std::fs::remove_file(&files.chain).unwrap();
    assert!(certificates.reload().unwrap_err().to_string().contains("No such file"));
    assert!(site.get(&issuer, "new.example").await.ends_with("hello"));
    assert!(Certificates::from_files([]).is_err());
}

#[tokio::test]
async fn a_visitor_in_the_clear_is_sent_to_https() {
    let back_end = BackEnd::page("", "hello").await;
    let issuer = Issuer::new();
    let certificates = Certificates::from_files([issuer.issue("a", &["a.example"])]).unwrap();
    let site = open(Config::default(), &back_end, &certificates).await;
    let mut stream = TcpStream::connect(&site.plain).await.unwrap();
    let request = b"GET /a?b=1 HTTP/1.1\r\nhost: a.example:80\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut all = String::new();
    stream.read_to_string(&mut all).await.unwrap();
    let port = site.secure.rsplit(':').next().unwrap();
    assert!(all.starts_with("HTTP/1.1 308 "), "{all}");
    assert!(all.contains(&format!("location: https://a.example:{port}/a?b=1\r\n")), "{all}");
    assert_eq!(back_end.requests(), 0);
}

#[tokio::test]
async fn a_socket_over_tls_carries_bytes_both_ways_and_a_balancer_in_front_names_the_visitor() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (heard, hears) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let mut heard = Some(heard);
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = vec![0; 4096];
            let count = stream.read(&mut head).await.unwrap();
            if count == 0 {
                continue; // a check
            }
            head.truncate(count);
            let _ = heard.take().unwrap().send(String::from_utf8(head).unwrap());
            let switch = b"HTTP/1.1 101 Yes\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n";
            stream.write_all(switch).await.unwrap();
            let mut echo = [0; 4];
            stream.read_exact(&mut echo).await.unwrap();
            stream.write_all(&echo).await.unwrap();
        }
    });
    let issuer = Issuer::new();
    let certificates = Certificates::from_files([issuer.issue("a", &["a.example"])]).unwrap();
    let mut config = Config { proxy_protocol: true, ..bypass() };
    config.trusted_peers = vec!["127.0.0.1".parse().unwrap()];
    let site = open_before(config, &format!("http://{address}"), &certificates).await;
    let mut stream = TcpStream::connect(&site.secure).await.unwrap();
    stream.write_all(b"PROXY TCP4 192.0.2.7 192.0.2.9 56324 443\r\n").await.unwrap();
    let name = ServerName::try_from("a.example").unwrap();
    let mut stream = issuer.connector(&["http/1.1"]).connect(name, stream).await.unwrap();
    let ask = b"GET /ws HTTP/1.1\r\nhost: a.example\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nping";
    stream.write_all(ask).await.unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.unwrap();
    assert!(all.starts_with(b"HTTP/1.1 101 ") && all.ends_with(b"\r\n\r\nping"));
    let head = hears.await.unwrap().to_ascii_lowercase();
    assert!(head.contains("x-forwarded-for: 192.0.2.7\r\n"), "{head}");
    assert!(head.contains("x-forwarded-proto: https\r\n"), "{head}");
}

/// What curl writes; `None` when there is none.
fn curl(arguments: &[&str]) -> Option<String> {
    let mut command = Command::new("curl");
    command.args(["-sS", "--max-time", "30"]).args(arguments);
    match command.output() {
        Ok(output) => {
            let (out, err) = (output.stdout, output.stderr);
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&err));
            Some(String::from_utf8(out).unwrap())
        }
        Err(_) if std::env::var_os("CI").is_some() => panic!("curl is not installed"),
        Err(_) => {
            println!("skip: curl is not installed");
            None
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_speaks_both_protocols_to_the_cache_and_past_it() {
    let big: &'static str = "0123456789".repeat(100_000).leak();
    let back_end = BackEnd::new(move |head| match head.split(' ').nth(1).unwrap() {
        "/big" => crate::wire::ok("cache-control: max-age=60\r\n", big),
        "/post" => crate::wire::ok("", head.rsplit("\r\n\r\n").next().unwrap()),
        _ => crate::wire::ok("cache-control: max-age=60\r\n", "hello"),
    })
    .await;
    let issuer = Issuer::new();
    let certificates = Certificates::from_files([issuer.issue("a", &["a.example"])]).unwrap();
    let site = open(Config::default(), &back_end, &certificates).await;
    let port = site.secure.rsplit(':').next().unwrap();
    let ask = async |path: &str, more: &[&str]| {
        let resolve = format!("a.example:{port}:127.0.0.1");
        let authority = issuer.path("ca.pem").display().to_string();
        let url = format!("https://a.example:{port}{path}");
        let arguments = ["--resolve", &resolve, "--cacert", &authority, &url];
        let arguments: Vec<String> =
            arguments.iter().chain(more).map(|text| (*text).to_owned()).collect();
        tokio::task::spawn_blocking(move || {
            curl(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
        })
        .await
        .unwrap()
    };
    let shape = ["-w", " %{http_version} %header{cache-status}"];
    for (protocol, version) in [("--http2", "2"), ("--http1.1", "1.1")] {
        let Some(said) = ask("/", &[&shape[..], &[protocol]].concat()).await else { return };
        assert!(said.starts_with(&format!("hello {version} throng; ")), "{said}");
        assert_eq!(ask("/big", &[protocol]).await.unwrap(), big);
        let sent = ["-H", "cookie: sessionid=a", "-d", "x=1&y=2", protocol];
        assert_eq!(ask("/post", &sent).await.unwrap(), "x=1&y=2");
        let last = ask("/", &[&shape[..], &[protocol]].concat()).await.unwrap();
        assert!(last.contains("throng; hit"), "{last}");
    }
    // A hundred streams over one connection, which is what HTTP/2 is for.
    let paths = "/{a,b,c,d,e,f,g,h,i,j}/[1-10]";
    let parallel = ["--http2", "-Z", "--parallel-max", "50", "-w", "\n"];
    let said = ask(paths, &parallel).await.unwrap();
    assert_eq!(said.matches("hello").count(), 100, "{said}");
}
