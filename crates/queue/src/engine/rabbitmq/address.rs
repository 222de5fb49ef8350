//! What a URL of RabbitMQ says: its nodes, and the shares of each.

use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};
use throng_core::EngineUrl;

use crate::Result;

pub(super) fn addresses(url: &EngineUrl) -> Result<Vec<AMQPUri>> {
    if url.hosts().is_empty() {
        return Err(url.fault("host", "it names a node, like amqp://127.0.0.1:5672/").into());
    }
    let vhost = match url.path().trim_start_matches('/') {
        "" => "/".to_owned(),
        vhost => vhost.to_owned(),
    };
    let uri = |host: &throng_core::url::Host| AMQPUri {
        scheme: AMQPScheme::AMQP,
        authority: AMQPAuthority {
            userinfo: AMQPUserInfo {
                username: url.user().unwrap_or("guest").to_owned(),
                password: url.password().map_or("guest", |word| word.reveal()).to_owned(),
            },
            host: host.name.clone(),
            port: host.port.unwrap_or(5672),
        },
        vhost: vhost.clone(),
        query: AMQPQueryString {
            heartbeat: Some(HEARTBEAT_S),
            frame_max: Some(FRAME_BYTES),
            ..AMQPQueryString::default()
        },
    };
    Ok(url.hosts().iter().map(uri).collect())
}

/// The shares of the nodes, one each unless they are given.
pub(super) fn read_weights(url: &EngineUrl, text: Option<&str>) -> Result<Vec<u32>> {
    let nodes = url.hosts().len();
    let Some(text) = text else { return Ok(vec![1; nodes]) };
    let read: Option<Vec<u32>> = text.split(',').map(|part| part.trim().parse().ok()).collect();
    match read {
        Some(weights) if weights.len() == nodes && weights.iter().any(|weight| *weight > 0) => {
            Ok(weights)
        }
        _ => {
            let reason = format!("they are {nodes} numbers, one for each node, like 3,1");
            Err(url.fault("weights", reason).into())
        }
    }
}

/// A connection that says nothing for twice this long is cut, on both sides: so what a machine that
/// vanished held runs again within 10 s.
const HEARTBEAT_S: u16 = 4;
/// A larger message goes in several frames. The client keeps room for 64 frames on each connection,
/// which with RabbitMQ's own 128 KiB are 8 MB.
const FRAME_BYTES: u32 = 32 << 10;
