//! The config: layers, errors, printing.

use std::{ffi::OsString, path::Path};

use proptest::prelude::*;
use throng::{
    Config,
    config::{KEYS, reference, to_json, to_toml},
};

/// Reads `toml` and `vars`; the error as text.
fn read(toml: &str, vars: &[(&str, &str)]) -> Result<Config, String> {
    let vars = vars.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    Config::read(Some((Path::new("throng.toml"), toml)), vars).map_err(|error| error.to_string())
}

#[test]
fn the_environment_wins_over_the_file_and_the_file_over_defaults() {
    let toml = "data = \"var\"\n\n[web]\nlisten = \"0.0.0.0:80\"\ndrain_ms = 5\n";
    let config = read(toml, &[("THRONG_WEB_LISTEN", "[::1]:81"), ("THRONG_WEB_GZIP", "")]).unwrap();
    assert_eq!(config.web.listen, "[::1]:81");
    assert_eq!(config.web.drain.as_millis(), 5);
    assert!(config.web.gzip, "an empty variable is not set");
    assert_eq!(config.database.to_string(), "sqlite:var/site.db");
    let printed = to_toml(&config);
    let line = |key: &str| printed.lines().find(|line| line.starts_with(key)).unwrap().to_owned();
    assert!(line("listen").ends_with("# THRONG_WEB_LISTEN"), "{printed}");
    assert!(line("drain_ms").ends_with("# throng.toml:5"), "{printed}");
    assert!(line("gzip").ends_with("# default"), "{printed}");
}

