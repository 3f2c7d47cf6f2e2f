//! What `twobox doctor` says of an instance: whether somebody answers at the address. Nothing is posted.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use hyper::Method;

use super::settings::Settings;
use super::{client_of, described, hook};
use crate::http::Ask;
use crate::kinds::{Found, Setup};

/// Begins to look.
pub(super) fn begin(
    setup: &Setup<'_>,
) -> Result<BoxFuture<'static, Result<Found, String>>, String> {
    let settings = Settings::of(setup)?;
    let key = hook::key_of(&setup.secrets, &settings.secret).map(drop);
    let what = described(setup.id, &settings);
    let (client, path) = client_of(&settings);
    let look = async move {
        key?;
        let ask = Ask::new(Method::HEAD, path).patient(settings.timeout).at_most(super::ANSWER_MAX);
        let place = settings.place();
        let answer = client.ask(ask).await.map_err(|fault| format!("{place}: {fault}"))?;
        let mut warnings = Vec::new();
        if answer.status == 404 || (300..400).contains(&answer.status) {
            warnings.push(format!("what is at the address answers {} to HEAD", answer.status));
        }
        if settings.is_open() {
            warnings.push("whoever is on the way reads what is said: use https://".to_owned());
        }
        Ok(Found { what: format!("{what}; the receiver answers"), warnings })
    };
    Ok(look.boxed())
}
