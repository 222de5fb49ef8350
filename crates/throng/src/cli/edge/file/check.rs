//! Whether an edge can run with what its file says, without starting anything.

use std::{fmt::Display, path::Path};

use throng_edge::Certificates;
use toml::Spanned;

use super::{
    Page, Rule,
    wrong::{FileError, Text},
};

impl Page {
    /// Reads `text`, the content of `path`, and checks that an edge can be made of it.
    pub(in super::super) fn read(path: &Path, text: &str) -> Result<Self, FileError> {
        let text = Text { path, text };
        let page: Self = text.parse()?;
        if let Some(listen) = &page.listen {
            socket(listen).map_err(|reason| text.wrong(&listen.span(), "listen", reason))?;
        }
        page.check_back_ends(text)?;
        for (at, network) in page.trust.iter().enumerate() {
            let parsed = network.get_ref().parse::<throng_edge::Network>();
            parsed.map_err(|error| text.wrong(&network.span(), &format!("trust[{at}]"), error))?;
        }
        page.check_tls(text)?;
        for (at, rule) in page.rule.iter().enumerate() {
            if rule.keep_ms.is_some() == rule.bypass {
                let reason = "a rule has either `keep_ms = 1000` or `bypass = true`";
                return Err(text.wrong(&rule.pattern.span(), &format!("rule[{at}]"), reason));
            }
        }
        page.check_settings(text)?;
        if let Some(folder) = &page.disk_folder {
            can_be_made(folder.get_ref())
                .map_err(|reason| text.wrong(&folder.span(), "disk_folder", reason))?;
        }
        Ok(page)
    }

    fn check_back_ends(&self, text: Text) -> Result<(), FileError> {
        if self.upstream.is_empty() {
            let reason =
                "there is no back end; add `[[upstream]]` and `url = \"http://host:port\"`";
            return Err(text.missing(reason));
        }
        let mut names = Vec::new();
        for (at, back_end) in self.upstream.iter().enumerate() {
            let wrong =
                |error| text.wrong(&back_end.url.span(), &format!("upstream[{at}].url"), error);
            let name = back_end.upstream(text.path).map_err(wrong)?.name().to_owned();
            if names.contains(&name) {
                return Err(wrong(throng_edge::Error::SameUpstream { name }));
            }
            names.push(name);
        }
        Ok(())
    }

    fn check_tls(&self, text: Text) -> Result<(), FileError> {
        if let Some(tls) = &self.tls {
            if tls.certificate.is_empty() && self.acme.is_none() {
                return Err(text.missing(NO_CERTIFICATE));
            }
            if let Some(listen) = &tls.listen {
                let wrong = |reason| text.wrong(&listen.span(), "tls.listen", reason);
                socket(listen).map_err(wrong)?;
            }
            for (at, certificate) in tls.certificate.iter().enumerate() {
                let read = Certificates::from_files([certificate.files(text.path)]);
                let (span, key) = (certificate.chain.span(), format!("tls.certificate[{at}]"));
                read.map_err(|error| text.wrong(&span, &key, error))?;
            }
        }
        if let Some(acme) = &self.acme {
            let wrong = |reason| text.wrong(&acme.names.span(), "acme.names", reason);
            if acme.names.get_ref().is_empty() {
                return Err(wrong("it is empty; it takes the names of the site"));
            }
            if cfg!(not(feature = "acme")) {
                return Err(wrong("this program was built without the feature `acme`"));
            }
        }
        Ok(())
    }

    /// Whether an edge can run with the numbers and patterns.
    fn check_settings(&self, text: Text) -> Result<(), FileError> {
        let mut config = throng_edge::Config::default();
        self.apply(&mut config);
        match config.check() {
            Err(throng_edge::Error::Setting { setting, value, reason }) => {
                let reason = format!("{value}: {reason}");
                let of_rule = |rule: &&Rule| *rule.pattern.get_ref() == value;
                if let ("policy.rules", Some(rule)) = (setting, self.rule.iter().find(of_rule)) {
                    return Err(text.wrong(&rule.pattern.span(), "rule.pattern", reason));
                }
                let (section, key) = setting.rsplit_once('.').unwrap_or(("", setting));
                let key = if key == "cache_bytes" { "cache_mib" } else { key };
                Err(text.wrong_key(&[section, "limits", "client"], key, &reason))
            }
            Err(error) => Err(text.missing(&error.to_string())),
            Ok(()) => Ok(()),
        }
    }
}

