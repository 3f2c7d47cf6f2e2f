//! Which upstreams there are, what each speaks, and what is known of its models: the sections
//! `[gateway.upstreams.NAME]` of `twobox.toml`, read strictly. Some are there without one (`built_in`). Nothing is
//! opened or asked here.

use std::collections::BTreeMap;
use std::net::IpAddr;

use hyper::Uri;
use serde::Deserialize;
use twobox_config::Config;
use twobox_shared::agent_config::{Api, ModelName, Route};
use twobox_store::usage::Limit;

use crate::built_in::{BUILT_IN, built_in};
use crate::price::{Bounds, Prices, limit};
use crate::secrets::is_name;

/// All upstreams, and what all agents together may use.
#[derive(Debug, Clone, PartialEq)]
pub struct Upstreams {
    by_name: BTreeMap<String, Upstream>,
    /// What all agents together may use in a day.
    pub limit: Limit,
}

/// Where models are asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Upstream {
    /// Its name, which begins the path of a request.
    pub name: String,
    /// Whose way it has.
    pub kind: Kind,
    /// What the rest of a request's path is put behind. It does not end with a slash.
    pub base_url: String,
    /// The name of the secret that it wants; `None` if it wants none.
    pub secret: Option<String>,
    /// What it speaks.
    pub api: Api,
    /// Nobody wrote a section for it, and it is a program that may run on this machine or not.
    pub guessed: bool,
    models: BTreeMap<String, Model>,
}

/// Whose way an upstream has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Anthropic's.
    Anthropic,
    /// OpenAI's.
    OpenAi,
    /// Another's that speaks as one of them does.
    Compatible,
}

/// What is known of one model.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// How many tokens a request and its answer may have together.
    pub context_tokens: u32,
    /// The most tokens of one answer.
    pub max_output_tokens: u32,
    /// Whether it takes images.
    pub images: bool,
    /// What it costs, if that is known.
    pub prices: Option<Prices>,
    /// What of the first two a person wrote.
    written: Bounds,
}

/// What is wrong in `[gateway]`, by its path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("gateway.upstreams.{path}: {reason}")]
pub struct SettingsError {
    /// Where: the upstream, and the setting.
    pub path: String,
    /// What, and what to write.
    pub reason: String,
}

/// A section as a person writes it.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Written {
    kind: Option<Kind>,
    base_url: Option<String>,
    secret: Option<String>,
    api: Option<Api>,
    insecure: bool,
    models: BTreeMap<String, WrittenModel>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct WrittenModel {
    context_tokens: Option<u32>,
    max_output_tokens: Option<u32>,
    images: Option<bool>,
    input_usd: Option<f64>,
    output_usd: Option<f64>,
    cache_read_usd: Option<f64>,
    cache_write_usd: Option<f64>,
}

/// The most that a million tokens may cost, in USD: above it is a mistake.
const USD_MAX: f64 = 1_000_000.0;

/// What is wrong, and in which setting of a section.
type Wrong = (&'static str, String);

impl Upstreams {
    /// Those that `config` sets, and those that need no setting.
    ///
    /// # Errors
    /// [`SettingsError`] for the first that is wrong.
    pub fn read(config: &Config) -> Result<Self, SettingsError> {
        let sections = &config.gateway.upstreams;
        let mut by_name = BTreeMap::new();
        for known in BUILT_IN.iter().filter(|known| !sections.contains_key(known.name)) {
            let upstream = upstream(known.name, Written::default())?;
            by_name.insert(known.name.to_owned(), Upstream { guessed: known.here, ..upstream });
        }
        for (name, section) in sections {
            let section = toml::Value::Table(section.clone());
            let written = serde_path_to_error::deserialize(section).map_err(|error| {
                let path = match error.path().to_string().as_str() {
                    "." | "?" => name.clone(),
                    path => format!("{name}.{path}"),
                };
                let reason = error.inner().message().replace('\n', ", ");
                SettingsError { path, reason }
            })?;
            by_name.insert(name.clone(), upstream(name, written)?);
        }
        let limit = limit(config.gateway.usd_per_day, config.gateway.tokens_per_day);
        Ok(Self { by_name, limit })
    }

    /// The one of that name.
    pub fn get(&self, name: &str) -> Option<&Upstream> {
        self.by_name.get(name)
    }

    /// All of them, by their names.
    pub fn all(&self) -> impl Iterator<Item = &Upstream> {
        self.by_name.values()
    }

    /// What a runner is told of the way to a model.
    ///
    /// # Errors
    /// A sentence if there is no such upstream.
    pub fn route(&self, name: &ModelName) -> Result<Route, String> {
        let upstream = self.get(name.upstream()).ok_or_else(|| {
            let known: Vec<&str> = self.by_name.keys().map(String::as_str).collect();
            let (wanted, known) = (name.upstream(), known.join(", "));
            format!(
                "model {name}: there is no upstream {wanted:?}, but {known}; a section \
                 [gateway.upstreams.{wanted}] in twobox.toml makes one"
            )
        })?;
        let model = upstream.model(name.model());
        Ok(Route {
            name: name.clone(),
            api: upstream.api,
            path: format!("/{}{}", upstream.name, upstream.path()),
            context_tokens: model.context_tokens,
            max_output_tokens: model.max_output_tokens,
            images: model.images,
        })
    }
}

impl Upstream {
    /// What is known of the model that it calls `name`: where it has no section, what is usual.
    pub fn model(&self, name: &str) -> Model {
        self.known(name).cloned().unwrap_or_else(|| Model::usual(self.kind))
    }

    /// What the settings say of the model that it calls `name`.
    pub fn known(&self, name: &str) -> Option<&Model> {
        self.models.get(name)
    }

    /// The path of a request, behind the base.
    pub fn path(&self) -> &'static str {
        match self.api {
            Api::Messages => "/v1/messages",
            Api::Responses => "/responses",
            Api::Chat => "/chat/completions",
        }
    }
}

