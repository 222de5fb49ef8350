//! What follows a task: Celery's chains, callbacks, groups and chords, as they stand in a message.
//!
//! A signature is a task that is not yet sent: its name, some of its arguments, and options. The
//! result of what it follows becomes its first argument, unless it is immutable.

use serde_json::{Map, Value, json};

use super::{Body, Message, body, chord};
use crate::{Error, Result, TaskId};

/// Tasks to be pushed now, and the chord that they are the parts of, if they are.
#[derive(Debug, Default)]
pub(crate) struct Next {
    pub(crate) messages: Vec<Message>,
    /// Its group and how many parts it has; noted before the parts are pushed.
    pub(crate) chord: Option<(String, usize)>,
}

impl Message {
    /// Runs `next` after this task is done, with its result as the first argument. Called again, it
    /// adds to the end of the chain.
    ///
    /// # Errors
    /// [`Error::Arguments`] when a body cannot be read.
    pub fn then(mut self, mut next: Self) -> Result<Self> {
        let after = next.take_embed("chain")?;
        self.change_embed(|embed| {
            // Celery takes the next from the end, so that what is added last stands first.
            let mut chain = after.as_array().cloned().unwrap_or_default();
            chain.push(next.signature()?);
            chain.extend(embed["chain"].as_array().cloned().unwrap_or_default());
            embed["chain"] = Value::Array(chain);
            Ok(())
        })?;
        Ok(self)
    }

    /// Also runs `callback` when this task is done, with its result as the first argument.
    ///
    /// # Errors
    /// [`Error::Arguments`] when a body cannot be read.
    pub fn on_done(self, callback: &Self) -> Result<Self> {
        self.add_to("callbacks", callback)
    }

    /// Runs `errback` when this task has failed for good, with its id as the first argument.
    ///
    /// # Errors
    /// [`Error::Arguments`] when a body cannot be read.
    pub fn on_failure(self, errback: &Self) -> Result<Self> {
        self.add_to("errbacks", errback)
    }

    /// Takes its arguments as they are when it follows another task.
    #[must_use]
    pub fn immutable(self) -> Self {
        self.header(IMMUTABLE, true)
    }

    /// What follows the task; none for most.
    pub(crate) fn embed(&self) -> Option<Value> {
        // Most messages say that nothing does, in our words or in Python's.
        if NOTHING.iter().any(|nothing| self.body.ends_with(nothing)) {
            return None;
        }
        let embed = self.read_body().ok()?.embed;
        let is_something = |value: &Value| match value {
            Value::Array(values) => !values.is_empty(),
            value => !value.is_null(),
        };
        let parts = ["callbacks", "errbacks", "chain", "chord"];
        parts.iter().any(|part| is_something(&embed[*part])).then_some(embed)
    }

    /// What a signature of a message that `self` is followed by comes to. `result` is what comes
    /// before its own arguments, `chain` what follows it, `nth` tells it from others of this task.
    pub(crate) fn follow_with(
        &self,
        signature: &Value,
        result: Option<&Value>,
        chain: &[Value],
        nth: &str,
    ) -> Result<Next> {
        let wrong = |what: &str| Error::Malformed(format!("what follows the task {what}"));
        let options = &signature["options"];
        let tasks = |value: &Value| value.as_array().cloned().unwrap_or_default();
        match signature["subtask_type"].as_str() {
            Some("chain") => {
                let mut all = chain.to_vec();
                let mut inner = tasks(&signature["kwargs"]["tasks"]);
                if inner.is_empty() {
                    return Err(wrong("is an empty chain"));
                }
                let first = inner.remove(0);
                all.extend(inner.into_iter().rev());
                self.follow_with(&first, result, &all, nth)
            }
            Some("group") => {
                if !chain.is_empty() {
                    return Err(wrong("is a group in the middle of a chain"));
                }
                let group = self.id_of(options, &format!("{nth}.group"));
                self.parts(&tasks(&signature["kwargs"]["tasks"]), result, &group, None, nth)
            }
            Some("chord") => {
                let header = &signature["kwargs"]["header"];
                let parts = match header.as_array() {
                    Some(parts) => parts.clone(),
                    None => tasks(&header["kwargs"]["tasks"]),
                };
                let of_part = parts.first().and_then(|part| part["options"]["group_id"].as_str());
                let group = of_part.map(TaskId::from);
                let group = group
                    .unwrap_or_else(|| self.id_of(&header["options"], &format!("{nth}.chord")));
                let mut body = signature["kwargs"]["body"].clone();
                let id = self.id_of(&body["options"], &format!("{nth}.body"));
                body["options"]["task_id"] = json!(id);
                if !chain.is_empty() {
                    body["options"]["chain"] = json!(chain);
                }
                if parts.is_empty() {
                    return self.follow_with(&body, Some(&json!([])), &[], nth);
                }
                let next = self.parts(&parts, result, &group, Some(&body), nth)?;
                Ok(Next { chord: Some((group.to_string(), next.messages.len())), ..next })
            }
            _ => {
                let message = self.follow_with_one(signature, result, chain, nth)?;
                Ok(Next { messages: vec![message], chord: None })
            }
        }
    }