const NO_CERTIFICATE: &str = "`[tls]` has no certificate; add `[[tls.certificate]]` with \
                              `chain = \"fullchain.pem\"` and `key = \"privkey.pem\"`";

/// Whether `folder` can be written or made, without making it: an edge may be at work in it.
fn can_be_made(folder: &Path) -> Result<(), String> {
    let there = folder.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("."));
    let wrong = |reason: &dyn Display| {
        format!("cannot keep pages in `{}`: `{}` {reason}", folder.display(), there.display())
    };
    if !there.is_dir() {
        return Err(wrong(&"is no folder"));
    }
    rustix::fs::access(there, rustix::fs::Access::WRITE_OK)
        .map_err(|error| wrong(&format_args!("cannot be written: {error}")))
}

/// Whether `listen` says where to listen.
fn socket(listen: &Spanned<String>) -> Result<(), String> {
    let listen = listen.get_ref();
    match listen.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(()),
        _ => Err(format!(
            "`{listen}` is no address; write `127.0.0.1:8080`, `[::1]:8080` or `0.0.0.0:80`"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> String {
        Page::read(Path::new("edge.toml"), text).unwrap_err().to_string()
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line_and_what_would_be_right() {
        let good = "[[upstream]]\nurl = \"http://a:1\"\n";
        for (text, wants) in [
            ("", "edge.toml:1: there is no back end; add `[[upstream]]`"),
            ("listen = 80", "edge.toml:1: `listen`: invalid type: integer `80`, expected a string"),
            ("listen = \"here\"", "edge.toml:1: `listen`: `here` is no address; write `127.0"),
            (
                "\n[health]\nintervall_ms = 1",
                "edge.toml:3: `health.intervall_ms`: there is no such key; did you mean `interval_ms`?",
            ),
            (
                "[policy]\nelephant = 1",
                "edge.toml:2: `policy.elephant`: there is no such key here; ",
            ),
            (
                "[[upstream]]\nurl = \"a:1\"",
                "edge.toml:2: `upstream[0].url`: cannot use upstream `a:1`: ",
            ),
            ("[[upstream]]\nweight = 1", "edge.toml:1: `upstream[0]`: missing field `url`"),
            ("x = [", "edge.toml:1: "),
            (
                "balance = \"rr\"",
                "edge.toml:1: `balance`: unknown variant `rr`, expected one of `peak-ew",
            ),
        ] {
            assert!(said(text).starts_with(wants), "{text}: {}", said(text));
        }
        for (more, wants) in [
            (good, "edge.toml:4: `upstream[1].url`: upstream a:1 is there twice"),
            ("[[rule]]\npattern = \"/a\"", "edge.toml:4: `rule[0]`: a rule has either"),
            (
                "[[rule]]\npattern = \"a\"\nbypass = true",
                "edge.toml:4: `rule.pattern`: a: a pattern is for the whole path",
            ),
            (
                "[limits]\nretries = -1",
                "edge.toml:4: `limits.retries`: invalid value: integer `-1`",
            ),
            (
                "[limits]\n\nmax_fields = 0",
                "edge.toml:5: `limits.max_fields`: 0: nothing could ever",
            ),
            (
                "[policy]\nahead_percent = 101",
                "edge.toml:4: `policy.ahead_percent`: 101: it is a part",
            ),
            ("[health]\npath = \"up\"", "edge.toml:4: `health.path`: up: a path begins with `/`"),
        ] {
            let text = format!("{good}{more}");
            assert!(said(&text).starts_with(wants), "{text}: {}", said(&text));
        }
        let text = format!("trust = [\n\"10.0.0.0/33\"]\ncache_mib = 1\n{good}");
        assert!(said(&text).starts_with("edge.toml:2: `trust[0]`: `10.0.0.0/33` is no network"));
        for (line, wants) in [
            ("cache_mib = 0", "`cache_mib`: 0: a cache needs room"),
            ("purge_token = \"\"", "`purge_token`: (hidden): no purge can carry it"),
            ("disk_folder = \"Cargo.toml/pages\"", "`disk_folder`: cannot keep pages in `Cargo"),
        ] {
            let said = said(&format!("{line}\n{good}"));
            assert!(said.starts_with(&format!("edge.toml:1: {wants}")), "{said}");
        }
    }
}
