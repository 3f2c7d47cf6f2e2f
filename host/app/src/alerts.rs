//! Telling the operator, in a chat of theirs, what they have to mend: a channel that is down, answers that were not
//! delivered, a key that an upstream refuses, agents that cannot be started. What there is to tell is compared with
//! what was told once a minute, or more often where less is set; what is the same is told once, and once that it
//! is over.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use twobox_channels::Channel;
use twobox_channels::life::Life;
use twobox_model::alert::{Alert, EVENT, Lasting};
use twobox_model::channel::{Address, Outbound, Outcome};
use twobox_session::core::{Core, Lost};
use twobox_shared::errors::chain;
use twobox_shared::time::UnixMillis;
use twobox_store::DbError;
use twobox_store::overview::FailedStarts;
use twobox_system::repeat::warned;

/// How long it is before everything is looked at again.
const EVERY: Duration = Duration::from_secs(60);

/// For how long answers that were not delivered are one trouble.
const LOST_FOR: Duration = Duration::from_secs(60 * 60);

/// How the cause of a key begins that an upstream refuses.
const KEY: &str = "key:";

/// Where the operator is told: `channels.ID` and a chat there, from `alerts.to`.
///
/// # Errors
/// Why `text` names none.
pub fn address(text: &str) -> Result<Option<Address>, String> {
    match text.trim().split_once(char::is_whitespace) {
        _ if text.trim().is_empty() => Ok(None),
        Some((channel, chat)) => Ok(Some(Address {
            channel_type: channel.to_owned(),
            platform_id: chat.trim().to_owned(),
            thread_id: None,
        })),
        None => Err(format!(
            "alerts.to = {text:?} names no chat: use the id of a channel and a chat there, such as \
             \"matrix !room:example.org\""
        )),
    }
}

/// Tells the operator, until the host stops. Nothing is done where nobody is to be told.
pub async fn tell(core: Arc<Core>) {
    let to = match address(&core.parts.config.alerts.to) {
        Ok(Some(to)) => to,
        Ok(None) => return,
        Err(error) => return tracing::warn!("{error}"),
    };
    let Some(channel) = core.parts.channels.get(&to.channel_type).cloned() else {
        let channel = to.channel_type;
        return tracing::warn!("alerts.to names the channel {channel:?}, and there is none");
    };
    let after = core.parts.config.alerts.after;
    let mut lost = None;
    loop {
        if let Err(error) = look(&core, &to, channel.as_ref(), &mut lost).await {
            let error = chain(&error);
            if let Some(before) = warned("alerts", &error) {
                tracing::warn!(error, before, "the operator could not be told what is wrong");
            }
        }
        sleep(EVERY.min(after).max(Duration::from_secs(1))).await;
    }
}

/// Answers that were not delivered, and until when they are told of.
struct Recent {
    lost: Lost,
    since: UnixMillis,
}

async fn look(
    core: &Core,
    to: &Address,
    channel: &dyn Channel,
    recent: &mut Option<Recent>,
) -> Result<(), DbError> {
    let Core { parts, undelivered, .. } = core;
    let now = parts.clock.now();
    if let Some(lost) = undelivered.take() {
        // Where it lasts already it is one trouble, whose text stays.
        *recent = Some(Recent { lost, since: now });
    }
    if recent.as_ref().is_some_and(|it| now.since(it.since) > LOST_FOR) {
        *recent = None;
    }
    let open = parts.store.alerts().open().await?;
    let starts = parts.store.sessions().failed_starts().await?;
    let seen = Seen {
        lives: lives(&parts.channels),
        keys: parts.gateway.keys(),
        lost: recent.as_ref().map(|it| &it.lost),
        starts,
        open: open.into_iter().map(|alert| alert.cause).collect(),
    };
    parts.store.alerts().lasting(&seen.troubles(parts.config.alerts.after, now), now).await?;
    for alert in parts.store.alerts().untold().await? {
        match channel.deliver(to, vec![outbound(core, &alert)]).await.pop() {
            // What nobody knows is not told twice; what is refused for good is in the log.
            Some(Outcome::Delivered { .. } | Outcome::Uncertain { .. }) => {}
            Some(Outcome::Permanent { error }) => {
                tracing::warn!(alert = alert.text, error, "the operator could not be told");
            }
            Some(Outcome::Transient { .. } | Outcome::Unavailable) | None => return Ok(()),
        }
        if parts.store.alerts().told(&alert, parts.clock.now()).await? {
            channel.forget(&key(core, &alert));
        }
    }
    Ok(())
}

fn lives(channels: &HashMap<String, Arc<dyn Channel>>) -> BTreeMap<String, Life> {
    let life =
        |(id, channel): (&String, &Arc<dyn Channel>)| Some((id.clone(), channel.health()?.life));
    channels.iter().filter_map(life).collect()
}

fn key(core: &Core, alert: &Alert) -> String {
    format!("{}:{}", core.parts.install, alert.key())
}

