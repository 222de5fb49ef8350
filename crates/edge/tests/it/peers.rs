//! Debian's Varnish, nginx and HAProxy as caches before an origin of ours, each private and on a free
//! port.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// A running peer; stopped when dropped.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) port: u16,
    child: Child,
}

/// What peers are told.
pub(crate) struct Setting<'a> {
    /// Where their origin is.
    pub(crate) origin: u16,
    /// A folder for their files.
    pub(crate) folder: &'a Path,
    /// What they may keep, in MiB.
    pub(crate) cache_mib: u64,
    /// Runs them, such as `["taskset", "-c", "0"]`.
    pub(crate) under: &'a [&'a str],
}

impl Peer {
    /// Varnish with its own rules, and its log in shared memory as always.
    pub(crate) fn varnish(setting: &Setting<'_>) -> Option<Self> {
        let port = free_port();
        let mut command = command(setting, "varnishd")?;
        command
            .args(["-F", "-a", &format!("127.0.0.1:{port}")])
            .args(["-b", &format!("127.0.0.1:{}", setting.origin)])
            .args(["-s", &format!("malloc,{}m", setting.cache_mib)])
            .arg("-n")
            .arg(folder(setting, "varnish"));
        Some(Self::start("Varnish", port, command))
    }

    /// nginx with its cache in the folder, a buffered log, one worker.
    pub(crate) fn nginx(setting: &Setting<'_>) -> Option<Self> {
        let port = free_port();
        let mut command = command(setting, "nginx")?;
        let folder = folder(setting, "nginx");
        let (at, origin, mib) = (folder.display(), setting.origin, setting.cache_mib);
        let temps = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let temps = temps.map(|kind| format!("{kind}_temp_path {at}/{kind};\n")).concat();
        let text = format!(
            "daemon off; user root; worker_processes 1; pid {at}/pid; error_log {at}/error.log;\n\
             events {{ worker_connections 4096; }}\n\
             http {{\n{temps}\
             access_log {at}/access.log combined buffer=64k flush=1s;\n\
             keepalive_requests 1000000000; etag off;\n\
             proxy_cache_path {at}/cache levels=1:2 keys_zone=pages:64m max_size={mib}m inactive=1h \
             use_temp_path=off;\n\
             upstream origin {{ server 127.0.0.1:{origin}; keepalive 128; keepalive_requests 1000000000; }}\n\
             server {{ listen 127.0.0.1:{port};\n\
             location / {{ proxy_pass http://origin; proxy_http_version 1.1;\n\
             proxy_set_header Connection \"\"; proxy_set_header Host $http_host;\n\
             proxy_cache pages; proxy_cache_key \"$http_host$request_uri\"; proxy_cache_bypass $cookie_sessionid; proxy_no_cache $cookie_sessionid;\n\
             proxy_cache_lock on; proxy_cache_revalidate on; proxy_cache_background_update on;\n\
             proxy_cache_use_stale updating error timeout http_500 http_502 http_503 http_504;\n\
             add_header X-Cache $upstream_cache_status always; }} }} }}\n"
        );
        let file = folder.join("nginx.conf");
        fs::write(&file, text).unwrap();
        command.arg("-c").arg(file).arg("-p").arg(&folder);
        Some(Self::start("nginx", port, command))
    }

    /// HAProxy with its cache, its log in a ring in memory, one thread.
    pub(crate) fn haproxy(setting: &Setting<'_>) -> Option<Self> {
        Self::haproxy_with(setting, "")
    }

    /// The same with more at the end of its config.
    pub(crate) fn haproxy_with(setting: &Setting<'_>, more: &str) -> Option<Self> {
        let port = free_port();
        let mut command = command(setting, "haproxy")?;
        let folder = folder(setting, "haproxy");
        let (origin, mib) = (setting.origin, setting.cache_mib.min(4095));
        let text = format!(
            "global\n nbthread 1\n maxconn 4096\n log ring@lines local0\n\
             ring lines\n format rfc5424\n maxlen 1200\n size 1048576\n\
             defaults\n mode http\n log global\n option httplog\n timeout client 60s\n \
             timeout server 60s\n timeout connect 5s\n http-reuse always\n\
             cache pages\n total-max-size {mib}\n max-object-size 1000000\n max-age 3600\n \
             process-vary on\n\
             frontend visitors\n bind 127.0.0.1:{port}\n \
             http-request cache-use pages unless {{ req.cook(sessionid) -m found }}\n \
             http-response cache-store pages\n default_backend origin\n\
             backend origin\n server origin 127.0.0.1:{origin}\n{more}"
        );
        let file = folder.join("haproxy.cfg");
        fs::write(&file, text).unwrap();
        command.arg("-db").arg("-f").arg(file);
        Some(Self::start("HAProxy", port, command))
    }

    fn start(name: &'static str, port: u16, mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let peer = Self { name, port, child: command.spawn().unwrap() };
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(60), "{name} does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        peer
    }

    #[allow(dead_code, reason = "the bench asks for it, the tests do not")]
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Their managers end their workers when asked kindly, and only then.
        let pid = self.child.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &pid]).status();
        for _ in 0..200 {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(setting: &Setting<'_>, program: &str) -> Option<Command> {
    let places = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/sbin"];
    let path = places.iter().map(|place| Path::new(place).join(program)).find(|path| path.exists());
    let Some(path) = path else {
        assert!(std::env::var_os("CI").is_none(), "{program} is not installed");
        eprintln!("skip: {program} is not installed");
        return None;
    };
    let Some((first, rest)) = setting.under.split_first() else { return Some(Command::new(path)) };
    let mut command = Command::new(first);
    command.args(rest).arg(path);
    Some(command)
}

fn folder(setting: &Setting<'_>, name: &str) -> std::path::PathBuf {
    let folder = setting.folder.join(name);
    fs::create_dir_all(&folder).unwrap();
    folder
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
