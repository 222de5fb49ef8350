//! A way to a server that hands bytes on in pieces by chance, and cuts connections when it is told to.

#![expect(clippy::unwrap_used, reason = "in tests a panic is the report")]

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// Draws; the same from the same start.
#[derive(Clone)]
pub(crate) struct Chance(Arc<AtomicU64>);

impl Chance {
    pub(crate) fn from(start: u64) -> Self {
        Self(Arc::new(AtomicU64::new(start)))
    }

    pub(crate) fn below(&self, below: u64) -> u64 {
        // Of Weyl and splitmix: whoever draws at the same time draws something else.
        let mut drawn = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        drawn = (drawn ^ (drawn >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        drawn = (drawn ^ (drawn >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (drawn ^ (drawn >> 31)) % below
    }

    pub(crate) fn one_in(&self, of: u64) -> bool {
        self.below(of) == 0
    }
}

/// Stands before some servers until it is dropped.
pub(crate) struct Relay {
    pub(crate) addresses: Vec<String>,
    /// While set, one piece in forty of what servers say is cut off, and the connection with it.
    pub(crate) is_cutting: Arc<AtomicBool>,
    _tasks: JoinSet<()>,
}

impl Relay {
    pub(crate) async fn before(servers: Vec<String>, chance: &Chance) -> Self {
        let (mut addresses, mut tasks) = (Vec::new(), JoinSet::new());
        let is_cutting = Arc::<AtomicBool>::default();
        for server in servers {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            addresses.push(listener.local_addr().unwrap().to_string());
            let (chance, is_cutting) = (chance.clone(), Arc::clone(&is_cutting));
            tasks.spawn(async move {
                let mut connections = JoinSet::new();
                while let Ok((client, _)) = listener.accept().await {
                    while connections.try_join_next().is_some() {}
                    let (server, chance) = (server.clone(), chance.clone());
                    connections.spawn(hand_on(client, server, (chance, Arc::clone(&is_cutting))));
                }
            });
        }
        Self { addresses, is_cutting, _tasks: tasks }
    }
}

async fn hand_on(
    mut client: TcpStream,
    server: String,
    (chance, is_cutting): (Chance, Arc<AtomicBool>),
) {
    let Ok(mut server) = TcpStream::connect(server).await else { return };
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    let (mut asked, mut said) = (vec![0; 16 << 10], vec![0; 16 << 10]);
    loop {
        tokio::select! {
            count = client.read(&mut asked) => {
                let Ok(count @ 1..) = count else { return };
                if server.write_all(&asked[..count]).await.is_err() {
                    return;
                }
            }
            count = server.read(&mut said) => {
                let Ok(count @ 1..) = count else { return };
                let mut said = &said[..count];
                while !said.is_empty() {
                    let whole = said.len() as u64;
                    let piece = if chance.one_in(3) { chance.below(whole) + 1 } else { whole };
                    let (piece, rest) = said.split_at(piece as usize);
                    if is_cutting.load(Ordering::Relaxed) && chance.one_in(40) {
                        let _ = client.write_all(&piece[..piece.len() / 2]).await;
                        return;
                    }
                    if client.write_all(piece).await.is_err() {
                        return;
                    }
                    said = rest;
                    if !said.is_empty() {
                        tokio::task::yield_now().await;
                    }
                }
            }
        }
    }
}