fn outbound(core: &Core, alert: &Alert) -> Outbound {
    Outbound {
        key: key(core, alert),
        in_reply_to: None,
        answers: Vec::new(),
        text: alert.said(),
        files: Vec::new(),
        shelf: None,
        failed: false,
        prompt: None,
    }
}

/// What is known of the host.
struct Seen<'a> {
    lives: BTreeMap<String, Life>,
    keys: BTreeMap<String, bool>,
    /// What the operator knows of, or is about to.
    open: HashSet<String>,
    lost: Option<&'a Lost>,
    starts: FailedStarts,
}

impl Seen<'_> {
    /// What the operator wants to know of, where a channel has been down for longer than `after`.
    fn troubles(&self, after: Duration, now: UnixMillis) -> Vec<Lasting> {
        let mut all = Vec::new();
        for (id, life) in &self.lives {
            let cause = format!("channel:{id}");
            let (reason, lasts) = match life {
                Life::Down { reason, down_since, .. } => {
                    (reason.as_str(), now.since(*down_since) >= after)
                }
                Life::Starting => ("it has not been up since the host started", false),
                Life::Up { .. } | Life::Stopped => continue,
            };
            // What was told of before a restart is not over because it begins anew.
            if lasts || self.open.contains(&cause) {
                let text = format!(
                    "the channel {id} is down, and what is said there waits: {reason}. `twobox status` \
                     shows it"
                );
                all.push(Lasting::new(cause, &text));
            }
        }
        // Nor is a key taken of which no upstream has said anything since.
        let known = self.keys.keys().map(|name| (name.as_str(), !self.keys[name]));
        let unheard = self.open.iter().filter_map(|cause| cause.strip_prefix(KEY));
        let unheard =
            unheard.filter(|name| !self.keys.contains_key(*name)).map(|name| (name, true));
        for (upstream, _) in known.chain(unheard).filter(|(_, is_refused)| *is_refused) {
            let text = format!(
                "{upstream} refuses the host's key (401), and its models answer nobody: `twobox secrets \
                 set {upstream}`"
            );
            all.push(Lasting::new(format!("{KEY}{upstream}"), &text));
        }
        if let Some(Lost { count, channel, chat, error }) = self.lost {
            let text = format!(
                "{count} of the agents' messages were not delivered, the last one to {channel} {chat}: \
                 {error}. `twobox dead list` shows them"
            );
            all.push(Lasting::new(format!("{EVENT}undelivered"), &text));
        }
        if self.starts.sessions > 0 {
            let error = self.starts.last.as_deref().unwrap_or("no reason is known");
            let text = format!(
                "the containers of {} conversations cannot be started: {error}. `twobox sessions list` \
                 shows them",
                self.starts.sessions
            );
            all.push(Lasting::new("starts", &text));
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chat_is_named_by_its_channel_and_its_id() {
        let to = address(" matrix  !room:example.org ").unwrap().unwrap();
        assert_eq!(
            (to.channel_type.as_str(), to.platform_id.as_str()),
            ("matrix", "!room:example.org")
        );
        assert_eq!(address("").unwrap(), None);
        assert!(address("matrix").unwrap_err().contains("names no chat"));
    }

    #[test]
    fn what_lasts_is_a_trouble_and_what_is_short_is_none() {
        let at = UnixMillis;
        let down = |since: i64| Life::Down {
            reason: "no route\nto host".to_owned(),
            down_since: at(since),
            next_try: None,
        };
        let lives = [
            ("old", down(0)),
            ("fresh", down(100_000)),
            ("up", Life::Up { up_since: at(0) }),
            ("begins", Life::Starting),
        ];
        let lost = Lost {
            count: 3,
            channel: "sms".to_owned(),
            chat: "42".to_owned(),
            error: "no such number".to_owned(),
        };
        let seen = Seen {
            lives: lives.map(|(id, life)| (id.to_owned(), life)).into(),
            keys: [("anthropic".to_owned(), false), ("openai".to_owned(), true)].into(),
            open: HashSet::new(),
            lost: Some(&lost),
            starts: FailedStarts { sessions: 0, last: None },
        };
        let troubles = seen.troubles(Duration::from_secs(60), at(120_000));
        let causes: Vec<&str> = troubles.iter().map(|it| it.cause.as_str()).collect();
        assert_eq!(causes, ["channel:old", "key:anthropic", "event:undelivered"]);
        assert!(troubles[0].text.contains("no route\\nto host"), "{}", troubles[0].text);
        assert!(troubles[2].text.starts_with("3 of the agents' messages"));
        let known = ["channel:fresh", "channel:begins", "channel:up", "key:openai", "key:mine"];
        let seen = Seen { open: known.map(str::to_owned).into(), lost: None, ..seen };
        let troubles = seen.troubles(Duration::from_secs(60), at(120_000));
        let causes: Vec<&str> = troubles.iter().map(|it| it.cause.as_str()).collect();
        let expected =
            ["channel:begins", "channel:fresh", "channel:old", "key:anthropic", "key:mine"];
        assert_eq!(causes, expected, "what is open is over when somebody says so");
    }
}