    fn parts(
        &self,
        parts: &[Value],
        result: Option<&Value>,
        group: &TaskId,
        body: Option<&Value>,
        nth: &str,
    ) -> Result<Next> {
        let mut messages = Vec::with_capacity(parts.len());
        for (index, part) in parts.iter().enumerate() {
            // Of a chain the last is the part.
            let mut chain = match part["subtask_type"].as_str() {
                None | Some("task") => vec![part.clone()],
                Some("chain") => part["kwargs"]["tasks"].as_array().cloned().unwrap_or_default(),
                _ => Vec::new(),
            };
            let is_plain = |part: &Value| {
                let options = &part["options"];
                matches!(part["subtask_type"].as_str(), None | Some("task"))
                    && part.is_object()
                    && (options.is_null() || options.is_object())
            };
            let (true, Some(last)) = (chain.iter().all(is_plain), chain.last_mut()) else {
                let reason = "what follows the task is a group of what is no task and no chain";
                return Err(Error::Malformed(reason.into()));
            };
            chord::join(&mut last["options"], group.as_str(), index, body);
            let first = chain.remove(0);
            chain.reverse();
            let nth = format!("{nth}.{index}");
            messages.push(self.follow_with_one(&first, result, &chain, &nth)?);
        }
        Ok(Next { messages, chord: None })
    }

    fn follow_with_one(
        &self,
        signature: &Value,
        result: Option<&Value>,
        chain: &[Value],
        nth: &str,
    ) -> Result<Self> {
        let Some(name) = signature["task"].as_str() else {
            return Err(Error::Malformed("what follows the task has no name".into()));
        };
        let options = &signature["options"];
        let mut args = signature["args"].as_array().cloned().unwrap_or_default();
        if signature["immutable"] != json!(true) {
            args.splice(0..0, result.cloned());
        }
        let kwargs = signature["kwargs"].as_object().cloned().unwrap_or_default();
        let list = |value: &Value| match value {
            Value::Null => Value::Null,
            Value::Array(values) if values.is_empty() => Value::Null,
            Value::Array(_) => value.clone(),
            one => json!([one]),
        };
        let own = options["chain"].as_array().cloned().unwrap_or_default();
        let chain: Vec<Value> = chain.iter().cloned().chain(own).collect();
        let embed = json!({
            "callbacks": list(&options["link"]),
            "errbacks": list(&options["link_error"]),
            "chain": if chain.is_empty() { Value::Null } else { json!(chain) },
            "chord": options["chord"],
        });
        let id = self.id_of(options, nth);
        let queue = options["queue"].as_str().or_else(|| options["routing_key"].as_str());
        let mut message = Self::from_body(name.to_owned(), &Body { args, kwargs, embed })
            .with_id(id)
            .queue(queue.unwrap_or(self.queue_name()));
        let root = self.header_value("root_id").cloned().unwrap_or_else(|| json!(self.id()));
        message = message.header("root_id", root).header("parent_id", json!(self.id()));
        for (header, option) in [
            ("group", "group_id"),
            ("group_index", "group_index"),
            ("eta", "eta"),
            ("ignore_result", "ignore_result"),
            ("expires", "expires"),
        ] {
            if !options[option].is_null() {
                message = message.header(header, options[option].clone());
            }
        }
        if let Some(wait) = options["countdown"].as_f64().filter(|wait| *wait > 0.0) {
            message =
                message.delay(std::time::Duration::try_from_secs_f64(wait).unwrap_or_default());
        }
        if !options["time_limit"].is_null() || !options["soft_time_limit"].is_null() {
            let limits = json!([options["time_limit"], options["soft_time_limit"]]);
            message = message.header("timelimit", limits);
        }
        let priority = options["priority"].as_u64().unwrap_or(u64::from(self.priority_level()));
        message = message.priority(u8::try_from(priority).unwrap_or(9));
        let reply_to = options.get("reply_to").or_else(|| self.properties.get("reply_to"));
        if let Some(reply_to) = reply_to.filter(|reply_to| reply_to.is_string()) {
            message.properties.insert("reply_to", reply_to.clone());
        }
        message.complete();
        message.check()?;
        Ok(message)
    }

