//! `twobox token`: the token of the HTTP API, whether a daemon runs or not.

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::json;

use super::Context;
use super::output::Failure;
use twobox_app::token::Token;

/// What can be done with the token.
#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Show it. It is as good as a password.
    Show,
    /// Make another one, and let nobody in with the old one from now on.
    Renew,
}

pub(super) fn run(context: &Context, command: &TokenCommand) -> Result<ExitCode, Failure> {
    match command {
        TokenCommand::Show => show(context),
        TokenCommand::Renew => renew(context),
    }
}

pub(super) fn show(context: &Context) -> Result<ExitCode, Failure> {
    let data = context.open_data()?;
    let token = Token::read(&data.api_token())?.ok_or_else(|| {
        let place = context.data.display();
        Failure::new(format!(
            "there is no token yet: `twobox --data {place} token renew` makes one"
        ))
    })?;
    context.output.show(&json!({ "token": token.text() }), |_| token.text().to_owned());
    Ok(ExitCode::SUCCESS)
}

/// A host that runs sees it by itself.
fn renew(context: &Context) -> Result<ExitCode, Failure> {
    let data = context.open_data()?;
    Token::renew(&data.api_token())?;
    context.output.show(&json!({ "renewed": data.api_token() }), |_| {
        context
            .output
            .advise("the old token is refused from now on; `twobox token show` shows the new one")
    });
    Ok(ExitCode::SUCCESS)
}
