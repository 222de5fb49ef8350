//! The body: the triple of arguments, keyword arguments and what follows the task.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::Message;

/// What a message's body says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Body {
    /// Positional arguments.
    pub args: Vec<Value>,
    /// Keyword arguments.
    pub kwargs: Map<String, Value>,
    /// Celery's callbacks, errbacks, chain and chord.
    pub embed: Value,
}

/// The content type of JSON bodies, the only one that is read.
pub(crate) const JSON: &str = "application/json";

impl Body {
    /// Reads a message's body; the error says what is wrong with it.
    pub(super) fn read(message: &Message) -> Result<Self, String> {
        if message.content_type != JSON {
            return Err(format!(
                "the body is `{}`, and only `{JSON}` is read",
                message.content_type
            ));
        }
        if let Some(compression) = message.header_value("compression") {
            return Err(format!("the body is compressed ({compression}), which is not read"));
        }
        let triple: Triple =
            serde_json::from_slice(&message.body).map_err(|error| error.to_string())?;
        let Triple(args, kwargs, embed) = triple;
        Ok(Self { args: args.unwrap_or_default(), kwargs: kwargs.unwrap_or_default(), embed })
    }

    pub(super) fn to_json(&self) -> Vec<u8> {
        let triple = (&self.args, &self.kwargs, &self.embed);
        serde_json::to_vec(&triple).expect("JSON values are always written")
    }
}

/// An embed that says that nothing follows.
pub(super) fn no_embed() -> Value {
    json!({"callbacks": null, "errbacks": null, "chain": null, "chord": null})
}

#[derive(Deserialize, Serialize)]
struct Triple(Option<Vec<Value>>, Option<Map<String, Value>>, Value);
