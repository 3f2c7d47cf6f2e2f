//! The `bridge` channel, with a program in its seat that answers as the platform behind it does. The lines are
//! tried in the tests of the socket.

use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use twobox_config::ChannelSettings;
use twobox_system::lock::lock;

use super::{BUSY, Bench, Weather, conforms};
use crate::bridge::{BridgeChannel, Seat};
use crate::kinds::Setup;
use crate::parts::MemoryJournal;
use crate::socket::{Deliver, Event, Hello, TellsOf, Told};
use crate::{Channel, Door};

#[derive(Default)]
struct Platform {
    shown: Vec<(String, String)>,
    files: Vec<String>,
    mended: bool,
}

impl Platform {
    /// What the bridge says; `None` where it dies instead.
    fn take(&mut self, letter: &Deliver, keys: bool) -> Option<Told> {
        let told = |outcome, retry_after_ms| Told {
            key: letter.key.clone(),
            outcome,
            platform_message_id: None,
            error: None,
            retry_after_ms,
        };
        let weather = Weather::of(&letter.text).filter(|_| !self.mended);
        match weather {
            Some(Weather::Busy) => {
                let pause = u64::try_from(BUSY.as_millis()).unwrap();
                return Some(told(TellsOf::Transient, Some(pause)));
            }
            Some(Weather::Never) => return Some(told(TellsOf::Permanent, None)),
            Some(Weather::Silent) | None => {}
        }
        if !keys || self.shown.iter().all(|(key, _)| *key != letter.key) {
            self.shown.push((letter.key.clone(), letter.text.clone()));
            let paths = letter.attachments.iter().filter_map(|it| it["path"].as_str());
            self.files.extend(paths.map(|path| std::fs::read_to_string(path).unwrap()));
        }
        (weather.is_none()).then(|| told(TellsOf::Delivered, None))
    }
}

struct BridgeBench {
    keys: bool,
    platform: Arc<Mutex<Platform>>,
    journal: Arc<MemoryJournal>,
    folder: TempDir,
    seat: Option<Arc<Seat>>,
    program: Option<JoinHandle<()>>,
}

impl BridgeBench {
    fn new(keys: bool) -> Self {
        let (platform, journal) = (Arc::default(), Arc::default());
        let folder = tempfile::tempdir().unwrap();
        Self { keys, platform, journal, folder, seat: None, program: None }
    }

    /// A program comes.
    fn come(&mut self) {
        let (queue, mut events) = mpsc::channel(8);
        let hello = Hello {
            channel: "c".to_owned(),
            name: None,
            keys: self.keys,
            longest: None,
            progress: false,
        };
        let seated =
            self.seat.as_ref().unwrap().sit(hello, queue, Arc::new(Notify::new())).unwrap();
        let (platform, keys) = (Arc::clone(&self.platform), self.keys);
        self.program = Some(tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                let Event::Deliver(letter) = event else { continue };
                let told = lock(&platform).take(&letter, keys);
                match told {
                    Some(told) => assert!(seated.answer(told), "somebody waits for it"),
                    None => return,
                }
            }
        }));
    }

    async fn gone(program: JoinHandle<()>) {
        program.abort();
        drop(program.await);
    }

    fn go(&mut self) {
        if let Some(program) = self.program.take() {
            tokio::task::block_in_place(|| {
                tokio::runtime::Handle::current().block_on(Self::gone(program));
            });
        }
    }
}

impl Bench for BridgeBench {
    fn begin(&mut self) -> Arc<dyn Channel> {
        self.go();
        let mut settings = toml::Table::new();
        settings.insert("keys".to_owned(), self.keys.into());
        let settings = &ChannelSettings { kind: "bridge".to_owned(), settings };
        let folder = self.folder.path();
        let setup = Setup {
            id: "c",
            settings,
            name_of: &str::to_owned,
            folder,
            scratch: &folder.join("scratch"),
            secrets: Arc::new(|_: &str| Ok(None)),
            journal: Arc::clone(&self.journal) as _,
            file_max: 0,
        };
        let channel = BridgeChannel::new(&setup).unwrap();
        let Some(Door::Bridge(seat)) = channel.door() else { panic!("it has a seat") };
        self.seat = Some(seat);
        self.come();
        Arc::new(channel)
    }

    fn shown(&self) -> Vec<String> {
        lock(&self.platform).shown.iter().map(|(_, text)| text.clone()).collect()
    }

    fn files(&self) -> Vec<String> {
        lock(&self.platform).files.clone()
    }

    fn knows(&self, _weather: Weather) -> bool {
        true
    }

    fn mend(&mut self) {
        lock(&self.platform).mended = true;
        self.go();
        self.come();
    }

    fn cut(&mut self, cut: bool) {
        match cut {
            true => self.go(),
            false => self.come(),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_conforms_with_keys_and_without() {
    for keys in [false, true] {
        conforms(|| BridgeBench::new(keys)).await;
    }
}
