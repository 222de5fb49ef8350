//! Which chords wait for a task.

use serde_json::{Value, json};

use super::Message;
use crate::{Result, TaskId};

/// A chord that waits for a task.
#[derive(Clone, Debug)]
pub(crate) struct Awaited {
    pub(crate) group: String,
    /// The part that it waits for: the task, or the last of the chain that the task begins.
    pub(crate) id: TaskId,
    pub(crate) index: Option<u64>,
    /// The signature of what runs when all parts are there.
    pub(crate) body: Value,
}

impl Message {
    /// Makes it a part of a group, and with `chord` of one whose body runs when all parts are done.
    /// Of a chain the last is the part.
    pub(crate) fn in_group(
        mut self,
        group: &str,
        index: usize,
        chord: Option<&Self>,
    ) -> Result<Self> {
        let chord = chord.map(Self::signature).transpose()?;
        let mut is_chain = false;
        if self.embed().is_some() || chord.is_some() {
            self.change_embed(|embed| {
                let chain = embed["chain"].as_array_mut();
                if let Some(last) = chain.and_then(|chain| chain.first_mut()) {
                    is_chain = true;
                    join(&mut last["options"], group, index, chord.as_ref());
                } else if let Some(chord) = chord {
                    embed["chord"] = chord;
                }
                Ok(())
            })?;
        }
        if is_chain {
            return Ok(self);
        }
        Ok(self.header("group", group).header("group_index", index))
    }

    /// Takes this as the first of its arguments, as if it followed what returned it.
    pub(crate) fn after(mut self, result: Value) -> Result<Self> {
        if !self.is_immutable() {
            let mut body = self.read_body()?;
            body.args.insert(0, result);
            self.write_body(&body);
        }
        Ok(self)
    }

    /// The chord that the task itself is a part of.
    pub(crate) fn awaited(&self, embed: &Value) -> Option<Awaited> {
        let group = self.header_value("group")?.as_str()?.to_owned();
        let index = self.header_value("group_index").and_then(Value::as_u64);
        let body = embed["chord"].is_object().then(|| embed["chord"].clone())?;
        Some(Awaited { group, id: self.id(), index, body })
    }

    /// The chords that cannot be complete when the task has failed: its own, and that of its chain.
    pub(crate) fn awaited_in_vain(&self, embed: &Value) -> Vec<Awaited> {
        let of_chain = |next: &Value| {
            let options = &next["options"];
            let group = options["group_id"].as_str()?.to_owned();
            let body = options["chord"].is_object().then(|| options["chord"].clone())?;
            let id = options["task_id"].as_str().map_or_else(|| self.id(), TaskId::from);
            Some(Awaited { group, id, index: options["group_index"].as_u64(), body })
        };
        let chain = embed["chain"].as_array().into_iter().flatten().filter_map(of_chain);
        self.awaited(embed).into_iter().chain(chain).collect()
    }

    /// Whether a chord must hear when it ends, however it does.
    pub(crate) fn is_awaited(&self) -> bool {
        self.embed().is_some_and(|embed| !self.awaited_in_vain(&embed).is_empty())
    }
}

/// Makes a signature, whose options these are, a part of a chord.
pub(super) fn join(options: &mut Value, group: &str, index: usize, chord: Option<&Value>) {
    options["group_id"] = json!(group);
    options["group_index"] = json!(index);
    if let Some(chord) = chord {
        options["chord"] = chord.clone();
    }
}
