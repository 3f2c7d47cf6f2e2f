use std::sync::Arc;

use super::*;

/// A platform that does with each part, by its name, what it is told to, in order.
#[derive(Default)]
struct Told {
    sends: Mutex<HashMap<&'static str, Vec<Sent>>>,
    looks: Mutex<HashMap<&'static str, Looked>>,
    /// The part that may not leave for long.
    late: Option<&'static str>,
    seen: Mutex<Vec<String>>,
}

impl Told {
    fn sends(self, part: &'static str, what: impl Into<Vec<Sent>>) -> Self {
        lock(&self.sends).insert(part, what.into());
        self
    }

    fn looks(self, part: &'static str, what: Looked) -> Self {
        lock(&self.looks).insert(part, what);
        self
    }

    fn seen(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.seen))
    }
}

impl Platform<()> for Told {
    fn ready<'a>(&'a self, part: &'a Part<()>) -> BoxFuture<'a, Result<(), Outcome>> {
        let late = self.late.filter(|late| *late == part.name);
        let error =
            late.map(|_| Outcome::Transient { error: "later".to_owned(), retry_after: None });
        Box::pin(async { error.map_or(Ok(()), Err) })
    }

    fn send<'a>(&'a self, part: &'a Part<()>) -> BoxFuture<'a, Sent> {
        let name = part.name.as_str();
        lock(&self.seen).push(format!("send {name}"));
        let mut sends = lock(&self.sends);
        let said = sends.get_mut(name).filter(|all| !all.is_empty()).map(|all| all.remove(0));
        let said = said.unwrap_or_else(|| Sent::Taken(Some(format!("id-{name}"))));
        Box::pin(async { said })
    }

    fn look<'a>(&'a self, part: &'a Part<()>, _begun: UnixMillis) -> BoxFuture<'a, Looked> {
        lock(&self.seen).push(format!("look {}", part.name));
        let said = lock(&self.looks).get(part.name.as_str()).cloned().unwrap_or(Looked::Unknown);
        Box::pin(async { said })
    }
}

fn parts(names: &[&str]) -> Vec<Part<()>> {
    names.iter().map(|name| Part { name: (*name).to_owned(), what: () }).collect()
}

fn not_sent() -> Sent {
    Sent::NotSent { error: "busy".to_owned(), retry_after: Some(Duration::from_secs(7)) }
}

fn delivered(id: &str) -> Outcome {
    Outcome::Delivered { platform_message_id: Some(id.to_owned()) }
}

