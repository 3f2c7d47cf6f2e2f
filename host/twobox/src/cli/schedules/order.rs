//! What only the running host can do with schedules, and telling it what has changed.

use std::time::Duration;

use twobox_shared::ids::RunId;

use crate::cli::Context;
use crate::cli::client::Client;
use crate::cli::output::Failure;
use twobox_channels::socket::{Event, Request};
use twobox_model::channel::ScheduleOrder;
use twobox_system::data::DataDir;

/// How long the host may take for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long it may take to start a run, for which its session is made ready.
const RUN_PATIENCE: Duration = Duration::from_secs(60);

/// Has the host run the schedule `name` now, and returns the run that it started.
pub(super) async fn execute(
    context: &Context,
    name: String,
    force: bool,
) -> Result<RunId, Failure> {
    let data = context.open_data()?;
    let answer = carry_out(&data, ScheduleOrder::Run { schedule: name, force }).await?;
    let id = answer["run"]["id"].as_str().and_then(|id| id.parse().ok());
    id.ok_or_else(|| Failure::new(format!("the host answered something else: {answer}")))
}

/// Has the host end a run, and returns what came of it.
pub(super) async fn cancel(context: &Context, run: RunId) -> Result<serde_json::Value, Failure> {
    carry_out(&context.open_data()?, ScheduleOrder::Cancel { run }).await
}

pub(in crate::cli) async fn carry_out(
    data: &DataDir,
    order: ScheduleOrder,
) -> Result<serde_json::Value, Failure> {
    let patience = match order {
        ScheduleOrder::Run { .. } => RUN_PATIENCE,
        ScheduleOrder::Cancel { .. } | ScheduleOrder::Task { .. } | ScheduleOrder::Look => PATIENCE,
    };
    let asked = async {
        let mut client = Client::reach(&data.socket()).await?;
        client.answer(&Request::Schedules(order)).await
    };
    let silent = |_| {
        Failure::new(format!(
            "the host did not answer within {} s, and may still do it: `twobox doctor` looks after \
             the host, `twobox schedules runs` shows what became of it",
            patience.as_secs()
        ))
    };
    match tokio::time::timeout(patience, asked).await.map_err(silent)?? {
        Event::Schedules { answer } => Ok(answer),
        other => Err(Failure::new(format!("the host answered something else: {other:?}"))),
    }
}

/// Lets a host that is up see at once what was changed. One that does not answer finds it by itself.
///
/// # Errors
/// There is no data directory.
pub(in crate::cli) async fn announce(context: &Context) -> Result<(), Failure> {
    let data = context.open_data()?;
    let told = async {
        if let Ok(mut client) = Client::connect(&data.socket()).await {
            drop(client.answer(&Request::Schedules(ScheduleOrder::Look)).await);
        }
    };
    // It is done already: nobody waits for long for a host that stands still.
    drop(tokio::time::timeout(PATIENCE, told).await);
    Ok(())
}