    /// The id that a signature was given, or one that is the same whenever this is done again.
    fn id_of(&self, options: &Value, nth: &str) -> TaskId {
        let made = || TaskId::from(format!("{}.{nth}", self.id()));
        let given = options["task_id"].as_str().map(TaskId::from);
        given.unwrap_or_else(|| {
            let made = made();
            if made.as_str().len() > 150 { TaskId::random() } else { made }
        })
    }

    pub(super) fn is_immutable(&self) -> bool {
        self.header_value(IMMUTABLE) == Some(&json!(true))
    }

    pub(super) fn signature(&self) -> Result<Value> {
        let Body { args, kwargs, embed } = self.read_body()?;
        let mut options = Map::new();
        options.insert("task_id".into(), json!(self.id()));
        options.insert("queue".into(), json!(self.queue_name()));
        if self.priority_level() > 0 {
            options.insert("priority".into(), json!(self.priority_level()));
        }
        for (option, part) in
            [("link", "callbacks"), ("link_error", "errbacks"), ("chord", "chord")]
        {
            if !embed[part].is_null() {
                options.insert(option.into(), embed[part].clone());
            }
        }
        if !embed["chain"].is_null() {
            options.insert("chain".into(), embed["chain"].clone());
        }
        Ok(json!({
            "task": self.name(),
            "args": args,
            "kwargs": kwargs,
            "options": options,
            "subtask_type": null,
            "immutable": self.is_immutable(),
        }))
    }

    fn add_to(mut self, part: &str, message: &Self) -> Result<Self> {
        let signature = message.signature()?;
        self.change_embed(|embed| {
            let mut all = embed[part].as_array().cloned().unwrap_or_default();
            all.push(signature);
            embed[part] = Value::Array(all);
            Ok(())
        })?;
        Ok(self)
    }

    fn take_embed(&mut self, part: &str) -> Result<Value> {
        let mut taken = Value::Null;
        self.change_embed(|embed| {
            taken = embed[part].take();
            Ok(())
        })?;
        Ok(taken)
    }

    pub(super) fn change_embed(
        &mut self,
        change: impl FnOnce(&mut Value) -> Result<()>,
    ) -> Result<()> {
        let mut body = self.read_body()?;
        if !body.embed.is_object() {
            body.embed = body::no_embed();
        }
        change(&mut body.embed)?;
        self.write_body(&body);
        Ok(())
    }
}

const IMMUTABLE: &str = "throng_immutable";
/// How bodies end that nothing follows.
const NOTHING: [&[u8]; 2] = [
    br#"{"callbacks":null,"chain":null,"chord":null,"errbacks":null}]"#,
    br#"{"callbacks": null, "errbacks": null, "chain": null, "chord": null}]"#,
];

#[cfg(test)]
mod tests {
    use super::*;

    fn task(name: &str, args: Value) -> Message {
        Message::new(name, args).unwrap().queue("q")
    }

    #[test]
    fn most_messages_are_followed_by_nothing() {
        let message = task("a", json!([1]));
        assert!(NOTHING.iter().any(|nothing| message.body.ends_with(nothing)));
        assert!(message.embed().is_none());
    }

