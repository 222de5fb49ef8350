//! One line of a bench: ours beside a peer, and what was to be reached.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One measured case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Case {
    /// What was measured, such as `event page`.
    pub(crate) case: String,
    /// What `ours` and `peer` count.
    pub(crate) unit: String,
    /// Our figure.
    pub(crate) ours: f64,
    /// The peer's figure, where there is a peer.
    pub(crate) peer: Option<f64>,
    /// Who the peer is.
    #[serde(default)]
    pub(crate) peer_name: String,
    /// A claim: `ratio >= 20`, `ours <= 5`; empty when the figure is only told.
    #[serde(default)]
    pub(crate) target: String,
}

impl Case {
    /// Ours divided by the peer's.
    pub(crate) fn ratio(&self) -> Option<f64> {
        self.peer.filter(|peer| *peer > 0.0).map(|peer| self.ours / peer)
    }

    /// Does the claim hold? `None` when there is none that can be read.
    pub(crate) fn is_met(&self) -> Option<bool> {
        let mut words = self.target.split_whitespace();
        let figure = match words.next()? {
            "ratio" => self.ratio()?,
            "ours" => self.ours,
            _ => return None,
        };
        let (claim, bound) = (words.next()?, words.next()?.parse::<f64>().ok()?);
        match claim {
            ">=" => Some(figure >= bound),
            "<=" => Some(figure <= bound),
            _ => None,
        }
    }

    /// The case as one JSON object.
    pub(crate) fn json(&self, room: &str) -> String {
        serde_json::json!({
            "room": room,
            "case": self.case,
            "unit": self.unit,
            "ours": rounded(self.ours),
            "peer": self.peer.map(rounded),
            "peer_name": self.peer_name,
            "ratio": self.ratio().map(rounded),
            "target": self.target,
            "met": self.is_met(),
        })
        .to_string()
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { case, unit, ours, peer, peer_name, target } = self;
        write!(f, "{case:<34} {:>10} {unit}", figure(*ours))?;
        if let Some(peer) = peer {
            write!(f, " | {peer_name} {}", figure(*peer))?;
        }
        if let Some(ratio) = self.ratio() {
            write!(f, " | ratio {}", figure(ratio))?;
        }
        match self.is_met() {
            Some(true) => write!(f, " | {target}: met"),
            Some(false) => write!(f, " | {target}: MISSED"),
            None => Ok(()),
        }
    }
}

/// Three digits that count.
fn figure(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        1.0.. => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

fn rounded(value: f64) -> f64 {
    figure(value).parse().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::Case;

    fn case(target: &str) -> Case {
        Case {
            case: "event page".into(),
            unit: "requests/s".into(),
            ours: 42.0,
            peer: Some(2.0),
            peer_name: "Django".into(),
            target: target.into(),
        }
    }

    #[test]
    fn claims_are_about_ours_or_the_ratio() {
        assert_eq!(case("ratio >= 20").is_met(), Some(true));
        assert_eq!(case("ratio <= 20").is_met(), Some(false));
        assert_eq!(case("ours <= 42").is_met(), Some(true));
        assert_eq!(case("").is_met(), None);
        assert_eq!(case("faster!").is_met(), None);
        assert_eq!(Case { peer: None, ..case("ratio >= 20") }.is_met(), None);
    }

    #[test]
    fn a_case_prints_as_one_line_and_as_one_object() {
        let line = "event page                               42.0 requests/s | Django 2.00 \
                    | ratio 21.0 | ratio >= 20: met";
        assert_eq!(case("ratio >= 20").to_string(), line);
        let object = r#"{"case":"event page","met":true,"ours":42.0,"peer":2.0,"peer_name":"Django","ratio":21.0,"room":"site","target":"ratio >= 20","unit":"requests/s"}"#;
        assert_eq!(case("ratio >= 20").json("site"), object);
    }
}
