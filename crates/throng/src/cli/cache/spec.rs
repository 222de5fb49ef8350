//! What `cache` takes, with help and examples.

use clap::{Arg, ArgAction, Command};

use crate::cli::flag::flag;

pub(crate) fn spec(name: &'static str) -> Command {
    let json = || flag("json", "Print one JSON object a line");
    let url = || {
        let url = Arg::new("url").long("url").value_name("URL");
        url.help("The cache's engine URL [default: `cache.url` of the config]")
    };
    let key = || Arg::new("key").value_name("KEY").required(true);
    let keys = || {
        key().action(ArgAction::Append).help("Keys; `-` reads them from standard input, one a line")
    };
    Command::new("cache")
        .about("Look into the shared cache, and find out where its keys are")
        .subcommand_required(true)
        .disable_help_subcommand(true)
        .after_help(format!(
            "Examples:\n  {name} cache get front/2026-11-21\n  {name} cache where event/7 event/8 \
             --url 'memcached://10.0.0.1,10.0.0.2?ring=ketama'\n  {name} cache stats\n\n\
             Exit codes: 0 done, 1 a key is missing or a server does not answer, 2 wrong usage or \
             config."
        ))
        .subcommand(
            Command::new("get")
                .about("Print the values of keys; exit code 1 if one is missing or past its ttl")
                .arg(keys())
                .arg(url())
                .arg(json())
                .after_help(format!(
                    "Text prints as it is, everything else as JSON; of several keys each line begins \
                     with the key and a tab.\n\nExamples:\n  {name} cache get event/7\n  cut -f1 \
                     keys.txt | {name} cache get - --json"
                )),
        )
        .subcommand(
            Command::new("set")
                .about("Store a value")
                .arg(key().help("The key"))
                .arg(
                    Arg::new("value")
                        .value_name("VALUE")
                        .required(true)
                        .allow_hyphen_values(true)
                        .help("JSON, or else text; `-` reads it from standard input"),
                )
                .arg(
                    Arg::new("ttl")
                        .long("ttl")
                        .value_name("TIME")
                        .default_value("60s")
                        .help("How long it is fresh: `500ms`, `60s`, `2h`"),
                )
                .arg(flag("text", "Take the value as text even where it is JSON"))
                .arg(url())
                .arg(json())
                .after_help(format!(
                    "Other processes see it at once or, where they cannot be told, within two \
                     seconds.\n\nExamples:\n  {name} cache set greeting hello --ttl 10m\n  {name} cache \
                     set limits '{{\"seats\": 4}}' --ttl 1h"
                )),
        )
        .subcommand(
            Command::new("delete")
                .about("Delete keys, and tell how many were there")
                .arg(keys())
                .arg(url())
                .arg(json())
                .after_help(format!(
                    "Examples:\n  {name} cache delete event/7\n  {name} cache delete - < keys.txt"
                )),
        )
        .subcommand(
            Command::new("where")
                .about("Print the server that owns each key, asking none of them")
                .arg(keys())
                .arg(url())
                .arg(json())
                .after_help(format!(
                    "Each line is the key, a tab and the server.\n\nExamples:\n  {name} cache where \
                     event/7 event/8\n  {name} cache where - < keys.txt | cut -f2 | sort | uniq -c"
                )),
        )
        .subcommand(
            Command::new("stats")
                .about("Print what each server says of itself; exit code 1 if one does not answer")
                .arg(url())
                .arg(json().help("Print one JSON object a server, with every figure that it has"))
                .after_help(format!(
                    "Examples:\n  {name} cache stats\n  {name} cache stats --json | jq .stats.evictions"
                )),
        )
        .subcommand(
            Command::new("probe")
                .about("Find out which ring the Python clients of a memcached fleet use")
                .arg(keys())
                .arg(url())
                .arg(json())
                .after_help(format!(
                    "Give keys that the Python site wrote and that are still there, a few dozen. Each is \
                     looked for on each server, as it is and with Django's `:1:` in front; then every \
                     ring is tried. The URL's `ring` does not matter, its order of servers and `weights` \
                     do: write them as the Python site does. Exit code 1 if no ring fits, or several \
                     do.\n\nExamples:\n  {name} cache probe user:1 user:2 user:3 --url \
                     memcached://10.0.0.1,10.0.0.2,10.0.0.3\n  {name} cache probe - --url \
                     'memcached://10.0.0.1,10.0.0.2?weights=1,2' < keys.txt"
                )),
        )
}
