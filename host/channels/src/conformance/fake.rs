//! Channels of each set of capabilities, with a platform in memory; and channels that break a rule, which
//! the suite has to notice.

use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;
use twobox_model::channel::{Address, Capabilities, Outbound, Outcome};
use twobox_system::lock::lock;

use super::{BUSY, Bench, Weather, conforms};
use crate::Channel;

/// How a channel breaks the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// It goes on behind a message that was not taken.
    Overtakes,
    /// It shows what it has shown.
    Repeats,
    /// It takes silence for a yes.
    Hopes,
    /// It chooses a pause itself.
    Hurries,
    /// It gives up what nobody is there to take.
    Loses,
    /// It leaves the files behind.
    DropsFiles,
}

#[derive(Debug, Default)]
struct Platform {
    shown: Vec<(String, String)>,
    files: Vec<String>,
    mended: bool,
    cut: bool,
}

struct Fake {
    capabilities: Capabilities,
    fault: Fault,
    platform: Arc<Mutex<Platform>>,
}

impl Fake {
    fn take(&self, outbound: &Outbound) -> Outcome {
        let mut platform = lock(&self.platform);
        if platform.cut {
            return match self.fault {
                Fault::Loses => Outcome::Permanent { error: "nobody is there".to_owned() },
                _ => Outcome::Unavailable,
            };
        }
        let weather = Weather::of(&outbound.text).filter(|_| !platform.mended);
        let retry_after = (self.fault != Fault::Hurries).then_some(BUSY);
        match weather {
            Some(Weather::Busy) => {
                return Outcome::Transient { error: "429".to_owned(), retry_after };
            }
            Some(Weather::Never) => return Outcome::Permanent { error: "404".to_owned() },
            Some(Weather::Silent) | None => {}
        }
        let known = platform.shown.iter().any(|(key, _)| *key == outbound.key);
        if !known || self.fault == Fault::Repeats || !self.capabilities.keys {
            platform.shown.push((outbound.key.clone(), outbound.text.clone()));
            if let Some(shelf) = outbound.shelf.as_ref().filter(|_| self.capabilities.files_out)
                && self.fault != Fault::DropsFiles
            {
                let paths = outbound.files.iter().map(|it| shelf.base.join(&shelf.within).join(it));
                platform.files.extend(paths.filter_map(|it| std::fs::read_to_string(it).ok()));
            }
        }
        let error = "no answer".to_owned();
        match (weather, self.capabilities.keys) {
            (Some(Weather::Silent), _) if self.fault == Fault::Hopes => {}
            (Some(Weather::Silent), true) => {
                return Outcome::Transient { error, retry_after: None };
            }
            (Some(Weather::Silent), false) => return Outcome::Uncertain { error },
            (Some(Weather::Busy | Weather::Never) | None, _) => {}
        }
        Outcome::Delivered { platform_message_id: None }
    }
}

impl Channel for Fake {
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn deliver<'a>(
        &'a self,
        _address: &'a Address,
        outbounds: Vec<Outbound>,
    ) -> BoxFuture<'a, Vec<Outcome>> {
        let mut outcomes = Vec::new();
        for outbound in &outbounds {
            let outcome = self.take(outbound);
            let ends = !super::is_delivered(&outcome) && self.fault != Fault::Overtakes;
            outcomes.push(outcome);
            if ends {
                break;
            }
        }
        Box::pin(async { outcomes })
    }
}

struct FakeBench(Capabilities, Fault, Arc<Mutex<Platform>>);

impl Bench for FakeBench {
    fn begin(&mut self) -> Arc<dyn Channel> {
        Arc::new(Fake { capabilities: self.0, fault: self.1, platform: Arc::clone(&self.2) })
    }

    fn shown(&self) -> Vec<String> {
        lock(&self.2).shown.iter().map(|(_, text)| text.clone()).collect()
    }

    fn files(&self) -> Vec<String> {
        lock(&self.2).files.clone()
    }

    fn knows(&self, _weather: Weather) -> bool {
        true
    }

    fn mend(&mut self) {
        lock(&self.2).mended = true;
    }

    fn cut(&mut self, cut: bool) {
        lock(&self.2).cut = cut;
    }
}

fn sets() -> Vec<Capabilities> {
    let both = [false, true];
    let set = |keys| both.map(|files_out| Capabilities { keys, files_out, ..Capabilities::TEXT });
    both.into_iter().flat_map(set).collect()
}

#[tokio::test]
async fn a_fake_of_each_set_of_capabilities_conforms() {
    for set in sets() {
        conforms(|| FakeBench(set, Fault::None, Arc::default())).await;
    }
}

#[tokio::test]
async fn the_suite_notices_each_rule_that_is_broken() {
    let faults = [
        Fault::Overtakes,
        Fault::Repeats,
        Fault::Hopes,
        Fault::Hurries,
        Fault::Loses,
        Fault::DropsFiles,
    ];
    let set = Capabilities { keys: true, files_out: true, ..Capabilities::TEXT };
    for fault in faults {
        let play = tokio::spawn(conforms(move || FakeBench(set, fault, Arc::default())));
        assert!(play.await.is_err_and(|error| error.is_panic()), "{fault:?} goes unnoticed");
    }
}