#[tokio::test]
async fn what_was_taken_is_not_sent_again_and_the_rest_goes_on_behind_it() {
    let journal = MemoryJournal::default();
    let told = Told::default().sends("2", [not_sent()]);
    let all = parts(&["1", "2", "file-0"]);
    let outcome = deliver(&journal, "k", &all, &told).await;
    let busy =
        Outcome::Transient { error: "busy".to_owned(), retry_after: Some(Duration::from_secs(7)) };
    assert_eq!((outcome, told.seen()), (busy, vec!["send 1".to_owned(), "send 2".to_owned()]));
    let outcome = deliver(&journal, "k", &all, &told).await;
    assert_eq!(outcome, delivered("id-1"), "the first part's id is the message's");
    assert_eq!(told.seen(), ["send 2", "send file-0"]);
    assert_eq!(deliver(&journal, "k", &all, &told).await, delivered("id-1"));
    assert_eq!(told.seen(), Vec::<String>::new(), "all of it is there");
    assert_eq!(deliver(&journal, "other", &all[..1], &told).await, delivered("id-1"));
    journal.forget("k").await.unwrap();
    assert_eq!(journal.of("k").await.unwrap(), []);
    assert_eq!(journal.of("other").await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_nobody_knows_is_looked_for_and_never_sent_on_a_guess() {
    let unknown = || Sent::Unknown("cut off".to_owned());
    let error = "it was sent, and nobody knows whether it arrived".to_owned();
    let cases = [
        (Looked::There(Some("id-1".to_owned())), &["look 1"][..], delivered("id-1")),
        (Looked::NotThere, &["look 1", "send 1"], delivered("id-1")),
        (Looked::Unknown, &["look 1"], Outcome::Uncertain { error }),
        (
            Looked::NotNow { error: "down".to_owned(), retry_after: None },
            &["look 1"],
            Outcome::Transient { error: "down".to_owned(), retry_after: None },
        ),
    ];
    for (looked, seen, expected) in cases {
        let journal = MemoryJournal::default();
        let told = Told::default().sends("1", [unknown()]).looks("1", looked.clone());
        let outcome = deliver(&journal, "k", &parts(&["1"]), &told).await;
        assert_eq!(outcome, Outcome::Uncertain { error: "cut off".to_owned() });
        assert_eq!(told.seen(), ["send 1"]);
        let outcome = deliver(&journal, "k", &parts(&["1"]), &told).await;
        assert_eq!(
            (outcome, told.seen()),
            (expected, seen.iter().map(|it| (*it).to_owned()).collect()),
            "{looked:?}"
        );
    }
}

#[tokio::test]
async fn a_part_that_is_unknown_keeps_none_behind_it_and_is_named() {
    let journal = MemoryJournal::default();
    let told = Told::default().sends("2", [Sent::Unknown("cut off".to_owned())]);
    let outcome = deliver(&journal, "k", &parts(&["1", "2", "3"]), &told).await;
    let error = "part 2 of 3: cut off".to_owned();
    assert_eq!(outcome, Outcome::Uncertain { error });
    assert_eq!(told.seen(), ["send 1", "send 2", "send 3"]);
}

#[tokio::test]
async fn what_is_refused_ends_it_and_may_be_sent_again_by_a_person() {
    let journal = MemoryJournal::default();
    let told = Told::default().sends("1", [Sent::Refused("no".to_owned())]);
    let all = parts(&["1", "2"]);
    let outcome = deliver(&journal, "k", &all, &told).await;
    assert_eq!(outcome, Outcome::Permanent { error: "no".to_owned() });
    assert_eq!(deliver(&journal, "k", &all, &told).await, delivered("id-1"));
    assert_eq!(told.seen(), ["send 1", "send 1", "send 2"]);
}

/// A journal on a disk that is full.
struct Full(MemoryJournal);

impl Journal for Full {
    fn of<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Vec<PartRecord>, String>> {
        self.0.of(key)
    }

    fn begin<'a>(&'a self, _key: &'a str, _part: &'a str) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async { Err("the disk is full".to_owned()) })
    }

    fn taken<'a>(
        &'a self,
        key: &'a str,
        part: &'a str,
        platform_id: Option<&'a str>,
    ) -> BoxFuture<'a, Result<(), String>> {
        self.0.taken(key, part, platform_id)
    }

    fn undo<'a>(&'a self, key: &'a str, part: &'a str) -> BoxFuture<'a, Result<(), String>> {
        self.0.undo(key, part)
    }

    fn forget<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), String>> {
        self.0.forget(key)
    }
}

#[tokio::test]
async fn nothing_leaves_that_cannot_be_written_down() {
    let journal: Arc<dyn Journal> = Arc::new(Full(MemoryJournal::default()));
    let told = Told::default();
    let outcome = deliver(journal.as_ref(), "k", &parts(&["1"]), &told).await;
    let error = "the disk is full".to_owned();
    assert_eq!(outcome, Outcome::Transient { error, retry_after: None });
    assert_eq!(told.seen(), Vec::<String>::new());
}

#[tokio::test]
async fn of_a_part_that_may_not_leave_yet_nothing_is_recorded() {
    let journal = MemoryJournal::default();
    let late = Told { late: Some("2"), ..Told::default() };
    let outcome = deliver(&journal, "k", &parts(&["1", "2", "3"]), &late).await;
    assert_eq!(outcome, Outcome::Transient { error: "later".to_owned(), retry_after: None });
    assert_eq!(late.seen(), ["send 1"]);
    let known = journal.of("k").await.unwrap();
    assert_eq!(known.iter().map(|it| it.part.as_str()).collect::<Vec<_>>(), ["1"]);
    let ready = Told::default();
    assert_eq!(deliver(&journal, "k", &parts(&["1", "2", "3"]), &ready).await, delivered("id-1"));
    assert_eq!(ready.seen(), ["send 2", "send 3"]);
}
