//! Going to rooms to which somebody has invited the account. A room of a homeserver far away may take minutes:
//! nothing else waits for that, and only so many are entered at once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use tokio::time::sleep;
use twobox_model::backoff::Backoff;
use twobox_system::lock::lock;
use twobox_system::repeat::warned;

use super::super::client::Ask;
use super::super::events::Invited;
use super::super::kept::ROOMS_MAX;
use super::super::path::step;
use super::super::settings::is_user;
use super::super::trouble::Trouble;
use super::super::{Account, MatrixChannel};
use crate::pauses::Pauses;

/// How many rooms are entered at once.
const AT_ONCE: usize = 4;

/// How long the homeserver may take to enter one.
const PATIENCE: Duration = Duration::from_secs(3 * 60);

/// The pauses after one that could not be entered.
const PAUSE: Backoff =
    Backoff { first: Duration::from_secs(5), most: Duration::from_secs(60 * 60) };

/// How long nothing is looked at, if nothing is invited.
const LONG: Duration = Duration::from_secs(60);

impl MatrixChannel {
    /// Notes the rooms to which it is invited by somebody who is heard, or may be once they are let in.
    pub(super) fn note_invitations(&self, account: &Account, invited: &BTreeMap<String, Invited>) {
        for (room, invitation) in invited {
            let inviter = inviter(invitation, &account.user);
            match inviter.filter(|it| self.settings.senders.may_ever_hear(it)) {
                Some(_) => {
                    let mut kept = lock(&self.kept);
                    if kept.invited.len() < ROOMS_MAX {
                        kept.invited.insert(room.clone());
                    }
                }
                None => {
                    let inviter = inviter.unwrap_or("somebody");
                    if let Some(before) = warned("invitation", room) {
                        tracing::info!(
                            channel = self.id,
                            inviter,
                            room,
                            before,
                            "an invitation of somebody who is never heard is left alone"
                        );
                    }
                }
            }
        }
        if !lock(&self.kept).invited.is_empty() {
            self.invited.notify_one();
        }
    }

    /// Goes to where it is invited, for as long as it is let in.
    pub(in super::super) async fn take_invitations(&self) {
        let mut pauses = Pauses::new(PAUSE);
        loop {
            tokio::select! {
                () = self.invited.notified() => {}
                () = sleep(pauses.left(LONG)) => {}
            }
            let Some(account) = self.account() else {
                pauses.retain(|_| false);
                continue;
            };
            let invited: BTreeSet<String> = lock(&self.kept).invited.clone();
            pauses.retain(|room| invited.contains(room));
            let now = Instant::now();
            let due = invited.into_iter().filter(|room| pauses.is_due(room, now));
            let due: Vec<String> = due.collect();
            let account = &account;
            let mut joined = stream::iter(due)
                .map(|room| async move {
                    let trouble = self.join(account, &room).await.err();
                    (room, trouble)
                })
                .buffer_unordered(AT_ONCE);
            while let Some((room, trouble)) = joined.next().await {
                match trouble {
                    Some(trouble) => pauses.fail(&room, Instant::now(), trouble.busy()),
                    None => pauses.end(&room),
                }
            }
        }
    }

    /// Enters a room, or forgets the invitation if that will never be.
    ///
    /// # Errors
    /// Why it is to be tried again.
    async fn join(&self, account: &Account, room: &str) -> Result<(), Trouble> {
        let path = format!("client/v3/join/{}", step(room));
        let ask = Ask::post(&account.token, path, &json!({})).patient(PATIENCE);
        match self.client.ask::<IgnoredAny>(ask).await {
            Ok(_) => {
                tracing::info!(channel = self.id, room, "it is in a room to which it was invited");
            }
            Err(error) if error.is_final() => {
                tracing::warn!(
                    channel = self.id,
                    room,
                    %error,
                    "an invitation is not taken: invite it again"
                );
            }
            Err(trouble) => {
                if let Some(before) = warned("invitation waits", &format!("{} {room}", self.id)) {
                    let error = &trouble;
                    tracing::warn!(
                        channel = self.id,
                        room,
                        %error,
                        before,
                        "an invitation cannot be taken yet, and is tried again"
                    );
                }
                return Err(trouble);
            }
        }
        // What is not written down is taken once more by the next life, which changes nothing.
        if let Err(error) = self.keep(|kept| kept.invited.remove(room)).await {
            tracing::warn!(channel = self.id, error, "that it is in a room is not written down");
        }
        Ok(())
    }
}

/// Who has invited `us`. What stands there of the room's state is the inviting homeserver's word; the invitation
/// itself, which our own has seen, comes last. Where they do not agree, nobody has.
fn inviter<'a>(invitation: &'a Invited, us: &str) -> Option<&'a str> {
    let of_us = |event: &&Value| {
        event["type"] == "m.room.member"
            && event["state_key"] == us
            && event["content"]["membership"] == "invite"
    };
    let mut senders = invitation.invite_state.events.events.iter().filter(of_us);
    let last = senders.next_back()?["sender"].as_str()?;
    (is_user(last) && senders.all(|other| other["sender"] == last)).then_some(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_invites_is_who_has_written_the_invitation_of_this_account() {
        let member = |sender: &str, who: &str, membership: &str| {
            json!({ "type": "m.room.member", "sender": sender, "state_key": who,
                    "content": { "membership": membership } })
        };
        let of = |events: Vec<Value>| {
            let invited = serde_json::from_value(json!({ "invite_state": { "events": events } }));
            inviter(&invited.unwrap(), "@bot:x").map(str::to_owned)
        };
        let ours = member("@ann:x", "@bot:x", "invite");
        assert_eq!(
            of(vec![member("@eve:x", "@eve:x", "join"), ours.clone()]),
            Some("@ann:x".into())
        );
        assert_eq!(of(vec![ours.clone(), ours.clone()]), Some("@ann:x".into()));
        let forged = member("@ann:x", "@bot:x", "invite");
        assert_eq!(of(vec![forged, member("@eve:y", "@bot:x", "invite")]), None, "they disagree");
        assert_eq!(of(vec![member("@eve:x", "@cat:x", "invite")]), None);
        assert_eq!(of(vec![json!(5), member("eve", "@bot:x", "invite")]), None);
    }
}
