//! `throng edge --disk` on a disk that is really full: a small file system of its own where the test may
//! mount one, else a process that may not make any file longer.

use std::{
    fs::{self, File},
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{port::free_port, running::Running};

/// A folder in which nothing can be written until it is freed.
struct Full {
    folder: PathBuf,
    is_mounted: bool,
}

impl Full {
    fn in_folder(parent: &Path) -> Self {
        let folder = parent.join("pages");
        fs::create_dir(&folder).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"]).arg(&folder).stderr(Stdio::null());
        let is_mounted = mount.status().is_ok_and(|status| status.success());
        if is_mounted {
            let mut filler = File::create(folder.join("filler")).unwrap();
            while filler.write_all(&[0; 4096]).is_ok() {}
        }
        Self { folder, is_mounted }
    }

    /// The command that starts `program` before `arguments`. What it writes fails, but does not end it.
    fn start(&self, program: &str) -> Command {
        let limit = if self.is_mounted { "" } else { "trap '' XFSZ; ulimit -f 0; " };
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{limit}exec {program} \"$@\""), "sh"]);
        command
    }

    fn free(&self, process: &Child) {
        if self.is_mounted {
            fs::remove_file(self.folder.join("filler")).unwrap();
            return;
        }
        let id = process.id().to_string();
        let freed = Command::new("prlimit").args(["--pid", &id, "--fsize=unlimited"]).status();
        assert!(freed.unwrap().success());
    }
}

impl Drop for Full {
    fn drop(&mut self) {
        if self.is_mounted {
            let _ = Command::new("umount").arg("-l").arg(&self.folder).status();
        }
    }
}

/// The whole answer.
fn ask(address: &str, method: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    // A page for somebody with a token is nobody else's, and not kept.
    let token = if method == "PURGE" { "authorization: Bearer token\r\n" } else { "" };
    let fields = format!("host: example.org\r\n{token}connection: close");
    write!(stream, "{method} {path} HTTP/1.1\r\n{fields}\r\n\r\n").unwrap();
    let mut all = String::new();
    stream.read_to_string(&mut all).unwrap();
    all
}

fn figure(figures: &str, name: &str) -> u64 {
    let text = ask(figures, "GET", "/metrics");
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} in {text}")).parse().unwrap()
}

/// Tries until it is so.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(90), "{what}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_full_disk_is_no_visitors_trouble_and_is_told_once_and_written_to_when_there_is_room_again() {
    let folder = tempfile::tempdir().unwrap();
    let full = Full::in_folder(folder.path());
    println!("a file system of its own: {}", full.is_mounted);
    let back_end = TcpListener::bind("127.0.0.1:0").unwrap();
    let upstream = format!("http://{}", back_end.local_addr().unwrap());
    thread::spawn(move || {
        for mut stream in back_end.incoming().map_while(Result::ok) {
            let mut head = [0; 4096];
            if matches!(stream.read(&mut head), Ok(1..)) {
                let fields = "connection: close\r\ncontent-length: 5";
                let _ = write!(stream, "HTTP/1.1 200 OK\r\n{fields}\r\n\r\nhello");
            }
        }
    });
    let [listen, figures] = [(); 2].map(|()| format!("127.0.0.1:{}", free_port()));
    let mut command = full.start(env!("CARGO_BIN_EXE_throng"));
    command
        .args(["edge", "--listen", &listen, "--upstream", &upstream, "--figures", &figures])
        .args(["--purge-token", "token", "--disk"])
        .arg(&full.folder)
        .env("THRONG_LOG_LEVEL", "info")
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut running = Running(command.spawn().unwrap());
    let mut log = running.0.stderr.take().unwrap();
    let log = thread::spawn(move || {
        let mut all = Vec::new();
        let _ = log.read_to_end(&mut all);
        String::from_utf8_lossy(&all).into_owned()
    });
    until("it listens", || TcpStream::connect(&listen).is_ok());
    until("it tells figures", || TcpStream::connect(&figures).is_ok());

    let visit = |number: usize| {
        let answer = ask(&listen, "GET", &format!("/{number}"));
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello"), "{answer}");
        answer.contains("throng; hit")
    };
    let failures = || figure(&figures, "throng_edge_disk_failures_total");
    for number in 0..20 {
        assert!(!visit(number), "it is fetched");
    }
    until("it is counted", || failures() > 0);
    // A purge has to be written at once, or else nothing may be there any more.
    for number in 0..5 {
        let before = failures();
        assert!(ask(&listen, "PURGE", &format!("/{number}")).starts_with("HTTP/1.1 200"));
        until("it is tried for each purge", || failures() > before);
    }
    assert!((5..20).all(visit), "what memory has is answered from there");
    assert_eq!(figure(&figures, "throng_edge_disk_pages"), 0);
    let files = fs::read_dir(&full.folder).unwrap().count();
    assert!(files <= 2, "attempts leave no files behind: {files}");

    full.free(&running.0);
    let mut number = 100;
    until("pages are written again", || {
        number += 1;
        visit(number);
        ask(&listen, "PURGE", "/0");
        figure(&figures, "throng_edge_disk_pages") > 0
    });
    let id = running.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    assert!(running.0.wait().unwrap().success());
    let log = log.join().unwrap();
    assert_eq!(log.matches("cannot write to").count(), 1, "{log}");
    assert_eq!(log.matches("can be written to again").count(), 1, "{log}");
}
