//! Messages for the next page, stored as Django's messages framework stores them in a session.

use serde_json::{Value, json};

/// Something to say to the visitor on the next page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// How good or bad it is.
    pub level: Level,
    /// The words; not escaped.
    pub text: String,
}

/// How good or bad a [`Message`] is; numbered as in Django.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Level {
    /// For developers.
    Debug = 10,
    /// For your information.
    Info = 20,
    /// It worked.
    Success = 25,
    /// It worked, but.
    Warning = 30,
    /// It did not work.
    Error = 40,
}

impl Level {
    /// `info`, `success`…: a class name for style sheets.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Success => "success",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }

    fn from_number(number: i64) -> Self {
        match number {
            ..20 => Self::Debug,
            20..25 => Self::Info,
            25..30 => Self::Success,
            30..40 => Self::Warning,
            _ => Self::Error,
        }
    }
}

impl Message {
    /// A JSON list of `["__json_message", is_safe, level, text]`, itself kept as text.
    pub(crate) fn to_django(messages: &[Self]) -> String {
        let rows: Vec<Value> = messages
            .iter()
            .map(|message| json!(["__json_message", 0, message.level as i64, message.text]))
            .collect();
        Value::Array(rows).to_string()
    }

    pub(crate) fn from_django(text: &str) -> Vec<Self> {
        let rows: Vec<Vec<Value>> = serde_json::from_str(text).unwrap_or_default();
        let read = |row: Vec<Value>| match row.as_slice() {
            [Value::String(kind), _, level, Value::String(text), ..]
                if kind == "__json_message" =>
            {
                let level = Level::from_number(level.as_i64().unwrap_or(20));
                Some(Self { level, text: text.clone() })
            }
            _ => None,
        };
        rows.into_iter().filter_map(read).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_djangos() {
        let messages = vec![Message { level: Level::Success, text: "Saved".to_owned() }];
        let text = Message::to_django(&messages);
        assert_eq!(text, r#"[["__json_message",0,25,"Saved"]]"#);
        assert_eq!(Message::from_django(&text), messages);
        assert_eq!(Message::from_django("rubbish"), []);
        assert_eq!(Message::from_django(r#"[["__json_message",1,20,"hi",["tag"]],[3]]"#).len(), 1);
    }
}
