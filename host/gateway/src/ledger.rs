//! Money and tokens: what a request can use is reserved before it is sent, and settled by what it did.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use twobox_shared::clock::Clock;
use twobox_shared::content::RUN_IS_OVER_BUDGET;
use twobox_shared::fault::{self, CrashPoint};
use twobox_shared::time::UnixMillis;
use twobox_slots::zone::Zone;
use twobox_store::usage::{Day, Limit, Limits, OpenId, Opened, Over, Request, Settled, Whose};
use twobox_store::{DbError, Store};
use twobox_system::blocking::blocking;
use twobox_system::repeat::warned;

use crate::caller::{Allowed, Caller};
use crate::counting::Counted;
use crate::price::{Bounds, Most, Prices, usd};
use crate::refusal::{Refusal, Why};
use crate::request::Asked;
use crate::settings::Upstream;

/// Where it is written down.
#[derive(Clone)]
pub struct Ledger {
    store: Store,
    clock: Arc<dyn Clock>,
    /// In which the day turns.
    zone: Zone,
    /// What all agents together may use in a day.
    all: Limit,
}

/// Room for one request. One that is dropped without being settled was refused, or given up by its client:
/// nothing was bought, or nobody knows what, as it was told last.
#[must_use = "what is reserved has to be settled"]
pub struct Reserved {
    store: Store,
    /// `None` once its end is being written down.
    id: Option<OpenId>,
    prices: Option<Prices>,
    bought: AtomicBool,
    /// Where its answer is recorded, if it is.
    pub(crate) recording: Option<PathBuf>,
}

impl Ledger {
    /// A ledger in `store`.
    pub fn new(store: Store, clock: Arc<dyn Clock>, zone: Zone, all: Limit) -> Self {
        Self { store, clock, zone, all }
    }

    /// Reserves the most that a request with a body of `length` bytes can use.
    ///
    /// # Errors
    /// [`Why::OverBudget`] or [`Why::OverRun`] if there is no room for it, [`Why::Unseen`] if the run that used it
    /// up may be over, after several looks, [`Why::Unfit`] if that cannot be known.
    pub async fn reserve(
        &self,
        caller: &Caller,
        upstream: &Upstream,
        asked: &Asked,
        length: usize,
    ) -> Result<Reserved, Refusal> {
        let model = upstream.model(&asked.model);
        let known = model.bounds();
        let most = Most::of(length as u64, asked.max_output, asked.answers, known);
        let now = self.clock.now();
        let request = Request {
            day: Day::before(&self.zone, now, 0),
            agent: caller.agent,
            session: caller.session,
            upstream: upstream.name.clone(),
            model: asked.model.clone(),
            tokens: most.tokens(),
            nano_usd: model.prices.map(|prices| prices.most(&most)),
            now,
        };
        let mut opened = self.open(caller, request.clone(), model.prices).await;
        // The run that used it up may be over, and its runner have gone on before the host has seen that. Not
        // every client asks again by itself, so that it is waited for here.
        let (mut looks, mut seen) = (0, false);
        while !seen && matches!(&opened, Ok(Err(over)) if over.whose == Whose::Run) {
            if looks == LOOKS {
                tracing::debug!(session = %caller.session, "whether its run is over was not seen");
                return Err(Refusal::new(Why::Unseen, UNSEEN.to_owned()));
            }
            if looks > 0 {
                tokio::time::sleep(BETWEEN_LOOKS).await;
            }
            looks += 1;
            let taken_in = tokio::time::timeout(TAKEN_IN, caller.allowance.taken_in()).await;
            seen = taken_in.unwrap_or(false);
            opened = self.open(caller, request.clone(), model.prices).await;
        }
        match opened {
            Ok(Ok(reserved)) => Ok(reserved),
            Ok(Err(over)) => {
                let why = match over.whose {
                    Whose::Run => Why::OverRun,
                    Whose::All | Whose::Agent => Why::OverBudget,
                };
                let unbounded = match asked.max_output.is_none() && known == Bounds::default() {
                    true => unbounded(upstream, &asked.model),
                    false => String::new(),
                };
                Err(Refusal::new(why, sentence(&over) + &unbounded))
            }
            Err(error) => {
                let detail = "what may be spent could not be looked up".to_owned();
                complain(&error);
                Err(Refusal::new(Why::Unfit, detail))
            }
        }
    }

    /// Opens `request` if there is room for it in what its agent may use at this moment. Both on one thread, one
    /// after the other; a client that goes meanwhile leaves nothing open.
    async fn open(
        &self,
        caller: &Caller,
        request: Request,
        prices: Option<Prices>,
    ) -> Result<Result<Reserved, Over>, DbError> {
        let (store, all, allowance) = (self.store.clone(), self.all, Arc::clone(&caller.allowance));
        blocking(move || {
            let Allowed { limit: agent, run, records, .. } = allowance.allowed();
            let limits = Limits { all, agent, run };
            Ok(match store.usage().open(request, limits).wait()? {
                Opened::Admitted(id) => {
                    let bought = AtomicBool::new(false);
                    let recording = records.then(|| allowance.recording()).flatten();
                    Ok(Reserved { store, id: Some(id), prices, bought, recording })
                }
                Opened::Over(over) => Err(over),
            })
        })
        .await
    }
}

