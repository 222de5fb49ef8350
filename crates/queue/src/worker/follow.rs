//! What comes after a task: callbacks and the next of its chain when it is done, errbacks when it
//! has failed for good, and the body of a chord when the last of its parts ends.

use serde_json::{Value, json};

use crate::{
    Error, Kind, Message, Queue, Result, State,
    engine::{Part, Verdict},
    message::Awaited,
};

/// Pushes what follows `message`, whose embed this is, after this end of it. Doing it again pushes
/// the same ids again.
pub(super) async fn push(
    queue: &Queue,
    message: &Message,
    embed: &Value,
    verdict: &Verdict,
) -> Result<()> {
    let list = |part: &str| embed[part].as_array().cloned().unwrap_or_default();
    match verdict {
        Verdict::Done(result) => {
            for (nth, callback) in list("callbacks").iter().enumerate() {
                send(queue, message, callback, Some(result), &[], &format!("done{nth}")).await?;
            }
            let mut chain = list("chain");
            if let Some(next) = chain.pop() {
                send(queue, message, &next, Some(result), &chain, "next").await?;
            }
            match message.awaited(embed) {
                Some(awaited) => join(queue, message, &awaited, Ok(result)).await,
                None => Ok(()),
            }
        }
        Verdict::Dead(reason) => {
            let id = json!(message.id());
            for (nth, errback) in list("errbacks").iter().enumerate() {
                send(queue, message, errback, Some(&id), &[], &format!("failed{nth}")).await?;
            }
            fail_chords(queue, message, embed, reason).await
        }
        _ => Ok(()),
    }
}

/// Does so for tasks that ended while no worker held them: as in Celery, what expired or was
/// cancelled tells its chord alone.
pub(super) async fn make_up(queue: &Queue) -> Result<()> {
    let tasks = queue.engine().unfollowed().await?;
    for record in &tasks {
        let message = &record.message;
        let Some(embed) = message.embed() else { continue };
        let reason = record.reason.clone().unwrap_or_default();
        let pushed = match record.state {
            State::Dead => push(queue, message, &embed, &Verdict::Dead(reason)).await,
            State::Expired | State::Cancelled => fail_chords(queue, message, &embed, &reason).await,
            // Somebody tries it again.
            _ => Ok(()),
        };
        match pushed {
            Err(error) if error.kind() == Kind::Retry => return Err(error),
            Err(error) => {
                let id = record.id();
                tracing::error!(error = ?error, task.id = %id, "what follows task {id} cannot be pushed: {error}");
            }
            Ok(()) => {}
        }
    }
    queue.engine().followed(&tasks).await
}

async fn send(
    queue: &Queue,
    message: &Message,
    signature: &Value,
    result: Option<&Value>,
    chain: &[Value],
    nth: &str,
) -> Result<()> {
    let next = message.follow_with(signature, result, chain, nth)?;
    if let Some((group, parts)) = next.chord {
        queue.engine().open_chord(&group, parts).await?;
    }
    queue.push_all(next.messages).await.map(drop)
}

async fn fail_chords(queue: &Queue, message: &Message, embed: &Value, reason: &str) -> Result<()> {
    for awaited in message.awaited_in_vain(embed) {
        join(queue, message, &awaited, Err(reason)).await?;
    }
    Ok(())
}

async fn join(
    queue: &Queue,
    message: &Message,
    awaited: &Awaited,
    outcome: Result<&Value, &str>,
) -> Result<()> {
    let Awaited { group, id, index, body } = awaited;
    let part = Part { group, id, index: *index, outcome };
    let Some(parts) = queue.engine().join(&part).await? else { return Ok(()) };
    // Under one id, whichever part pushes it.
    let mut body = body.clone();
    if body["options"]["task_id"].is_null() {
        body["options"]["task_id"] = json!(format!("{group}.body"));
    }
    // Each is `[1, id, state, result]`.
    let reason = if let Some(failed) = parts.iter().find(|part| part[2] != "SUCCESS") {
        format!("its part {} failed: {}", failed[1], failed[3]["exc_message"][0])
    } else {
        let results = parts.into_iter().map(|mut part| part[3].take()).collect();
        match send_body(queue, message, &body, results).await {
            Ok(()) => return queue.engine().close_chord(&part, None).await,
            Err(error) if error.kind() == Kind::Retry => return Err(error),
            Err(error) => {
                let reason = format!("it cannot be pushed: {error}");
                tracing::error!(error = ?error, "the body of chord {group} does not run: {reason}");
                reason
            }
        }
    };
    let body_id = body["options"]["task_id"].as_str().unwrap_or_default().into();
    let errbacks = &body["options"]["link_error"];
    for (nth, errback) in errbacks.as_array().into_iter().flatten().enumerate() {
        let told = json!(body_id);
        send(queue, message, errback, Some(&told), &[], &format!("chord{nth}")).await?;
    }
    queue.engine().close_chord(&part, Some((&body_id, &reason))).await
}

async fn send_body(
    queue: &Queue,
    message: &Message,
    body: &Value,
    results: Vec<Value>,
) -> Result<()> {
    if body["subtask_type"].as_str().is_some_and(|kind| kind == "chord") {
        return Err(Error::Malformed("the body of a chord is a chord".into()));
    }
    send(queue, message, body, Some(&json!(results)), &[], "body").await
}