#[test]
fn each_mistake_names_its_place_and_what_would_be_right() {
    type Case = (&'static str, &'static [(&'static str, &'static str)], &'static str);
    let cases: &[Case] = &[
        (
            "[web]\nlisen = \"x\"",
            &[],
            "throng.toml:2: unknown config key `web.lisen`; did you mean `web.listen`?",
        ),
        (
            "[wep]\nlisten = \"x\"",
            &[],
            "throng.toml:1: unknown config key `wep`; did you mean `web`?",
        ),
        (
            "colour = 1",
            &[],
            "throng.toml:1: unknown config key `colour`; `config --reference` lists those there are",
        ),
        (
            "",
            &[("THRONG_WEB_LISTENS", "x")],
            "THRONG_WEB_LISTENS: unknown config key `THRONG_WEB_LISTENS`; did you mean `THRONG_WEB_LISTEN`?",
        ),
        (
            "[web]\ndrain_ms = \"5\"",
            &[],
            "throng.toml:2: `web.drain_ms` is the text `\"5\"`; it takes a whole number from 0 to 3600000",
        ),
        (
            "[web]\ndrain_ms = -1",
            &[],
            "throng.toml:2: `web.drain_ms` is `-1`; it takes a whole number from 0 to 3600000",
        ),
        (
            "[web]\ngzip = 1",
            &[],
            "throng.toml:2: `web.gzip` is the number `1`; it takes `true` or `false`",
        ),
        (
            "",
            &[("THRONG_WEB_GZIP", "yes")],
            "THRONG_WEB_GZIP: `web.gzip` is `yes`; it takes `true` or `false`",
        ),
        (
            "[web]\npublic_url = \"tickets.example\"",
            &[],
            "throng.toml:2: `web.public_url` is `tickets.example`; it takes an address such as `https://tickets.example`",
        ),
        (
            "",
            &[("THRONG_WEB_TRUSTED_ORIGINS", "https://www.example, shop.example")],
            "THRONG_WEB_TRUSTED_ORIGINS: `web.trusted_origins` is `https://www.example, shop.example`; it takes origins such as `https://www.example`",
        ),
        (
            "[log]\nlevel = \"warning,throng=debug\"",
            &[],
            "throng.toml:2: `log.level` is `warning,throng=debug`; it takes `error`, `warn`, `info`, `debug`, `trace` or a filter such as `info,throng=debug`, and `warning` is neither",
        ),
        (
            "env = \"prod\"",
            &[],
            "throng.toml:1: `env` is `prod`; it takes `\"development\"` or `\"production\"`",
        ),
        (
            "web = 1",
            &[],
            "throng.toml:1: `web` is the number `1`; it takes a section: `[web]` and its keys below it",
        ),
        (
            "[web]\nlisten = \"8000\"",
            &[],
            "throng.toml:2: `web.listen` is `8000`; it takes `\"address:port\"`, such as `\"127.0.0.1:8000\"`",
        ),
        (
            "secret_key = \"hunter2\"",
            &[],
            "throng.toml:1: `secret_key` is not right; it takes at least 32 characters",
        ),
        (
            "[ids]\nnodes = \"0-1024\"",
            &[],
            "throng.toml:2: `ids.nodes` is `0-1024`; it takes a range within 0 to 1023, such as `\"0-99\"`",
        ),
        (
            "[cache]\nurl = \"redis//x\"",
            &[],
            "throng.toml:2: `cache.url` is not a URL; it takes an engine URL in quotes, such as `\"memory:\"`: `redis//x` has no scheme; a URL looks like `sqlite:data/site.db`",
        ),
        ("[web\n", &[], "throng.toml:1 is not TOML: "),
    ];
    for (toml, vars, words) in cases {
        let error = read(toml, vars).unwrap_err();
        assert!(error.starts_with(words), "{error}\n{words}");
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn secrets_do_not_print() {
    let toml = "secret_key = \"hunter2hunter2hunter2hunter2hunter2\"\nsecret_key_fallbacks = [\"hunter2\"]\n\
                [database]\nurl = \"sqlite:x.db\"\n[mail]\nurl = \"smtp://me:hunter2@host:587\"";
    let config = read(toml, &[]).unwrap();
    for printed in [to_toml(&config), to_json(&config).to_string(), format!("{config:?}")] {
        assert!(!printed.contains("hunter2"), "{printed}");
    }
    assert_eq!(config.mail.password().unwrap().reveal(), "hunter2");
}

#[test]
fn a_data_folder_with_odd_letters_makes_a_right_url() {
    let config = read("data = \"my sites/50%?#\"", &[]).unwrap();
    assert_eq!(config.database.path(), "my sites/50%?#/site.db");
}

#[test]
fn every_key_has_a_section_a_default_and_words() {
    let defaults = read("", &[]).unwrap();
    for key in KEYS {
        assert!(key.about.ends_with('.'), "{}", key.name);
        assert!(key.name.matches('.').count() <= 1, "{}", key.name);
    }
    assert_eq!(to_json(&defaults).as_array().unwrap().len(), KEYS.len());
    // What prints can be read back.
    let printed = to_toml(&defaults);
    read(&printed, &[]).unwrap();
}

#[test]
fn the_reference_page_is_the_one_in_docs() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/config.md");
    let page = std::fs::read_to_string(&path).unwrap_or_default();
    let fresh = reference();
    assert!(
        page == fresh,
        "docs/config.md is not what the keys say; run `cargo run -p throng -- config --reference > docs/config.md`"
    );
}

proptest! {
    #[test]
    fn no_config_file_breaks_the_program(text in "\\PC{0,300}") {
        let _ = read(&text, &[]);
    }

    #[test]
    fn no_config_value_breaks_the_program(
        key in proptest::sample::select(KEYS.iter().map(|key| key.name).collect::<Vec<_>>()),
        value in prop_oneof!["\\PC{0,60}", "-?[0-9]{1,30}", "[\"\\[\\],a-z0-9:/@%?=.-]{0,40}"],
    ) {
        let _ = read(&format!("{key} = {value}"), &[]);
        let name = format!("THRONG_{}", key.replace('.', "_").to_uppercase());
        if let Ok(config) = read("", &[(&name, &value)]) {
            let _ = (to_toml(&config), to_json(&config));
        }
    }
}
