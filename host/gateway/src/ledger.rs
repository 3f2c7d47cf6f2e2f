//! Money and tokens: what a request can use is reserved before it is sent, and settled by what it did.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use twobox_shared::clock::Clock;
use twobox_slots::zone::Zone;
use twobox_store::Store;
use twobox_store::usage::{Day, Limit, Limits, OpenId, Opened, Over, Request, Settled, Whose};
use twobox_system::blocking::outcome;
use twobox_system::repeat::warned;

use crate::caller::Caller;
use crate::counting::Counted;
use crate::price::{Most, Prices, usd};
use crate::refusal::{Refusal, Why};
use crate::request::Asked;
use crate::settings::{Model, Upstream};

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
}

impl Ledger {
    /// A ledger in `store`.
    pub fn new(store: Store, clock: Arc<dyn Clock>, zone: Zone, all: Limit) -> Self {
        Self { store, clock, zone, all }
    }

    /// Reserves the most that a request with a body of `length` bytes can use.
    ///
    /// # Errors
    /// [`Why::OverBudget`] if there is no room for it, [`Why::Unfit`] if that cannot be known.
    pub async fn reserve(
        &self,
        caller: &Caller,
        upstream: &Upstream,
        asked: &Asked,
        length: usize,
    ) -> Result<Reserved, Refusal> {
        let model = upstream.model(&asked.model);
        let known = upstream.known(&asked.model).map(Model::bounds);
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
        let limits = Limits { all: self.all, agent: caller.allowed().await.limit };
        let (store, prices) = (self.store.clone(), model.prices);
        // In a task of its own: a client that goes meanwhile leaves nothing open.
        let opening = tokio::spawn(async move {
            let opened = store.usage().open(request, limits).await?;
            Ok(match opened {
                Opened::Admitted(id) => {
                    let bought = AtomicBool::new(false);
                    Ok(Reserved { store, id: Some(id), prices, bought })
                }
                Opened::Over(over) => Err(over),
            })
        });
        match outcome(opening).await {
            Ok(Ok(reserved)) => Ok(reserved),
            Ok(Err(over)) => Err(Refusal::new(Why::OverBudget, sentence(&over))),
            Err(error) => {
                let detail = "what may be spent could not be looked up".to_owned();
                complain(&error);
                Err(Refusal::new(Why::Unfit, detail))
            }
        }
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
        end(async move { store.usage().settle(id, settled).await });
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
fn end(written: impl Future<Output = Result<bool, twobox_store::DbError>> + Send + 'static) {
    // Outside of tokio its host is about to end; the next one finds the request open.
    if let Ok(tokio) = tokio::runtime::Handle::try_current() {
        tokio.spawn(async move {
            if let Err(error) = written.await {
                complain(&error);
            }
        });
    }
}

fn complain(error: &twobox_store::DbError) {
    let error = twobox_shared::errors::chain(error);
    if let Some(before) = warned("gateway.ledger", &error) {
        tracing::warn!(error, before, "what agents use could not be counted");
    }
}

fn sentence(over: &Over) -> String {
    let whose = match over.whose {
        Whose::All => "all agents together",
        Whose::Agent => "this agent",
    };
    let what = |amount: i64| match over.money {
        true => format!("{} USD", usd(amount)),
        false => format!("{amount} tokens"),
    };
    let (used, asked, limit) = (what(over.used), what(over.asked), what(over.limit));
    format!(
        "the budget of today is used up: {whose} may use {limit} a day, {used} are used or reserved, and \
         this request can use {asked}"
    )
}
