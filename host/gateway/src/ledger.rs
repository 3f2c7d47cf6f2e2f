//! Money and tokens: what a request can use is reserved before it is sent, and settled by what it did.

use std::sync::Arc;

use twobox_shared::clock::Clock;
use twobox_slots::zone::Zone;
use twobox_store::Store;
use twobox_store::usage::{Day, Limit, Limits, OpenId, Opened, Over, Request, Settled, Whose};
use twobox_system::repeat::warned;

use crate::caller::Caller;
use crate::counting::Counted;
use crate::price::{Most, Prices};
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

/// Room for one request. Whoever drops it without a word leaves it open, as a host that dies does.
#[must_use = "what is reserved has to be settled"]
pub struct Reserved {
    store: Store,
    id: OpenId,
    prices: Option<Prices>,
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
        let output = asked.max_output.unwrap_or(u64::from(model.max_output_tokens));
        let most = Most {
            output: output.saturating_mul(asked.answers),
            ..Most::of(length as u64, model.context_tokens, 0)
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
        match self.store.usage().open(request, limits).await {
            Ok(Opened::Admitted(id)) => {
                Ok(Reserved { store: self.store.clone(), id, prices: model.prices })
            }
            Ok(Opened::Over(over)) => Err(Refusal::new(Why::OverBudget, sentence(&over))),
            Err(error) => {
                let detail = "what may be spent could not be looked up".to_owned();
                complain(&error);
                Err(Refusal::new(Why::Unfit, detail))
            }
        }
    }
}

impl Reserved {
    /// The upstream has said what it used, or not.
    pub fn settle(self, counted: Counted) {
        let Self { store, id, prices } = self;
        match counted {
            Counted { tokens: Some(tokens), complete: true } => {
                let nano_usd = prices.map(|prices| prices.cost(&tokens));
                let settled = Settled { tokens, nano_usd, failed: false };
                end(async move { store.usage().settle(id, settled).await });
            }
            // What was said before it broke off is less than what was used.
            Counted { .. } => end(async move { store.usage().lose(id).await }),
        }
    }

    /// Nothing was bought.
    pub fn nothing(self) {
        let Self { store, id, .. } = self;
        end(async move { store.usage().abandon(id).await });
    }

    /// Nobody knows what was bought.
    pub fn unknown(self) {
        let Self { store, id, .. } = self;
        end(async move { store.usage().lose(id).await });
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
