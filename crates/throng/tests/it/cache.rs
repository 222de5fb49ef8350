//! `throng cache` on a real fleet of "memcached" servers.

use std::{
    io::Write,
    process::{Command, Output, Stdio},
};

use tempfile::TempDir;

use crate::servers::Servers;

/// A fleet, and a folder in which the program runs.
struct House {
    servers: Servers,
    folder: TempDir,
}

impl House {
    fn open(servers: usize) -> Option<Self> {
        Some(Self { servers: Servers::start(servers)?, folder: tempfile::tempdir().unwrap() })
    }

    /// `throng cache …`, with its config's URL or else `--url`.
    fn cache(&self, words: &[&str], url: &str, input: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_throng"));
        command.arg("cache").args(words).current_dir(&self.folder).env_clear();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = match words.contains(&"stats") {
            true => command.env("THRONG_CACHE_URL", url).spawn().unwrap(),
            false => command.args(["--url", url]).spawn().unwrap(),
        };
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    }

    /// What it prints, when it ends with this code.
    fn says(&self, code: i32, words: &[&str], url: &str, input: &str) -> String {
        let output = self.cache(words, url, input);
        let said = String::from_utf8(output.stdout).unwrap();
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{words:?}: {said}{complaint}");
        said + &complaint
    }
}