impl Kind {
    fn api(self) -> Api {
        match self {
            Self::Anthropic => Api::Messages,
            Self::OpenAi => Api::Responses,
            Self::Compatible => Api::Chat,
        }
    }

    fn base_url(self) -> Option<&'static str> {
        match self {
            Self::Anthropic => Some("https://api.anthropic.com"),
            Self::OpenAi => Some("https://api.openai.com/v1"),
            Self::Compatible => None,
        }
    }
}

impl Model {
    /// What is taken for true of a model of which nobody said anything.
    fn usual(kind: Kind) -> Self {
        let (context_tokens, max_output_tokens, images) = match kind {
            Kind::Anthropic | Kind::OpenAi => (200_000, 16_384, true),
            Kind::Compatible => (32_768, 4_096, false),
        };
        let (prices, written) = (None, Bounds::default());
        Self { context_tokens, max_output_tokens, images, prices, written }
    }

    /// What bounds a request to it that says nothing itself.
    pub fn bounds(&self) -> Bounds {
        self.written
    }

    fn of(written: &WrittenModel, kind: Kind) -> Result<Self, Wrong> {
        let usual = Self::usual(kind);
        let context_tokens = written.context_tokens.unwrap_or(usual.context_tokens);
        // Where only the context is said, the usual answer may be too long for it.
        let room = usual.max_output_tokens.min((context_tokens / 2).max(1));
        let max_output_tokens = written.max_output_tokens.unwrap_or(room);
        if context_tokens == 0 {
            return Err((
                "context_tokens",
                "0 is no room at all: write how many it takes".to_owned(),
            ));
        }
        if max_output_tokens == 0 || max_output_tokens > context_tokens {
            let reason = format!(
                "{max_output_tokens} is not from 1 to its context_tokens, which are {context_tokens}"
            );
            return Err(("max_output_tokens", reason));
        }
        let images = written.images.unwrap_or(usual.images);
        let WrittenModel { context_tokens: context, max_output_tokens: answer, .. } = *written;
        let bounds = Bounds { context_tokens: context, max_output_tokens: answer };
        let prices = prices(written, kind)?;
        Ok(Self { context_tokens, max_output_tokens, images, prices, written: bounds })
    }
}

/// The prices of a model; `None` if none is written. What is written to a cache costs what is usual, and
/// what is read from it as much as other input, where the settings do not say it.
fn prices(written: &WrittenModel, kind: Kind) -> Result<Option<Prices>, Wrong> {
    let WrittenModel { input_usd, output_usd, cache_read_usd, cache_write_usd, .. } = *written;
    let all = [
        ("input_usd", input_usd),
        ("output_usd", output_usd),
        ("cache_read_usd", cache_read_usd),
        ("cache_write_usd", cache_write_usd),
    ];
    for (name, price) in all {
        if price.is_some_and(|price| !(0.0..=USD_MAX).contains(&price)) {
            let reason = format!("has to be from 0 to {USD_MAX}, in USD for a million tokens");
            return Err((name, reason));
        }
    }
    let missing = |name| {
        let reason = "is missing: without it nothing of the model's price can be counted";
        Err((name, reason.to_owned()))
    };
    match (input_usd, output_usd) {
        (Some(input), Some(output)) => {
            let usual_write = if kind == Kind::Anthropic { 1.25 * input } else { input };
            let (read, write) =
                (cache_read_usd.unwrap_or(input), cache_write_usd.unwrap_or(usual_write));
            Ok(Some(Prices::of_usd(input, output, read, write)))
        }
        (None, Some(_)) => missing("input_usd"),
        (Some(_), None) => missing("output_usd"),
        (None, None) if cache_read_usd.or(cache_write_usd).is_some() => missing("input_usd"),
        (None, None) => Ok(None),
    }
}

