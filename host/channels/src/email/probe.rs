//! What `twobox doctor` says of an instance: whether both servers let it in, and whether the one for reading tells
//! when something comes. Changes nothing.

use std::sync::Arc;

use futures_util::FutureExt;
use twobox_system::blocking::blocking;

use super::imap::Imap;
use super::settings::{Settings, Trust};
use super::smtp::{Login, Smtp};
use super::{described, missing};
use crate::kinds::{Found, Probing, Setup};

/// Begins to look.
pub(super) fn begin(setup: &Setup<'_>) -> Result<Probing, String> {
    let settings = Settings::of(setup)?;
    let secrets = Arc::clone(&setup.secrets);
    let look = async move {
        let name = settings.password_secret.clone();
        let given = blocking(move || secrets(&name)).await?;
        let password = given.ok_or_else(|| missing(&settings))?;
        let login = Login { user: &settings.user, password: &password };
        let mut imap = Imap::enter(&settings.imap, &login).await?;
        imap.examine(&settings.folder).await?;
        if let Some(folder) = &settings.sent_folder {
            imap.examine(folder).await?;
        }
        let mut warnings = Vec::new();
        if !imap.knows("IDLE") {
            warnings.push(format!(
                "{} does not tell when mail comes (IDLE): it is asked twice a minute",
                settings.imap
            ));
        }
        if settings.trust == Trust::From {
            warnings.push(
                "whoever can send mail to the address under another's name is taken for them \
                 (trust_from = true)"
                    .to_owned(),
            );
        }
        imap.leave().await;
        let smtp = Smtp::enter(&settings.smtp, &login).await?;
        let most = smtp.size_max().map(|most| format!(", mail of up to {} MB", most / 1_000_000));
        smtp.leave().await;
        let most = most.unwrap_or_default();
        Ok(Found {
            what: format!("{}; both servers let it in{most}", described(&settings)),
            warnings,
        })
    };
    Ok(look.boxed())
}
