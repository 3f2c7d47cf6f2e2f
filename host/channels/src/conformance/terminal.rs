//! The terminal, with a listener that shows each key once, as `twobox chat` does.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use twobox_system::lock::lock;

use super::{Bench, Weather, address, conforms};
use crate::Channel;
use crate::socket::Event;
use crate::terminal::{Audience, Listener, ListenerId, Terminal};

/// How long a listener may take to acknowledge: what is silent is waited for so long.
const PATIENCE: Duration = Duration::from_millis(200);

#[derive(Debug, Default)]
struct Screen {
    shown: Vec<(String, String)>,
    mended: bool,
}

#[derive(Default)]
struct TerminalBench {
    screen: Arc<Mutex<Screen>>,
    terminal: Option<Arc<Terminal>>,
    listener: Option<(ListenerId, JoinHandle<()>)>,
}

impl TerminalBench {
    /// Somebody listens; whoever is sent away comes again.
    fn come(&mut self) {
        let terminal = Arc::clone(self.terminal.as_ref().unwrap());
        let (queue, mut events) = mpsc::channel(8);
        let dismissed = Arc::new(Notify::new());
        let id = terminal.enter(Listener { queue, dismissed });
        let audience = Audience { agent: address().platform_id, thread: address().thread_id };
        terminal.listen(id, audience, false).unwrap();
        let screen = Arc::clone(&self.screen);
        let reading = tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                let Event::Message { key, text, .. } = event else { continue };
                let mut screen = lock(&screen);
                if screen.shown.iter().all(|(other, _)| *other != key) {
                    screen.shown.push((key.clone(), text.clone()));
                }
                let is_silent = Weather::of(&text) == Some(Weather::Silent) && !screen.mended;
                if is_silent {
                    return; // it reads no more either
                }
                terminal.acknowledge(id, &key);
            }
        });
        self.listener = Some((id, reading));
    }

    fn go(&mut self) {
        if let (Some(terminal), Some((id, reading))) = (&self.terminal, self.listener.take()) {
            terminal.leave(id);
            reading.abort();
        }
    }
}

impl Bench for TerminalBench {
    fn begin(&mut self) -> Arc<dyn Channel> {
        self.go();
        let terminal = Arc::new(Terminal::with_patience(PATIENCE));
        self.terminal = Some(Arc::clone(&terminal));
        self.come();
        terminal
    }

    fn shown(&self) -> Vec<String> {
        lock(&self.screen).shown.iter().map(|(_, text)| text.clone()).collect()
    }

    /// A terminal can only be silent.
    fn knows(&self, weather: Weather) -> bool {
        weather == Weather::Silent
    }

    fn mend(&mut self) {
        lock(&self.screen).mended = true;
        self.go(); // it was sent away, and comes again
        self.come();
    }

    fn cut(&mut self, cut: bool) {
        match cut {
            true => self.go(),
            false => self.come(),
        }
    }
}

#[tokio::test]
async fn a_terminal_conforms() {
    conforms(TerminalBench::default).await;
}
