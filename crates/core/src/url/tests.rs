//! What engine URLs parse to, how they print, and what bad ones are told.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> EngineUrl {
    EngineUrl::parse(text).unwrap()
}

fn refusal(text: &str) -> String {
    EngineUrl::parse(text).unwrap_err().to_string()
}

#[test]
fn every_part_is_read() {
    let url = parse("AMQP://us%40er:p%3Aw@a.local:5672,b.local,[::1]:5673/v%2Fhost?window=256");
    assert_eq!(url.scheme(), "amqp");
    assert_eq!(url.user(), Some("us@er"));
    assert_eq!(url.password().unwrap().reveal(), "p:w");
    let hosts: Vec<String> = url.hosts().iter().map(|host| host.address(5672)).collect();
    assert_eq!(hosts, ["a.local:5672", "b.local:5672", "[::1]:5673"]);
    assert_eq!(url.path(), "/v/host");
}

#[test]
fn embedded_urls_need_no_slashes() {
    for (text, path) in
        [("memory:", ""), ("sqlite:data/site.db", "data/site.db"), ("sqlite:///srv/x", "/srv/x")]
    {
        assert_eq!(parse(text).path(), path, "{text}");
        assert_eq!(parse(text).to_string(), text);
    }
}

#[test]
fn secrets_never_print() {
    let url = parse("redis://me:hunter2@h/0?auth_token=hunter3&pool=2");
    let shown = format!("{url} {url:?} {:?}", url.password());
    assert!(!shown.contains("hunter"), "{shown}");
    assert!(url.reveal().contains("hunter2") && url.reveal().contains("hunter3"));
    for bad in ["redis://me:hunter2@h:port/0", "redis://me:hunt er2@h", "redis://me:hunter2%@h"] {
        assert!(!refusal(bad).contains("hunter2"), "{}", refusal(bad));
    }
}

#[test]
fn a_wrong_url_is_told_what_would_be_right() {
    assert!(refusal("site.db").contains("no scheme"));
    assert!(refusal("redis://h:99999").contains("65535"));
    assert!(refusal("redis://a,,b").contains("host:port,host:port"));
    assert!(refusal("x://h?a=1&a=2").contains("twice"));
    let unknown = parse("mongo://h").unknown_scheme("cache", &["memory", "redis"]);
    assert_eq!(
        unknown.to_string(),
        "cache cannot open `mongo:`; this build opens `memory:`, `redis:`"
    );
}

#[test]
fn options_are_typed_and_unknown_ones_refused() {
    let url = parse("memory:?max_bytes=1024&ttl=5m&on=yes&odd=1");
    let mut options = url.options();
    assert_eq!(options.take::<u64>("max_bytes").unwrap(), Some(1024));
    assert_eq!(options.take::<Duration>("ttl").unwrap(), Some(Duration::from_secs(300)));
    assert_eq!(options.take::<bool>("on").unwrap(), Some(true));
    assert_eq!(options.take::<u32>("absent").unwrap(), None);
    let left = options.finish().unwrap_err().to_string();
    assert!(
        left.contains("`odd`") && left.contains("`max_bytes`, `ttl`, `on`, `absent`"),
        "{left}"
    );
    let wrong = url.options().take::<u64>("ttl").unwrap_err().to_string();
    assert!(wrong.contains("`5m`; it takes a whole number"), "{wrong}");
}

#[test]
fn the_name_of_a_host_prints_as_it_can_be_read_again() {
    for (text, name) in [("a://[[]", "["), ("a://%2Frun%2Fa,b", "/run/a"), ("a://[::1]:5", "::1")] {
        let url = EngineUrl::parse(text).unwrap();
        assert_eq!(url.hosts()[0].name, name);
        assert_eq!(EngineUrl::parse(&url.to_string()).unwrap(), url, "{url}");
    }
}

proptest! {
    #[test]
    fn any_text_parses_or_is_refused_without_panic(text in ".{0,80}") {
        let _ = EngineUrl::parse(&text);
    }

    #[test]
    fn what_parses_prints_to_the_same_url(text in "[a-z]{1,4}:(//)?([a-z:%@,\\[\\]0-9]{0,12})(/[a-z%/]{0,6})?(\\?[a-z=&%]{0,9})?") {
        if let Ok(url) = EngineUrl::parse(&text) {
            prop_assert_eq!(EngineUrl::parse(&url.reveal()).unwrap(), url);
        }
    }
}