    #[test]
    fn a_chain_goes_on_from_its_end() {
        let chain = task("b", json!([2])).then(task("c", json!([3]))).unwrap();
        let message =
            task("a", json!([1])).then(chain).unwrap().then(task("d", json!([4]))).unwrap();
        let mut names = Vec::new();
        let mut at = message;
        while let Some(embed) = at.embed() {
            let mut chain = embed["chain"].as_array().unwrap().clone();
            let next = chain.pop().unwrap();
            let next = at.follow_with(&next, Some(&json!("r")), &chain, "0").unwrap();
            at = next.messages.into_iter().next().unwrap();
            names.push((at.name().to_owned(), at.read_body().unwrap().args));
        }
        let with = |name: &str, number: i64| (name.to_owned(), vec![json!("r"), json!(number)]);
        assert_eq!(names, [with("b", 2), with("c", 3), with("d", 4)]);
    }

    #[test]
    fn what_follows_has_one_id_however_often_it_is_made() {
        let message = task("a", json!([]));
        let signature = json!({"task": "b", "args": [1], "immutable": true, "options": {}});
        let make = || message.follow_with(&signature, Some(&json!(7)), &[], "0").unwrap();
        let (first, second) = (make(), make());
        assert_eq!(first.messages[0].id(), second.messages[0].id());
        assert_eq!(first.messages[0].read_body().unwrap().args, [json!(1)]);
        assert_eq!(first.messages[0].queue_name(), "q");
    }

    #[test]
    fn a_chord_in_a_chain_knows_its_parts_and_what_follows_its_body() {
        let part = |number: i64| json!({"task": "p", "args": [number], "options": {}});
        let chord = json!({"subtask_type": "chord", "options": {}, "kwargs": {
            "header": [part(1), part(2)], "body": {"task": "body", "args": [], "options": {}},
        }});
        let after = [json!({"task": "after", "args": [], "options": {}})];
        let next = task("a", json!([])).follow_with(&chord, Some(&json!(0)), &after, "0").unwrap();
        assert_eq!(next.chord.unwrap().1, 2);
        let embed = next.messages[1].embed().unwrap();
        assert_eq!(embed["chord"]["task"], "body");
        assert_eq!(embed["chord"]["options"]["chain"], json!(after));
        assert_eq!(next.messages[1].header_value("group_index"), Some(&json!(1)));
        assert_eq!(next.messages[1].read_body().unwrap().args, [json!(0), json!(2)]);
    }

    #[test]
    fn of_a_chain_in_a_chord_the_last_is_the_part() {
        let one = |name: &str| json!({"task": name, "args": [], "options": {}});
        let chain = json!({"subtask_type": "chain", "options": {}, "kwargs": {
            "tasks": [one("first"), one("last")],
        }});
        let chord = json!({"subtask_type": "chord", "options": {}, "kwargs": {
            "header": [one("p"), chain], "body": one("body"),
        }});
        let next = task("a", json!([])).follow_with(&chord, None, &[], "0").unwrap();
        let [_, first] = next.messages.as_slice() else { panic!("there are two parts") };
        let embed = first.embed().unwrap();
        assert!(first.awaited(&embed).is_none());
        assert!(first.is_awaited(), "nobody else can say that it failed");
        let last = embed["chain"].as_array().unwrap().clone().pop().unwrap();
        let last = first.follow_with(&last, Some(&json!(7)), &[], "next").unwrap();
        let last = &last.messages[0];
        let awaited = last.awaited(&last.embed().unwrap()).unwrap();
        assert_eq!((Some(awaited.group), awaited.index), (next.chord.map(|(id, _)| id), Some(1)));
    }

    #[test]
    fn the_body_of_an_empty_chord_is_all_that_runs() {
        let chord = json!({"subtask_type": "chord", "options": {}, "kwargs": {
            "header": [], "body": {"task": "body", "args": [], "options": {}},
        }});
        let next = task("a", json!([])).follow_with(&chord, None, &[], "0").unwrap();
        assert!(next.chord.is_none());
        assert_eq!(next.messages.len(), 1);
        assert_eq!(next.messages[0].read_body().unwrap().args, [json!([])]);
    }
}
