use super::*;
use tokio::sync::Mutex as Turns;
use tokio::sync::mpsc;
use twobox_model::channel::{Address, Asked, Inbound, Receipt, Refusal};
use twobox_shared::clock::{Monotonic, SystemClock};
use twobox_shared::ids::MessageId;
use twobox_shared::time::UnixMillis;

/// A deadline that only something that hangs reaches.
const LONG: Duration = Duration::from_secs(30);

enum Do {
    GoUp,
    GoDown,
    End(Result<(), String>),
    Break,
}

/// Lives as it is told, and takes everything.
struct Moody {
    told: Turns<mpsc::UnboundedReceiver<Do>>,
    taken: Mutex<usize>,
}

impl Channel for Moody {
    fn capabilities(&self) -> Capabilities {
        Capabilities { keys: true, ..Capabilities::TEXT }
    }

    fn run(&self, mut surroundings: Surroundings) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            let mut told = self.told.lock().await;
            loop {
                let told = tokio::select! {
                    told = told.recv() => told.unwrap(),
                    () = surroundings.stopped() => return Ok(()),
                };
                match told {
                    Do::GoUp => surroundings.up(),
                    Do::GoDown => surroundings.down("no route".to_owned()),
                    Do::End(how) => return how,
                    Do::Break => panic!("as the test wants it"),
                }
            }
        })
    }

    fn deliver<'a>(
        &'a self,
        _address: &'a Address,
        outbounds: Vec<Outbound>,
    ) -> BoxFuture<'a, Vec<Outcome>> {
        *lock(&self.taken) += outbounds.len();
        let taken = Outcome::Delivered { platform_message_id: None };
        Box::pin(async move { vec![taken; outbounds.len()] })
    }
}

/// Hears who is up.
struct Ear(mpsc::UnboundedSender<String>);

impl Intake for Ear {
    fn accept(&self, _message: Inbound) -> BoxFuture<'_, Result<Vec<Receipt>, Refusal>> {
        Box::pin(async { Err(Refusal::stopping()) })
    }

    fn asked<'a>(
        &'a self,
        _address: &'a Address,
        _id: &'a MessageId,
        _text: &'a str,
    ) -> BoxFuture<'a, Asked> {
        Box::pin(async { Asked::Over })
    }

    fn takes_files<'a>(&'a self, _message: &'a Inbound) -> BoxFuture<'a, bool> {
        Box::pin(async { true })
    }

    fn ready(&self, _address: &Address) {}

    fn up(&self, channel: &str) {
        self.0.send(channel.to_owned()).unwrap();
    }
}

async fn send(instance: &Instance) -> Outcome {
    let address = Address { channel_type: "m".into(), platform_id: "1".into(), thread_id: None };
    let outbound = Outbound {
        key: "k".into(),
        in_reply_to: None,
        answers: Vec::new(),
        text: "hello".into(),
        files: Vec::new(),
        shelf: None,
        failed: false,
        prompt: None,
    };
    instance.deliver(&address, vec![outbound]).await.remove(0)
}

/// Waits until its life is as `is` has it.
async fn wait(instance: &Instance, is: impl Fn(&Life) -> bool) -> Life {
    let look = async {
        loop {
            let life = instance.health().life;
            if is(&life) {
                return life;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(LONG, look).await.expect("its life never comes to that")
}

#[tokio::test]
async fn a_channel_that_ends_is_down_alone_and_is_begun_anew_until_it_is_stopped() {
    let (tell, told) = mpsc::unbounded_channel();
    let (ups, mut heard) = mpsc::unbounded_channel();
    let moody = Arc::new(Moody { told: Turns::new(told), taken: Mutex::default() });
    let quick = Backoff { first: Duration::from_millis(5), most: Duration::from_millis(20) };
    let channel = Arc::clone(&moody) as Arc<dyn Channel>;
    let instance = Instance::new("m", "moody", channel, Arc::new(SystemClock)).restarting(quick);
    let instance = Arc::new(instance);
    assert_eq!(
        (send(&instance).await, *lock(&moody.taken)),
        (Outcome::Unavailable, 0),
        "not yet up"
    );

    let intake: Arc<dyn Intake> = Arc::new(Ear(ups));
    let lives = Lives::begin(vec![Arc::clone(&instance)], &intake);
    let ends = [Do::GoDown, Do::End(Err("kicked".into())), Do::End(Ok(())), Do::Break];
    let reasons = ["no route", "kicked", "it ended by itself", "it broke"];
    for (number, (end, why)) in ends.into_iter().zip(reasons).enumerate() {
        tell.send(Do::GoUp).ok().unwrap();
        assert_eq!(heard.recv().await.as_deref(), Some("m"), "{why}");
        assert!(matches!(send(&instance).await, Outcome::Delivered { .. }), "{why}");
        tell.send(Do::GoUp).ok().unwrap(); // which it is
        tell.send(end).ok().unwrap();
        let life = wait(&instance, |life| matches!(life, Life::Down { .. })).await;
        let Life::Down { reason, next_try, .. } = life else { panic!("{life:?}") };
        assert!(reason.starts_with(why), "{reason}");
        assert_eq!(next_try.is_some(), number > 0, "{why}: one that runs on tries by itself");
        assert_eq!(
            (send(&instance).await, *lock(&moody.taken)),
            (Outcome::Unavailable, number + 1)
        );
    }
    assert!(heard.try_recv().is_err(), "each rise is told once");
    lives.end(LONG).await;
    assert_eq!(instance.health().life, Life::Stopped);
    assert_eq!(send(&instance).await, Outcome::Unavailable);
}

/// A wall clock that stands still, and one that goes on when it is told to.
#[derive(Default)]
struct Told(Mutex<Monotonic>);

impl Told {
    fn pass(&self, time: Duration) {
        let mut now = lock(&self.0);
        *now = *now + time;
    }
}

impl Clock for Told {
    fn now(&self) -> UnixMillis {
        UnixMillis(1_000)
    }

    fn monotonic(&self) -> Monotonic {
        *lock(&self.0)
    }
}

#[tokio::test]
async fn a_run_that_lasted_ends_a_row_of_failures_though_it_was_down_at_its_end() {
    let (tell, told) = mpsc::unbounded_channel();
    let (ups, mut heard) = mpsc::unbounded_channel();
    let moody = Arc::new(Moody { told: Turns::new(told), taken: Mutex::default() });
    let quick = Backoff { first: Duration::from_millis(5), most: Duration::from_millis(20) };
    let clock = Arc::new(Told::default());
    let instance = Instance::new("m", "moody", moody, Arc::clone(&clock) as Arc<dyn Clock>);
    let instance = Arc::new(instance.restarting(quick));
    let intake: Arc<dyn Intake> = Arc::new(Ear(ups));
    let lives = Lives::begin(vec![Arc::clone(&instance)], &intake);
    let cases = [("the first", 0, 5), ("the second", 0, 10), ("short", 19, 20), ("long", 20, 5)];
    for (case, lasted, pause) in cases {
        tell.send(Do::GoUp).ok().unwrap();
        assert_eq!(heard.recv().await.as_deref(), Some("m"), "{case}");
        clock.pass(Duration::from_millis(lasted));
        tell.send(Do::GoDown).ok().unwrap();
        tell.send(Do::End(Err(case.to_owned()))).ok().unwrap();
        let ended = |life: &Life| matches!(life, Life::Down { reason, .. } if reason == case);
        let Life::Down { next_try, .. } = wait(&instance, ended).await else { unreachable!() };
        assert_eq!(next_try, Some(UnixMillis(1_000 + pause)), "{case}");
    }
    lives.end(LONG).await;
}
