//! What may be kept, for how long, and for whom: the one setting of the page cache.

use throng_core::stars;

/// What the cache does beside what the responses say. [`Policy::talks`] is the default.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Policy {
    /// How long a page that says nothing about it stays fresh, in milliseconds. Defaults to 60,000.
    pub default_ttl_ms: u64,
    /// Whether Last-Modified alone may make a page fresh for a tenth of its age, at most a day.
    /// Defaults to off: `default_ttl_ms` is what counts.
    pub is_heuristic: bool,
    /// How long a stale page is served while one request fetches the new one, in milliseconds,
    /// where the response does not say `stale-while-revalidate` itself. Defaults to 10,000.
    pub grace_ms: u64,
    /// When a page that is asked for is fetched anew, behind its visitors' backs: in the last part of
    /// its time, at a moment of its own, so that pages which came together do not run out together.
    /// In percent of the time for which it is fresh; pages that are fresh for less than ten seconds
    /// are left alone. Defaults to 25; 0 is never before it runs out.
    pub ahead_percent: u32,
    /// How long a stale page is served when the back end fails, in milliseconds, where the response
    /// does not say `stale-if-error` itself. Defaults to a day.
    pub sick_ms: u64,
    /// The same while the site is read-only. Defaults to seven days.
    pub read_only_ms: u64,
    /// Rules by path; the first that matches counts. Defaults to none.
    pub rules: Vec<Rule>,
    /// Cookies of a visitor who is signed in: such a request is never answered from the cache and
    /// its answer is never stored, whatever the application says. A trailing `*` matches any rest.
    /// Defaults to `sessionid` and `messages`, Django's names and ours.
    pub session_cookies: Vec<String>,
    /// Cookies that reach the application but make no difference to a page; an answer that depends
    /// on one sets it again and is not stored for that. Defaults to `csrftoken`, and
    /// `throng_seen`, with which a throng site remembers how much of the database a visitor has seen.
    pub neutral_cookies: Vec<String>,
    /// Cookies of trackers, which are taken out of requests that the cache may answer. Defaults to
    /// those of the usual analytics.
    pub tracking_cookies: Vec<String>,
    /// Query parameters of trackers, which are taken out of such requests. Defaults to `utm_*`,
    /// `fbclid`, `gclid` and their like.
    pub tracking_parameters: Vec<String>,
    /// Whether an answer with Set-Cookie may be stored. Defaults to false; RFC 9111 allows it.
    pub stores_cookies: bool,
    /// Whether `Cache-Control` in a request counts. Defaults to false: a visitor who reloads must
    /// not be able to turn the cache off.
    pub heeds_clients: bool,
    /// Whether a page that varies on Accept-Language and names its Content-Language also serves whoever
    /// likes that language best, whatever else he would take. Defaults to false: RFC 9111 4.1 compares
    /// what was asked for, not what was answered, and a site may look at more than the first language.
    pub selects_language: bool,
    /// How long it is remembered that an address cannot be cached, so that its visitors do not
    /// queue behind each other, in milliseconds. Defaults to 120,000.
    pub hit_for_miss_ms: u64,
    /// How long one failure of the back end keeps further visitors of a stored page from waiting
    /// for it, in milliseconds. Defaults to 1,000.
    pub sick_pause_ms: u64,
    /// The largest body that is stored, in bytes. Defaults to 8 MiB.
    pub max_object_bytes: u64,
    /// How many variants (`Vary`) one address may have. The oldest leaves first. Defaults to 32.
    pub max_variants: usize,
}

/// What a pattern of paths gets instead.
#[derive(Clone, Debug)]
pub struct Rule {
    /// A path in which `*` matches anything, such as `/events/*` or `*.pdf`.
    pub pattern: String,
    /// What to do with it.
    pub action: Action,
}

/// See [`Rule`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// Keep an answer this long, whatever it says, unless it says `private` or `no-store`, sets a
    /// cookie, or the visitor is signed in. One or two seconds is the talks' micro-cache.
    Keep {
        /// Milliseconds for which it is fresh.
        ttl_ms: u64,
    },
    /// Never look here and never store.
    Bypass,
}

impl Policy {
    /// What the talks run: pages for visitors who are not signed in are kept for a minute.
    #[must_use]
    pub fn talks() -> Self {
        let all = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Self {
            default_ttl_ms: 60_000,
            is_heuristic: false,
            grace_ms: 10_000,
            ahead_percent: 25,
            sick_ms: DAY_MS,
            read_only_ms: 7 * DAY_MS,
            rules: Vec::new(),
            session_cookies: all(&["sessionid", "messages"]),
            neutral_cookies: all(&["csrftoken", "throng_seen"]),
            tracking_cookies: all(&[
                "_ga*",
                "_gid",
                "_gat*",
                "_gcl_*",
                "__utm*",
                "_fbp",
                "_fbc",
                "_pk_*",
                "_hj*",
                "_clck",
                "_clsk",
                "_uet*",
                "__hs*",
                "hubspotutk",
                "_ym_*",
                "_scid",
                "_tt_*",
                "ajs_*",
                "mp_*",
                "amplitude_*",
                "optimizely*",
                "__cf_bm",
            ]),
            tracking_parameters: all(&[
                "utm_*", "fbclid", "gclid", "gclsrc", "dclid", "gbraid", "wbraid", "msclkid",
                "mc_cid", "mc_eid", "_ga", "_gl", "_hsenc", "_hsmi", "igshid", "ttclid", "twclid",
                "yclid", "srsltid", "mtm_*", "pk_*",
            ]),
            stores_cookies: false,
            heeds_clients: false,
            selects_language: false,
            hit_for_miss_ms: 120_000,
            sick_pause_ms: 1_000,
            max_object_bytes: 8 << 20,
            max_variants: 32,
        }
    }

    /// RFC 9111 and nothing else: no cookie is special, only what responses say makes them fresh.
    #[must_use]
    pub fn rfc() -> Self {
        Self {
            default_ttl_ms: 0,
            is_heuristic: true,
            grace_ms: 0,
            ahead_percent: 0,
            session_cookies: Vec::new(),
            neutral_cookies: Vec::new(),
            tracking_cookies: Vec::new(),
            tracking_parameters: Vec::new(),
            stores_cookies: true,
            heeds_clients: true,
            ..Self::talks()
        }
    }

    /// What the first rule for `path` says.
    pub(crate) fn action(&self, path: &str) -> Option<Action> {
        self.rules.iter().find(|rule| stars::matches(&rule.pattern, path)).map(|rule| rule.action)
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::talks()
    }
}

const DAY_MS: u64 = 86_400_000;
