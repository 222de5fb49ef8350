//! A TCP link in front of a server, which a test can let go dead: nothing is refused or closed, and
//! nothing comes through, as behind a firewall that drops packets or a cable that was pulled.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp},
    task::JoinSet,
};

/// The link; it ends with its drop.
pub(crate) struct Link {
    pub(crate) port: u16,
    state: Arc<State>,
    /// Aborted by the drop.
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct State {
    opened: AtomicU64,
    /// Connections up to this number let nothing through.
    dead: AtomicU64,
}

impl Link {
    pub(crate) async fn to(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, server, state.clone()));
        Self { port, state, _tasks: tasks }
    }

    /// Lets the connections that there are go dead; new ones work.
    pub(crate) fn cut_open(&self) {
        self.state.dead.store(self.state.opened.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    /// Lets everything go dead; a new connection is taken and never answered.
    pub(crate) fn cut(&self) {
        self.state.dead.store(u64::MAX, Ordering::SeqCst);
    }

    /// New connections work again.
    pub(crate) fn mend(&self) {
        self.cut_open();
    }

    /// Connections so far.
    pub(crate) fn opened(&self) -> u64 {
        self.state.opened.load(Ordering::SeqCst)
    }
}

async fn accept(listener: TcpListener, server: u16, state: Arc<State>) {
    let mut tasks = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let number = state.opened.fetch_add(1, Ordering::SeqCst) + 1;
        let state = state.clone();
        tasks.spawn(async move {
            let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else { return };
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            tokio::join!(
                forward(from_client, to_server, number, &state),
                forward(from_server, to_client, number, &state)
            );
        });
    }
}

async fn forward(
    mut from: tcp::OwnedReadHalf,
    mut to: tcp::OwnedWriteHalf,
    number: u64,
    state: &State,
) {
    let mut chunk = vec![0; 16 << 10];
    while let Ok(count @ 1..) = from.read(&mut chunk).await {
        if number <= state.dead.load(Ordering::SeqCst) {
            // What was sent is gone, and neither side is told.
            std::future::pending::<()>().await;
        }
        if to.write_all(&chunk[..count]).await.is_err() {
            return;
        }
    }
}
