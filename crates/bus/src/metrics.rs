//! The bus's metrics, each declared once.

use metrics::{counter, describe_counter, describe_gauge, gauge};

pub(crate) fn describe() {
    describe_counter!(SENT, "messages put into channels, each group member counted");
    describe_counter!(DROPPED, "messages refused or dropped because a channel was full");
    describe_counter!(RECEIVED, "messages handed to receivers");
    describe_gauge!(SUBSCRIBERS, "subscriptions to groups that are open in this process");
}

pub(crate) fn sent(messages: usize) {
    counter!(SENT).increment(messages as u64);
}

pub(crate) fn dropped(messages: usize) {
    counter!(DROPPED).increment(messages as u64);
}

pub(crate) fn received() {
    counter!(RECEIVED).increment(1);
}

pub(crate) fn subscribed(by: f64) {
    gauge!(SUBSCRIBERS).increment(by);
}

const SENT: &str = "throng_bus_sent_messages";
const DROPPED: &str = "throng_bus_dropped_messages";
const RECEIVED: &str = "throng_bus_received_messages";
const SUBSCRIBERS: &str = "throng_bus_open_subscriptions";