impl Ledger {
    /// The time by which it counts.
    pub(crate) fn now(&self) -> UnixMillis {
        self.clock.now()
    }
}

impl Reserved {
    /// Whether the request may be bought by now, and so what its end is if nobody says one.
    pub fn may_be_bought(&self, may: bool) {
        self.bought.store(may, Ordering::Relaxed);
    }

    /// The upstream has said what it used, or not.
    pub fn settle(mut self, counted: Counted) {
        // What was said before it broke off is less than what was used: that is unknown, as its drop says.
        let Counted { tokens: Some(tokens), complete: true } = counted else { return };
        let Some(id) = self.id.take() else { return };
        let (store, nano_usd) = (self.store.clone(), self.prices.map(|it| it.cost(&tokens)));
        let settled = Settled { tokens, nano_usd, failed: false };
        end(async move {
            fault::point(CrashPoint::HostGatewayAnswered);
            store.usage().settle(id, settled).await
        });
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let (Some(id), store) = (self.id.take(), self.store.clone()) else { return };
        match self.bought.load(Ordering::Relaxed) {
            true => end(async move { store.usage().lose(id).await }),
            false => end(async move { store.usage().abandon(id).await }),
        }
    }
}

/// Writes the end of a request down, while its client goes on.
fn end(written: impl Future<Output = Result<bool, DbError>> + Send + 'static) {
    // Outside of tokio its host is about to end; the next one finds the request open.
    if let Ok(tokio) = tokio::runtime::Handle::try_current() {
        tokio.spawn(async move {
            if let Err(error) = written.await {
                complain(&error);
            }
        });
    }
}

fn complain(error: &DbError) {
    let error = twobox_shared::errors::chain(error);
    if let Some(before) = warned("gateway.ledger", &error) {
        tracing::warn!(error, before, "what agents use could not be counted");
    }
}

/// How long a session may take to see what its container has done.
const TAKEN_IN: Duration = Duration::from_secs(10);

/// How often it is asked to look, before that is refused which depends on it. Runners wait for a head for longer
/// than all of that takes.
const LOOKS: u32 = 3;

/// The pause before it is asked again: it may have been busy, or in the middle of being opened.
const BETWEEN_LOOKS: Duration = Duration::from_millis(500);

/// What is said where it took longer, or could not: of the message that is asked for now nothing may be used yet.
const UNSEEN: &str = "what a message may cost is used up, and the host has not seen yet whether that was the one \
                      before; try again in a moment";

fn sentence(over: &Over) -> String {
    let what = |amount: i64| match over.money {
        true => format!("{} USD", usd(amount)),
        false => format!("{amount} tokens"),
    };
    let (used, asked, limit) = (what(over.used), what(over.asked), what(over.limit));
    let setting = if over.money { "usd_per_day" } else { "tokens_per_day" };
    let (whose, setting) = match over.whose {
        Whose::Run => {
            return format!(
                "{RUN_IS_OVER_BUDGET}: a message may cost {limit}, {used} are used or reserved for it, and \
                 this request can cost {asked}; budget.usd_per_run of this agent sets it"
            );
        }
        Whose::All => ("all agents together", format!("gateway.{setting}")),
        Whose::Agent => ("this agent", format!("budget.{setting} of this agent")),
    };
    format!(
        "the budget of today is used up: {whose} may use {limit} a day, {used} are used or reserved, and \
         this request can use {asked}; {setting} sets it"
    )
}

/// Why a request can use so much, and what would bound it.
fn unbounded(upstream: &Upstream, model: &str) -> String {
    format!(
        ". That is so much because nothing says how long an answer may be: max_output_tokens in \
         [gateway.upstreams.{}.models.{model:?}] does",
        upstream.name
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_budget_what_is_used_of_it_and_its_setting() {
        let over = |whose, money| sentence(&Over { whose, money, used: 7, asked: 5, limit: 10 });
        let cases = [
            (Whose::All, true, "gateway.usd_per_day sets it"),
            (Whose::All, false, "all agents together may use 10 tokens a day, 7 tokens are used"),
            (Whose::Agent, false, "this agent may use 10 tokens a day"),
            (Whose::Agent, false, "budget.tokens_per_day of this agent sets it"),
            (Whose::Run, true, "the budget of this run is used up"),
            (Whose::Run, true, "budget.usd_per_run of this agent sets it"),
        ];
        for (whose, money, expected) in cases {
            let said = over(whose, money);
            assert!(said.contains(expected), "{whose:?} {money}: {said}");
            let of_day = said.contains("of today");
            assert_eq!(of_day, whose != Whose::Run, "{said}");
        }
    }
}
