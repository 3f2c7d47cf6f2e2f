//! The stand-in in a thread of its own.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use super::answer::State;
use super::ledger::{End, Request, Sold};
use super::options::Options;
use super::script::Script;
use super::serve::{Shared, converse};

/// A stand-in that runs until it is dropped. Its methods block; they wait for conditions, and fail after
/// the patience of the other tests.
#[derive(Debug)]
pub struct ModelServer {
    shared: Arc<Shared>,
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl ModelServer {
    /// Starts one that takes every key and knows every model.
    pub fn start() -> Self {
        Self::start_with(Options::default())
    }

    /// Starts one that is so.
    ///
    /// # Panics
    /// If the port or the socket cannot be had.
    pub fn start_with(options: Options) -> Self {
        Self::open(options).expect("a port, and a path for the socket")
    }

    /// The same, for a program that can say what is wrong.
    ///
    /// # Errors
    /// The port or the socket cannot be had.
    pub fn open(options: Options) -> io::Result<Self> {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port))?;
        tcp.set_nonblocking(true)?;
        let address = tcp.local_addr()?;
        let unix = options.socket.as_ref().map(UnixListener::bind).transpose()?;
        if let Some(unix) = &unix {
            unix.set_nonblocking(true)?;
        }
        let shared = Arc::new(Shared::new(options));
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let serving = serve(tcp, unix, Arc::clone(&shared), stopped);
        // With the runtime all connections go.
        let thread = std::thread::spawn(move || runtime.block_on(serving).unwrap());
        Ok(Self { shared, address, stop: Some(stop), thread: Some(thread) })
    }

    /// `http://ADDRESS`, without a path.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Adds what it is to answer, behind what it was told before.
    pub fn script(&self, script: impl Into<Script>) {
        self.shared.change(|state| state.script.extend(script.into()));
    }

    /// Forgets what is left of all scripts.
    pub fn clear(&self) {
        self.shared.change(|state| state.script = Script::default());
    }

    /// How many steps of the queue are left.
    pub fn left(&self) -> usize {
        self.shared.look(|state| state.script.queue.len())
    }

    /// Lets one answer go on that is stalled, or that will be.
    pub fn release(&self) {
        self.shared.release();
    }

    /// Everything that was asked, in order.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.look(|state| state.ledger.requests().to_vec())
    }

    /// How much was asked.
    pub fn asked(&self) -> u64 {
        self.shared.look(|state| state.ledger.requests().len() as u64)
    }

    /// Whether an answer is under way.
    pub fn is_busy(&self) -> bool {
        let is_open = |request: &Request| request.end == End::Open;
        self.shared.look(|state| state.ledger.requests().iter().any(is_open))
    }

    /// What was sold: of each answer whose costs were told to the end.
    pub fn sold(&self) -> Sold {
        self.shared.look(|state| state.ledger.total(End::Sold))
    }

    /// What was begun and broke off before its costs were told, with what they would have been.
    pub fn cut(&self) -> Sold {
        self.shared.look(|state| state.ledger.total(End::Cut))
    }

    /// Waits until so much was asked, and says all of it.
    #[track_caller]
    pub fn wait_for(&self, requests: usize) -> Vec<Request> {
        self.wait(&format!("{requests} requests to a model"), |state| {
            let all = state.ledger.requests();
            (all.len() >= requests).then(|| all.to_vec())
        })
    }

    /// Waits until so much was asked and no answer is under way, and says all of it.
    #[track_caller]
    pub fn wait_ended(&self, requests: usize) -> Vec<Request> {
        self.wait(&format!("the end of {requests} requests to a model"), |state| {
            let all = state.ledger.requests();
            let ended = all.iter().all(|request| request.end != End::Open);
            (ended && all.len() >= requests).then(|| all.to_vec())
        })
    }

    /// Waits until so many answers are stalled.
    #[track_caller]
    pub fn wait_stalled(&self, answers: usize) {
        self.wait(&format!("{answers} stalled answers"), |state| {
            (state.stalled >= answers).then_some(())
        });
    }

    #[track_caller]
    fn wait<T>(&self, what: &str, look: impl Fn(&State) -> Option<T>) -> T {
        self.shared.wait(what, look)
    }
}

impl Drop for ModelServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // What went wrong there was seen by whoever was answered.
            drop(thread.join());
        }
        if let Some(socket) = &self.shared.options.socket {
            // Whoever made its folder may have taken it away.
            drop(std::fs::remove_file(socket));
        }
    }
}

async fn serve(
    tcp: TcpListener,
    unix: Option<UnixListener>,
    shared: Arc<Shared>,
    mut stopped: oneshot::Receiver<()>,
) -> io::Result<()> {
    let tcp = tokio::net::TcpListener::from_std(tcp)?;
    let unix = unix.map(tokio::net::UnixListener::from_std).transpose()?;
    let guest = async || match &unix {
        Some(unix) => unix.accept().await,
        None => std::future::pending().await,
    };
    loop {
        tokio::select! {
            // It is only ever dropped.
            _ = &mut stopped => return Ok(()),
            accepted = tcp.accept() => {
                let (stream, _) = accepted?;
                stream.set_nodelay(true)?;
                tokio::spawn(converse(stream, Arc::clone(&shared)));
            }
            accepted = guest() => {
                tokio::spawn(converse(accepted?.0, Arc::clone(&shared)));
            }
        }
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
