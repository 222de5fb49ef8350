//! One origin behind Debian's "varnishd", "nginx" and "haproxy" and behind ours: whether the origin is
//! asked, and what status comes. Where somebody does otherwise than we do, it says why.

use std::{collections::BTreeMap, time::Duration};

use throng_edge::Config;
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::{
    peers::{Peer, Setting},
    wire::{BackEnd, Client, run},
};

/// Requests for one page, and what becomes of them.
struct Scenario {
    name: &'static str,
    /// The origin's status and fields.
    answer: (&'static str, &'static str),
    /// A target below the scenario's own path, and fields that are asked with.
    requests: &'static [(&'static str, &'static str)],
    /// Statuses in a row; `+` after one says that the origin was asked.
    ours: &'static str,
    others: &'static [(&'static str, &'static str, &'static str)],
}

const TWICE: &[(&str, &str)] = &[("GET", ""), ("GET", "")];

const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "max-age",
        answer: ("200 OK", "Cache-Control: max-age=60\r\n"),
        requests: TWICE,
        ours: "200+ 200",
        others: &[],
    },
    Scenario {
        name: "no-store",
        answer: ("200 OK", "Cache-Control: no-store\r\n"),
        requests: TWICE,
        ours: "200+ 200+",
        others: &[],
    },
    Scenario {
        name: "private",
        answer: ("200 OK", "Cache-Control: private, max-age=60\r\n"),
        requests: TWICE,
        ours: "200+ 200+",
        others: &[],
    },
    Scenario {
        name: "no-cache",
        answer: ("200 OK", "Cache-Control: no-cache\r\n"),
        requests: TWICE,
        ours: "200+ 200+",
        others: &[],
    },
    Scenario {
        name: "max-age=0",
        answer: ("200 OK", "Cache-Control: max-age=0\r\n"),
        requests: TWICE,
        ours: "200+ 200+",
        others: &[],
    },
    Scenario {
        name: "s-maxage over max-age=0",
        answer: ("200 OK", "Cache-Control: max-age=0, s-maxage=60\r\n"),
        requests: TWICE,
        ours: "200+ 200",
        others: &[(
            "HAProxy",
            "200+ 200+",
            "does not store what is at once stale for browsers (RFC 9111 5.2.2.10 has s-maxage count)",
        )],
    },
    Scenario {
        name: "s-maxage=0 over max-age",
        answer: ("200 OK", "Cache-Control: max-age=60, s-maxage=0\r\n"),
        requests: TWICE,
        ours: "200+ 200+",
        others: &[],
    },
    Scenario {
        name: "expires future",
        answer: ("200 OK", "Expires: Fri, 01 Jan 2100 00:00:00 GMT\r\n"),
        requests: TWICE,
        ours: "200+ 200",
        others: &[],
    },
    Scenario {
        name: "expires past",
        answer: ("200 OK", "Expires: Thu, 01 Jan 1970 00:00:00 GMT\r\n"),
        requests: TWICE,
        ours: "200+ 200+",
        others: &[(
            "Varnish",
            "200+ 200",
            "without a Date takes its default_ttl (RFC 9111 5.3: what has expired is stale)",
        )],
    },
    Scenario {
        name: "says nothing",
        answer: ("200 OK", ""),
        requests: TWICE,
        ours: "200+ 200",
        others: &[
            (
                "nginx",
                "200+ 200+",
                "stores nothing that is not said to be fresh; RFC 9111 4.2.2 leaves it to the cache",
            ),
            (
                "HAProxy",
                "200+ 200+",
                "stores nothing that is not said to be fresh; RFC 9111 4.2.2 leaves it to the cache",
            ),
        ],
    },
    Scenario {
        name: "query",
        answer: ("200 OK", "Cache-Control: max-age=60\r\n"),
        requests: &[("GET ?a=1&b=2", ""), ("GET ?b=2&a=1", ""), ("GET ?a=1&b=2", "")],
        ours: "200+ 200+ 200",
        others: &[],
    },
    Scenario {
        name: "hosts",
        answer: ("200 OK", "Cache-Control: max-age=60\r\n"),
        requests: &[("GET", ""), ("GET", "HOST2")],
        ours: "200+ 200+",
        others: &[],
    },
    Scenario {
        name: "vary ae",
        answer: ("200 OK", "Cache-Control: max-age=60\r\nVary: Accept-Encoding\r\n"),
        requests: &[
            ("GET", "Accept-Encoding: gzip\r\n"),
            ("GET", "Accept-Encoding: br\r\n"),
            ("GET", "Accept-Encoding: gzip\r\n"),
        ],
        ours: "200+ 200+ 200",
        others: &[
            (
                "Varnish",
                "200+ 200 200",
                "asks for gzip itself and gives what comes to all who take it (RFC 9110 12.5.3)",
            ),
            (
                "HAProxy",
                "200+ 200 200",
                "knows that a body without a coding suits everybody (RFC 9110 12.5.3)",
            ),
        ],
    },
    Scenario {
        name: "vary lang",
        answer: ("200 OK", "Cache-Control: max-age=60\r\nVary: Accept-Language\r\n"),
        requests: &[
            ("GET", "Accept-Language: de\r\n"),
            ("GET", "Accept-Language: en\r\n"),
            ("GET", "Accept-Language: de\r\n"),
        ],
        ours: "200+ 200+ 200",
        others: &[(
            "HAProxy",
            "200+ 200+ 200+",
            "stores only what varies on Accept-Encoding and Referer (RFC 9111 4.1 allows more)",
        )],
    },
    Scenario {
        name: "vary *",
        answer: ("200 OK", "Cache-Control: max-age=60\r\nVary: *\r\n"),
        requests: TWICE,
        ours: "200+ 200+",
        others: &[],
    },
    Scenario {
        name: "set-cookie",
        answer: ("200 OK", "Cache-Control: max-age=60\r\nSet-Cookie: a=b\r\n"),
        requests: TWICE,
        ours: "200+ 200+",
        others: &[("HAProxy", "200+ 200", "stores it, as RFC 9111 7.3 allows and warns of")],
    },
    Scenario {
        name: "authorization",
        answer: ("200 OK", "Cache-Control: max-age=60\r\n"),
        requests: &[
            ("GET", "Authorization: Basic YTpi\r\n"),
            ("GET", "Authorization: Basic YTpi\r\n"),
        ],
        ours: "200+ 200+",
        others: &[("nginx", "200+ 200", "stores it, against RFC 9111 3.5")],
    },
    Scenario {
        name: "authorization public",
        answer: ("200 OK", "Cache-Control: public, max-age=60\r\n"),
        requests: &[("GET", "Authorization: Basic YTpi\r\n"), ("GET", "")],
        ours: "200+ 200",
        others: &[(
            "Varnish",
            "200+ 200+",
            "passes whatever has Authorization; RFC 9111 3.5 allows to store this",
        )],
    },
    Scenario {
        name: "session cookie",
        answer: ("200 OK", "Cache-Control: max-age=60\r\n"),
        requests: &[("GET", ""), ("GET", "Cookie: sessionid=1\r\n"), ("GET", "")],
        ours: "200+ 200+ 200",
        others: &[],
    },
    Scenario {
        name: "other cookie",
        answer: ("200 OK", "Cache-Control: max-age=60\r\n"),
        requests: &[("GET", "Cookie: theme=dark\r\n"), ("GET", "Cookie: theme=light\r\n")],
        ours: "200+ 200",
        others: &[(
            "Varnish",
            "200+ 200+",
            "passes whatever has a cookie; RFC 9111 4 does not ask for it",
        )],
    },
    Scenario {
        name: "head after get",
        answer: ("200 OK", "Cache-Control: max-age=60\r\n"),
        requests: &[("GET", ""), ("HEAD", "")],
        ours: "200+ 200",
        others: &[],
    },
    Scenario {
        name: "get after head",
        answer: ("200 OK", "Cache-Control: max-age=60\r\n"),
        requests: &[("HEAD", ""), ("GET", "")],
        ours: "200+ 200+",
        others: &[
            ("Varnish", "200+ 200", "asks for the page when a HEAD comes, so the GET finds it"),
            ("nginx", "200+ 200", "asks for the page when a HEAD comes, so the GET finds it"),
        ],
    },
    Scenario {
        name: "post",
        answer: ("200 OK", "Cache-Control: max-age=60\r\n"),
        requests: &[("POST", "Content-Length: 0\r\n"), ("POST", "Content-Length: 0\r\n")],
        ours: "200+ 200+",
        others: &[],
    },
    Scenario {
        name: "post invalidates",
        answer: ("200 OK", "Cache-Control: max-age=60\r\n"),
        requests: &[("GET", ""), ("POST", "Content-Length: 0\r\n"), ("GET", "")],
        ours: "200+ 200+ 200+",
        others: &[
            (
                "Varnish",
                "200+ 200+ 200",
                "keeps what a POST may have changed, against RFC 9111 4.4",
            ),
            ("nginx", "200+ 200+ 200", "keeps what a POST may have changed, against RFC 9111 4.4"),
        ],
    },
    Scenario {
        name: "range",
        answer: ("200 OK", "Cache-Control: max-age=60\r\n"),
        requests: &[("GET", ""), ("GET", "Range: bytes=2-4\r\n")],
        ours: "200+ 206",
        others: &[
            (
                "nginx",
                "200+ 200",
                "sends all of what it has stored; RFC 9110 14.2 leaves that to the server",
            ),
            (
                "HAProxy",
                "200+ 200",
                "sends all of what it has stored; RFC 9110 14.2 leaves that to the server",
            ),
        ],
    },
    Scenario {
        name: "if-none-match",
        answer: ("200 OK", "Cache-Control: max-age=60\r\nETag: \"a\"\r\n"),
        requests: &[
            ("GET", ""),
            ("GET", "If-None-Match: \"a\"\r\n"),
            ("GET", "If-None-Match: \"b\"\r\n"),
        ],
        ours: "200+ 304 200",
        others: &[],
    },
    Scenario {
        name: "weak if-none-match",
        answer: ("200 OK", "Cache-Control: max-age=60\r\nETag: W/\"a\"\r\n"),
        requests: &[("GET", ""), ("GET", "If-None-Match: \"a\"\r\n")],
        ours: "200+ 304",
        others: &[],
    },
    Scenario {
        name: "if-modified-since",
        answer: (
            "200 OK",
            "Cache-Control: max-age=60\r\nLast-Modified: Sat, 01 Jan 2022 00:00:00 GMT\r\n",
        ),
        requests: &[("GET", ""), ("GET", "If-Modified-Since: Sat, 01 Jan 2022 00:00:00 GMT\r\n")],
        ours: "200+ 304",
        others: &[],
    },
    Scenario {
        name: "404 max-age",
        answer: ("404 Not Found", "Cache-Control: max-age=60\r\n"),
        requests: TWICE,
        ours: "404+ 404",
        others: &[("HAProxy", "404+ 404+", "stores nothing but 200; RFC 9111 3 allows more")],
    },
    Scenario {
        name: "301 max-age",
        answer: ("301 Moved Permanently", "Cache-Control: max-age=60\r\nLocation: /x\r\n"),
        requests: TWICE,
        ours: "301+ 301",
        others: &[("HAProxy", "301+ 301+", "stores nothing but 200; RFC 9111 3 allows more")],
    },
    Scenario {
        name: "302 nothing",
        answer: ("302 Found", "Location: /x\r\n"),
        requests: TWICE,
        ours: "302+ 302+",
        others: &[],
    },
    Scenario {
        name: "500 max-age",
        answer: ("500 Internal Server Error", "Cache-Control: max-age=60\r\n"),
        requests: TWICE,
        ours: "500+ 500",
        others: &[
            ("Varnish", "500+ 500+", "asks again for what failed; RFC 9111 3 allows to store it"),
            ("HAProxy", "500+ 500+", "stores nothing but 200; RFC 9111 3 allows more"),
        ],
    },
    Scenario {
        name: "client no-cache",
        answer: ("200 OK", "Cache-Control: max-age=60\r\n"),
        requests: &[("GET", ""), ("GET", "Cache-Control: no-cache\r\n")],
        ours: "200+ 200",
        others: &[(
            "HAProxy",
            "200+ 200+",
            "lets a visitor ask past it (RFC 9111 5.2.1.4), which here is a setting: `heeds_clients`",
        )],
    },
    Scenario {
        name: "client pragma",
        answer: ("200 OK", "Cache-Control: max-age=60\r\n"),
        requests: &[("GET", ""), ("GET", "Pragma: no-cache\r\n")],
        ours: "200+ 200",
        others: &[(
            "HAProxy",
            "200+ 200+",
            "lets a visitor ask past it (RFC 9111 5.4), which here is a setting: `heeds_clients`",
        )],
    },
    Scenario {
        name: "only-if-cached",
        answer: ("200 OK", "Cache-Control: max-age=60\r\n"),
        requests: &[("GET", "Cache-Control: only-if-cached\r\n")],
        ours: "200+",
        others: &[],
    },
    Scenario {
        name: "age in",
        answer: ("200 OK", "Cache-Control: max-age=60\r\nAge: 3600\r\n"),
        requests: TWICE,
        ours: "200+ 200+",
        others: &[("nginx", "200+ 200", "counts from when it came, against RFC 9111 4.2.3")],
    },
    Scenario {
        name: "tracker",
        answer: ("200 OK", "Cache-Control: max-age=60\r\n"),
        requests: &[("GET ?utm_source=a", ""), ("GET ?utm_source=b", "")],
        ours: "200+ 200",
        others: &[
            ("Varnish", "200+ 200+", "has no list of parameters that make no difference"),
            ("nginx", "200+ 200+", "has no list of parameters that make no difference"),
            ("HAProxy", "200+ 200+", "has no list of parameters that make no difference"),
        ],
    },
    Scenario {
        name: "get with body",
        answer: ("200 OK", "Cache-Control: max-age=60\r\n"),
        requests: &[("GET", ""), ("GET", "Content-Length: 0\r\n")],
        ours: "200+ 200",
        others: &[],
    },
    Scenario {
        name: "duplicate length",
        answer: ("200 OK", "Cache-Control: max-age=60\r\n"),
        requests: &[("POST", "Content-Length: 0\r\nContent-Length: 1\r\n")],
        ours: "400",
        others: &[],
    },
    Scenario {
        name: "no host",
        answer: ("200 OK", "Cache-Control: max-age=60\r\n"),
        requests: &[("GET", "NOHOST")],
        ours: "400",
        others: &[("HAProxy", "200+", "guesses, against RFC 9112 3.2")],
    },
];

