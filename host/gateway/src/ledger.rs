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
use crate::price::{Most, Prices};
use crate::refusal::{Refusal, Why};
use crate::request::Asked;
use crate::settings::Upstream;

/// As many tokens as any model reads: what is reserved for one of which the settings say nothing.
const CONTEXT_MAX: u32 = 1_000_000;

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

/// Room for one request. One that is dropped without a word was given up by its client: nothing was bought if
/// it was not sent, and otherwise nobody knows what.
#[must_use = "what is reserved has to be settled"]
pub struct Reserved {
    store: Store,
    /// `None` once its end is being written down.
    id: Option<OpenId>,
    prices: Option<Prices>,
    sent: AtomicBool,
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
        // What is only taken for usual bounds nothing: the model may take more.
        let context = match upstream.models().any(|(name, _)| name == asked.model) {
            true => model.context_tokens,
            false => CONTEXT_MAX,
        };
        let output = asked.max_output.unwrap_or(u64::from(context));
        let most = Most {
            output: output.saturating_mul(asked.answers),
            ..Most::of(length as u64, context, 0)
        };
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
        let limits = Limits { all: self.all, agent: caller.limit };
        let (store, prices) = (self.store.clone(), model.prices);
        // In a task of its own: a client that goes meanwhile leaves nothing open.
        let opening = tokio::spawn(async move {
            let opened = store.usage().open(request, limits).await?;
            Ok(match opened {
                Opened::Admitted(id) => {
                    let sent = AtomicBool::new(false);
                    Ok(Reserved { store, id: Some(id), prices, sent })
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
    /// From here on it may be bought.
    pub fn sent(&self) {
        self.sent.store(true, Ordering::Relaxed);
    }

    /// The upstream has said what it used, or not.
    pub fn settle(mut self, counted: Counted) {
        let (Some(id), store) = (self.id.take(), self.store.clone()) else { return };
        match counted {
            Counted { tokens: Some(tokens), complete: true } => {
                let nano_usd = self.prices.map(|prices| prices.cost(&tokens));
                let settled = Settled { tokens, nano_usd, failed: false };
                end(async move { store.usage().settle(id, settled).await });
            }
            // What was said before it broke off is less than what was used.
            Counted { .. } => end(async move { store.usage().lose(id).await }),
        }
    }

    /// Nothing was bought.
    pub fn nothing(mut self) {
        let (Some(id), store) = (self.id.take(), self.store.clone()) else { return };
        end(async move { store.usage().abandon(id).await });
    }

    /// Nobody knows what was bought.
    pub fn unknown(mut self) {
        let (Some(id), store) = (self.id.take(), self.store.clone()) else { return };
        end(async move { store.usage().lose(id).await });
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let (Some(id), store) = (self.id.take(), self.store.clone()) else { return };
        match self.sent.load(Ordering::Relaxed) {
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
        #[expect(clippy::cast_precision_loss, reason = "shown with few digits")]
        true => format!("{:.4} USD", amount as f64 / 1e9),
        false => format!("{amount} tokens"),
    };
    let (used, asked, limit) = (what(over.used), what(over.asked), what(over.limit));
    format!(
        "the budget of today is used up: {whose} may use {limit} a day, {used} are used or reserved, and \
         this request can use {asked}"
    )
}
