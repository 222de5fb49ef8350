//! Who takes part in the storm: those who push, those who work, those who meddle.

use std::time::Duration;

use throng_queue::{Filter, Message, TaskId, WorkerConfig};

use super::{Running, Scene, dice::Dice};

impl Scene {
    pub(super) fn key(&self, at: u64) -> String {
        format!("{}-{at}", self.name)
    }

    /// A task that is short or long, and perhaps fails at first.
    fn message(&self, dice: &mut Dice) -> Message {
        let long_ms = if dice.comes(10) { dice.below(600) } else { dice.below(30) };
        let fails = u64::from(dice.comes(10));
        let message = Message::new("work", (long_ms, fails)).unwrap().queue(&self.name);
        let message = message.priority(dice.below(10) as u8);
        match dice.below(10) {
            0 | 1 => message.ignore_result(),
            2 => message.delay(Duration::from_millis(dice.below(500))),
            // One that fails is tried again, as its policy says.
            3 if fails == 0 => self.book.once(message.at_most_once()),
            _ => message,
        }
    }
}

pub(super) async fn push(scene: Scene, mut dice: Dice) {
    while !scene.is_over() {
        dice.rest(60).await;
        match dice.below(6) {
            0 => push_alone(&scene, &mut dice).await,
            1 => push_keyed(&scene, &mut dice).await,
            2 => push_in(&scene, &mut dice).await,
            3 => push_chord(&scene, &mut dice).await,
            4 => push_and_wait(&scene, &mut dice).await,
            _ => push_all(&scene, &mut dice).await,
        }
    }
}

async fn push_alone(scene: &Scene, dice: &mut Dice) {
    let message = scene.message(dice);
    let queue = scene.queue(dice).clone();
    scene.book.pushed(vec![message.id()]);
    // Whoever hears nothing pushes again, as one should.
    for _ in 0..3 {
        if let Some(Ok(id)) = dice.perhaps(queue.push(message.clone())).await {
            scene.book.acknowledged([id]);
            return;
        }
    }
}

async fn push_keyed(scene: &Scene, dice: &mut Dice) {
    let key = scene.key(dice.below(KEYS));
    let message = scene.message(dice);
    let message = match dice.comes(50) {
        true => message.unique(key),
        false => message.debounce(key, Duration::from_millis(dice.below(300))),
    };
    scene.book.keyed(message.id());
    scene.book.pushed(vec![message.id()]);
    let queue = scene.queue(dice).clone();
    if let Some(Ok(id)) = dice.perhaps(queue.push(message)).await {
        scene.book.acknowledged([id]);
    }
}

async fn push_all(scene: &Scene, dice: &mut Dice) {
    let many = if dice.comes(5) { 600 } else { 2 + dice.below(6) };
    let message = |dice: &mut Dice| match many {
        600 => Message::new("work", (0, 0)).unwrap().queue(&scene.name),
        _ => scene.message(dice),
    };
    let messages: Vec<Message> = (0..many).map(|_| message(dice)).collect();
    let ids: Vec<TaskId> = messages.iter().map(Message::id).collect();
    scene.book.pushed(ids);
    let queue = scene.queue(dice).clone();
    if let Some(Ok(ids)) = dice.perhaps(queue.push_all(messages)).await {
        scene.book.acknowledged(ids);
    }
}

async fn push_in(scene: &Scene, dice: &mut Dice) {
    let messages = [scene.message(dice), scene.message(dice)];
    scene.book.pushed(messages.iter().map(Message::id).collect());
    let queue = scene.queue(dice).clone();
    let pushed = async {
        let tx = scene.db.begin().await.ok()?;
        let mut ids = Vec::new();
        for message in messages {
            ids.push(queue.push_in(&tx, message).await.ok()?);
        }
        tx.commit().await.ok()?;
        Some(ids)
    };
    if let Some(Some(ids)) = dice.perhaps(pushed).await {
        scene.book.acknowledged(ids);
    }
}

async fn push_chord(scene: &Scene, dice: &mut Dice) {
    let part = |dice: &mut Dice| {
        let long_ms = dice.below(40);
        Message::new("work", (long_ms, u64::from(dice.comes(10)))).unwrap().queue(&scene.name)
    };
    let parts: Vec<Message> = (0..1 + dice.below(4)).map(|_| part(dice)).collect();
    let body = part(dice);
    let ids: Vec<TaskId> = parts.iter().map(Message::id).collect();
    scene.book.pushed(ids.clone());
    scene.book.chord(ids, body.id());
    let queue = scene.queue(dice).clone();
    drop(dice.perhaps(queue.push_chord(parts, body)).await);
}

async fn push_and_wait(scene: &Scene, dice: &mut Dice) {
    let message = scene.message(dice);
    scene.book.pushed(vec![message.id()]);
    let queue = scene.queue(dice).clone();
    let waited = async {
        let id = queue.push(message).await.ok()?;
        scene.book.acknowledged([id.clone()]);
        queue.wait(&id, Duration::from_millis(300)).await.ok()
    };
    drop(dice.perhaps(waited).await);
}

/// One worker after another, each of which is aborted, asked to stop and aborted, or stopped.
pub(super) async fn work(scene: Scene, mut dice: Dice) {
    while !scene.is_over() {
        let config = WorkerConfig {
            concurrency: 1 + dice.below(16) as usize,
            drain: Duration::from_millis(dice.below(300)),
            // Most storms would else be over before anything ran three times.
            max_crashes: 30,
            ..WorkerConfig::default()
        };
        let queue = scene.queue(&mut dice).clone();
        let running = Running::start(scene.worker(&queue, config));
        dice.rest(700).await;
        match dice.below(5) {
            0 => running.stop().await,
            1 | 2 => {
                running.stop.request();
                dice.rest(100).await;
            }
            _ => {}
        }
    }
}

/// Cancels, tries again, pauses, resumes and looks.
pub(super) async fn meddle(scene: Scene, mut dice: Dice) {
    while !scene.is_over() {
        dice.rest(60).await;
        let queue = scene.queue(&mut dice).clone();
        let Some(id) = scene.book.any(&mut dice) else { continue };
        match dice.below(7) {
            0 => {
                if let Some(Ok(())) = dice.perhaps(queue.cancel(&id)).await {
                    scene.book.cancelled(&id);
                }
            }
            1 if scene.book.tries_again(&id) => {
                drop(dice.perhaps(queue.retry(&id)).await);
            }
            2 => {
                drop(dice.perhaps(queue.pause(&scene.name)).await);
                dice.rest(150).await;
                while dice.perhaps(queue.resume(&scene.name)).await.is_none() {}
            }
            3 => drop(dice.perhaps(queue.counts()).await),
            4 => drop(dice.perhaps(queue.list(&Filter::default())).await),
            _ => drop(dice.perhaps(queue.wait(&id, Duration::from_millis(200))).await),
        }
    }
}

/// How many unique keys there are.
pub(super) const KEYS: u64 = 5;