#[test]
fn values_are_read_written_and_deleted_from_the_command_line() {
    let Some(house) = House::open(2) else { return };
    let url = house.servers.url("ring=ketama&timeout=20s");
    let says = |code, words: &[&str]| house.says(code, words, &url, "");
    assert_eq!(says(0, &["set", "greeting", "hello", "--ttl", "10m"]), "");
    assert_eq!(says(0, &["set", "limits", r#"{"seats": 4}"#]), "");
    assert_eq!(says(0, &["set", "text", "42", "--text"]), "");
    assert_eq!(house.says(0, &["set", "piped", "-"], &url, "[1,2]"), "");
    assert_eq!(says(0, &["get", "greeting"]), "hello\n");
    assert_eq!(says(0, &["get", "limits", "piped"]), "limits\t{\"seats\":4}\npiped\t[1,2]\n");
    assert_eq!(
        says(1, &["get", "text", "nope", "--json"]),
        "{\"found\":true,\"key\":\"text\",\"value\":\"42\"}\n{\"found\":false,\"key\":\"nope\",\"value\":null}\n"
    );
    assert_eq!(says(1, &["get", "nope"]), "`nope` is not there\n");
    assert_eq!(house.says(0, &["delete", "-"], &url, "greeting\nlimits\nnope\n"), "deleted 2\n");
    assert_eq!(says(1, &["get", "greeting"]), "`greeting` is not there\n");
    assert_eq!(says(0, &["set", "k", "v", "--json"]), "{\"key\":\"k\",\"stored\":true}\n");
    for wrong in ["soon", "40d", "0s"] {
        let said = says(2, &["set", "k", "v", "--ttl", wrong]);
        assert!(said.contains(&format!("`--ttl {wrong}` is wrong: it takes a time")), "{said}");
    }
}

#[test]
fn servers_that_are_down_are_named_with_what_is_wrong() {
    let Some(mut house) = House::open(2) else { return };
    let url = house.servers.url("ring=rendezvous&timeout=20s");
    house.servers.kill(0);
    let down = house.servers.addresses()[0].clone();
    let keys: String = (0..20).map(|number| format!("event/{number}\n")).collect();
    let said = house.says(1, &["delete", "-"], &url, &keys);
    let complaint = format!("{down} is off the ring: it cannot be reached or hung up: Connection");
    assert!(said.starts_with("deleted 0\n") && said.contains(&complaint), "{said}");
    house.servers.kill(1);
    let said = house.says(1, &["get", "k"], &url, "");
    for server in house.servers.addresses() {
        let reason = format!("{server} is off the ring: it cannot be reached");
        assert!(said.contains(&reason), "{said}");
    }
}

#[test]
fn where_names_the_server_that_has_each_key() {
    let Some(house) = House::open(3) else { return };
    let url = house.servers.url("ring=rendezvous&timeout=20s");
    let keys: String = (0..40).map(|number| format!("event/{number}\n")).collect();
    let said = house.says(0, &["where", "-"], &url, &keys);
    let places: Vec<(&str, &str)> =
        said.lines().map(|line| line.split_once('\t').unwrap()).collect();
    assert_eq!(places.len(), 40);
    let (key, server) = places[7];
    house.says(0, &["set", key, "1"], &url, "");
    let at = house.servers.addresses().iter().position(|address| address == server).unwrap();
    assert!(house.servers.ask(at, &format!("mg {key} v\r\n")).starts_with("VA "));
    let said = house.says(0, &["where", key, "--json"], &url, "");
    assert_eq!(said, format!("{{\"key\":\"{key}\",\"server\":\"{server}\"}}\n"));
}

#[test]
fn probe_finds_the_ring_and_writes_the_url() {
    let Some(mut house) = House::open(4) else { return };
    let fleet = house.servers.url("timeout=20s");
    let keys: String = (0..30).map(|number| format!(":1:user:{number}\n")).collect();
    let plain: String = (0..30).map(|number| format!("user:{number}\n")).collect();
    let url = house.servers.url("ring=crc&values=python&timeout=20s");
    for key in keys.lines() {
        house.says(0, &["set", key, "7"], &url, "");
    }
    let said = house.says(0, &["probe", "-"], &fleet, &keys);
    let servers = house.servers.addresses().join(",");
    let right = format!("write: cache.url = \"memcached://{servers}?ring=crc&values=python\"\n");
    assert!(said.contains("30 of 30") && said.ends_with(&right), "{said}");
    // Django's version stands in front of keys that its site knows without.
    let said = house.says(0, &["probe", "-"], &fleet, &plain);
    assert!(said.contains("ring=crc&version=1&values=python"), "{said}");

    let said = house.says(1, &["probe", ":1:user:1"], &fleet, "");
    assert!(said.contains("by chance: give more"), "{said}");
    let said = house.says(1, &["probe", "gone", "--json"], &fleet, "");
    assert!(said.contains(r#""found":0"#) && said.contains(r#""url":null"#), "{said}");
    let mut swapped = house.servers.addresses();
    swapped.swap(0, 1);
    let swapped = format!("memcached://{}?timeout=20s", swapped.join(","));
    let said = house.says(1, &["probe", "-"], &swapped, &keys);
    assert!(said.contains("no ring fits: the servers may stand in another order"), "{said}");
    house.servers.kill(2);
    let said = house.says(0, &["probe", "-"], &fleet, &keys);
    assert!(said.contains("does not answer, so keys that are there"), "{said}");
    assert!(house.says(2, &["probe", "-"], &fleet, "").contains("was given none"));
    assert!(house.says(2, &["probe", "k"], "memcached://one", "").contains("at least two"));
}

#[test]
fn stats_are_a_line_a_server_and_tell_who_is_down() {
    let Some(mut house) = House::open(2) else { return };
    let url = house.servers.url("ring=ketama&timeout=20s");
    let said = house.says(0, &["stats"], &url, "");
    assert!(said.starts_with("SERVER") && said.lines().count() == 3, "{said}");
    house.servers.kill(1);
    let said = house.says(1, &["stats", "--json"], &url, "");
    let lines: Vec<serde_json::Value> =
        said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["stats"]["threads"], "1");
    assert_eq!(lines[1]["server"], house.servers.addresses()[1].as_str());
    assert!(lines[1]["error"].is_string(), "{said}");
}

#[test]
fn what_cannot_be_asked_is_told_so() {
    let Some(house) = House::open(1) else { return };
    let says = |words: &[&str], url: &str| house.says(2, words, url, "");
    assert!(says(&["get", "k"], "memory:").contains("only the process that has it can look into"));
    assert!(says(&["stats"], "memory:").contains("name a shared one"));
    assert!(says(&["get", "k"], "memcached://a,b").contains("it must be named"));
    assert!(says(&["stats"], "memcached://a,b").contains("`cache.url`"));
    assert!(
        says(&["where", "k"], "redis://a").contains("the one server of `redis:` has every key")
    );
    assert!(says(&["get", "k"], "redys://a").contains("cache cannot open `redys:`"));
    let named = says(&["get", "k"], "memcached://me:secret@a");
    assert!(named.contains("without user and password") && !named.contains("secret"), "{named}");
    assert!(says(&["get", "k"], "memcached://a?timeout=0s").contains("a time above zero"));
    let odd = house.says(1, &["where", "a b"], "memcached://a?keys=refuse", "");
    assert!(odd.contains("cannot find or store the value of `a b`"), "{odd}");
}