#[tokio::test(flavor = "multi_thread")]
async fn the_same_origin_is_asked_as_by_varnish_nginx_and_haproxy_or_it_says_why() {
    let _quiet = crate::wire::QUIET.lock().await;
    let back_end = BackEnd::new(|request| {
        let target = request.split(' ').nth(1).unwrap_or_default();
        let number =
            target.split(['/', '?']).nth(1).and_then(|number| number.parse::<usize>().ok());
        let Some(scenario) = number.and_then(|number| SCENARIOS.get(number)) else {
            return "HTTP/1.1 200 OK\r\ncache-control: no-store\r\ncontent-length: 0\r\n\r\n"
                .into();
        };
        let (status, fields) = scenario.answer;
        let body = if request.starts_with("HEAD ") { "" } else { "0123456789" };
        format!("HTTP/1.1 {status}\r\n{fields}content-length: 10\r\n\r\n{body}")
    })
    .await;
    let folder = std::env::temp_dir().join(format!("throng-edge-oracles-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let origin = back_end.address.rsplit(':').next().unwrap().parse().unwrap();
    let setting = Setting { origin, folder: &folder, cache_mib: 16, under: &[] };
    let peers = [Peer::varnish(&setting), Peer::nginx(&setting), Peer::haproxy(&setting)];
    let running = run(Config::default(), &[&back_end]).await;
    let mut servers = vec![("throng", running.address.clone())];
    for peer in peers.iter().flatten() {
        servers.push((peer.name, format!("127.0.0.1:{}", peer.port)));
    }
    let mut wrong = Vec::new();
    for (number, scenario) in SCENARIOS.iter().enumerate() {
        let mut did = BTreeMap::new();
        for (name, address) in &servers {
            let mut said = Vec::new();
            for (method, fields) in scenario.requests {
                let before = back_end.requests();
                let (method, target) = method.split_once(' ').unwrap_or((method, ""));
                let (host, fields) = match *fields {
                    "HOST2" => ("Host: example.com\r\n", ""),
                    "NOHOST" => ("", ""),
                    fields => ("Host: example.org\r\n", fields),
                };
                let ask = format!(
                    "{method} /{number}{target} HTTP/1.1\r\n{host}Connection: close\r\n{fields}\r\n"
                );
                let stream = TcpStream::connect(address).await.unwrap();
                let mut client = Client::over(stream);
                client.stream.write_all(ask.as_bytes()).await.unwrap();
                let answer =
                    tokio::time::timeout(PATIENCE, client.rest()).await.expect("an answer");
                let status = answer.split(' ').nth(1).unwrap_or("nothing").to_owned();
                let asked = if back_end.requests() > before { "+" } else { "" };
                said.push(format!("{status}{asked}"));
            }
            did.insert(*name, said.join(" "));
        }
        for (name, said) in did {
            let other = scenario.others.iter().find(|(peer, ..)| *peer == name);
            let wanted = other.map_or(scenario.ours, |(_, said, _)| said);
            if said != wanted {
                wrong.push(format!("{}: {name} did `{said}`, not `{wanted}`", scenario.name));
            }
        }
    }
    drop(peers);
    let _ = std::fs::remove_dir_all(&folder);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

const PATIENCE: Duration = Duration::from_secs(60);