fn upstream(name: &str, written: Written) -> Result<Upstream, SettingsError> {
    let wrong = |(setting, reason): Wrong| {
        let path = if setting.is_empty() { name.to_owned() } else { format!("{name}.{setting}") };
        SettingsError { path, reason }
    };
    if !is_name(name) {
        let reason = "has a bad name: use letters, digits, -, _ and ., and at most 64 of them";
        return Err(wrong(("", reason.to_owned())));
    }
    let built_in = built_in(name);
    let kind = written.kind.or(built_in.map(|it| it.kind)).ok_or_else(|| {
        let reason = "is missing: write \"anthropic\", \"openai\" or \"compatible\"";
        wrong(("kind", reason.to_owned()))
    })?;
    let api = written.api.unwrap_or_else(|| kind.api());
    if !speaks(kind, api) {
        let reason = "is none of its kind: leave it out, or write kind = \"compatible\"";
        return Err(wrong(("api", reason.to_owned())));
    }
    let usual = built_in.and_then(|it| it.base_url).or_else(|| kind.base_url());
    let base_url = written.base_url.or_else(|| usual.map(str::to_owned));
    let base_url = base_url.ok_or_else(|| {
        let reason = "is missing: write where it is, such as \"https://models.example/v1\"";
        wrong(("base_url", reason.to_owned()))
    })?;
    let base_url = checked(&base_url, written.insecure)
        .map_err(|reason| wrong(("base_url", format!("{base_url:?} {reason}"))))?;
    let secret = match written.secret {
        None if built_in.is_some_and(|it| it.here) => None,
        None => Some(name.to_owned()),
        Some(secret) if secret.is_empty() => None,
        Some(secret) if is_name(&secret) => Some(secret),
        Some(_) => {
            // Not quoted: it may be the secret itself, which a person has put here.
            let reason = format!(
                "has to be the name of a secret, of letters, digits, -, _ and .: the secret itself is \
                 given to `twobox secrets set {name}`"
            );
            return Err(wrong(("secret", reason)));
        }
    };
    let model = |(model, written): (String, WrittenModel)| match Model::of(&written, kind) {
        Ok(read) => Ok((model, read)),
        Err((setting, reason)) => {
            Err(SettingsError { path: format!("{name}.models.{model:?}.{setting}"), reason })
        }
    };
    let models = written.models.into_iter().map(model).collect::<Result<_, _>>()?;
    Ok(Upstream { name: name.to_owned(), kind, base_url, secret, api, guessed: false, models })
}

fn speaks(kind: Kind, api: Api) -> bool {
    match kind {
        Kind::Anthropic => api == Api::Messages,
        Kind::OpenAi => matches!(api, Api::Responses | Api::Chat),
        Kind::Compatible => true,
    }
}

/// The address without a slash at its end, if a secret may be sent there.
fn checked(text: &str, insecure: bool) -> Result<String, String> {
    let uri: Uri = text.parse().map_err(|error| format!("is no address: {error}"))?;
    let host = uri.host().filter(|host| !host.is_empty());
    let (Some(scheme), Some(host)) = (uri.scheme_str(), host) else {
        return Err("is no whole address: it begins with https:// and a name".to_owned());
    };
    if uri.authority().is_some_and(|it| it.as_str().contains('@')) {
        return Err("names a user: give what it wants as a secret".to_owned());
    }
    if uri.query().is_some() || text.contains('#') {
        return Err("has more than a path: leave out what begins with ? or #".to_owned());
    }
    match scheme {
        "https" => {}
        "http" if insecure || is_loopback(host) => {}
        "http" => {
            return Err("would be asked in clear text, secret and all: use https://, or write \
                        insecure = true if nobody else is on that network"
                .to_owned());
        }
        _ => return Err("begins neither with https:// nor with http://".to_owned()),
    }
    Ok(text.trim_end_matches('/').to_owned())
}

pub(crate) fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
