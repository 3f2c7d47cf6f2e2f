//! What is said about people, and to strangers: `/pair`, `/claim`, and a code for whoever is not known yet. Nothing of it
//! reaches an agent or an inbox. What is decided is `twobox_model::people`'s.

use std::collections::HashMap;
use std::sync::Arc;

use rustix::rand::{GetRandomFlags, getrandom};
use twobox_model::channel::{Address, Inbound, Refusal, TERMINAL};
use twobox_model::people::{
    self, CLAIM_BYTES, Manner, PAIRING_BYTES, PAIRING_LIFE, PeopleWord, Speaker, Why,
};
use twobox_session::core::Core;
use twobox_shared::errors::chain;
use twobox_shared::visible;
use twobox_store::DbError;
use twobox_store::people::{ClaimError, Let, PairError, Paired, Stranger};
use twobox_store::routing::{By, Said};
use twobox_store::storage::{explain, passes};
use twobox_system::repeat::warned;

/// What somebody is told who may not let others in.
const MAY_NOT_PAIR: &str =
    "Only an owner or an admin may let somebody in, and the operator with `twobox people pair`.";

/// What somebody is told who wants a code and needs none.
const IS_HEARD: &str = "You need no code: you are heard here.";

/// How channels listen, by their ids.
pub type Manners = HashMap<String, Arc<Manner>>;

/// A fresh code for a stranger.
///
/// # Errors
/// The system gives nothing random.
pub fn fresh_pairing_code() -> Result<String, String> {
    random::<PAIRING_BYTES>().map(people::pairing_code)
}

/// A fresh code for the first owner.
///
/// # Errors
/// As [`fresh_pairing_code`].
pub fn fresh_claim_code() -> Result<String, String> {
    random::<CLAIM_BYTES>().map(people::claim_code)
}

fn random<const N: usize>() -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    getrandom(&mut bytes, GetRandomFlags::empty()) // so few come all at once
        .map_err(|error| format!("this system gives nothing random: {error}"))?;
    Ok(bytes)
}

/// Who says a message, for what they may.
pub(super) fn speaker(message: &Inbound, manners: &Manners) -> Speaker {
    let channel = message.address.channel_type.clone();
    match channel == TERMINAL {
        true => Speaker::Operator,
        false => Speaker::Person {
            sender: sender_id(message).map(str::to_owned),
            lax: manners.get(&channel).is_none_or(|manner| manner.senders.is_lax()),
            channel,
        },
    }
}

/// A message, as far as it matters whom it is for.
pub(super) fn said(message: &Inbound, manners: &Manners) -> Said {
    let about = message.chat.about.as_ref();
    let channel = &message.address.channel_type;
    let manner = || manners.get(channel).cloned().unwrap_or_else(|| Arc::new(Manner::OPEN));
    Said {
        address: message.address.clone(),
        by: match channel == TERMINAL {
            true => By::Operator,
            false => By::Sender(sender_id(message).map(str::to_owned), manner()),
        },
        group: about.and_then(|about| about.group).unwrap_or(false),
        mentioned: about.is_some_and(|about| about.mentioned),
        form: people::form(&message.chat.text),
    }
}

fn sender_id(message: &Inbound) -> Option<&str> {
    message.chat.about.as_ref()?.sender_id.as_deref()
}

/// Somebody who says `message`, if the channel says who.
fn stranger(message: &Inbound) -> Option<Stranger> {
    Some(Stranger {
        channel: message.address.channel_type.clone(),
        sender: sender_id(message)?.to_owned(),
        name: message.chat.sender.clone(),
    })
}

/// What the host says about people.
pub(super) struct Desk {
    core: Arc<Core>,
}

impl Desk {
    pub(super) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    /// Carries out a word with a code. `None` if whoever says it may not: then it is heard, or not, as anything else
    /// that they say.
    pub(super) async fn carry_out(&self, word: PeopleWord, message: &Inbound) -> Option<Refusal> {
        match word {
            PeopleWord::WantsCode => None,
            PeopleWord::Pair(code) => self.pair(&code, message).await,
            PeopleWord::Claim(code) => Some(self.claim(&code, message).await),
        }
    }

    async fn pair(&self, code: &str, message: &Inbound) -> Option<Refusal> {
        let by = match (message.address.channel_type == TERMINAL, stranger(message)) {
            (true, _) => Let::Operator,
            (false, Some(Stranger { channel, sender, .. })) => Let::Person { channel, sender },
            (false, None) => return None,
        };
        let parts = &self.core.parts;
        let pairing = parts.store.people().pair(by, code, None, &*parts.ids, parts.clock.now());
        Some(match pairing.await {
            Ok(paired) => {
                if !paired.again {
                    let Paired { channel, sender, user, .. } = &paired;
                    tracing::info!(channel, sender, %user, "somebody was let in, and is heard");
                }
                say(let_in(&paired))
            }
            Err(PairError::NotAllowed) => return None,
            Err(PairError::TooMany) => silence(),
            Err(error @ (PairError::Wrong | PairError::Change(_))) => say(sentence(&error)),
            Err(PairError::Db(error)) => self.not_now(&error),
        })
    }

    async fn claim(&self, code: &str, message: &Inbound) -> Refusal {
        let by = match (message.address.channel_type == TERMINAL, stranger(message)) {
            (true, _) => {
                return say("Whoever sits at this machine is an owner already: say it in the chat in which you \
                            want to be one."
                    .to_owned());
            }
            (false, Some(by)) => by,
            (false, None) => return silence(),
        };
        if !is_proven(&by.sender) {
            return say(UNPROVEN.to_owned());
        }
        let parts = &self.core.parts;
        let (channel, sender) = (by.channel.clone(), by.sender.clone());
        let claiming = parts.store.people().claim(by, code, &*parts.ids, parts.clock.now());
        match claiming.await {
            Ok(claimed) => {
                if !claimed.again {
                    tracing::warn!(channel, sender, user = %claimed.user, "somebody is an owner now");
                }
                say("You are an owner of this Twobox now: you are heard, decide what agents ask for, and let others \
                     in with /pair and their code."
                    .to_owned())
            }
            Err(ClaimError::TooMany) => silence(),
            Err(error @ ClaimError::Wrong) => {
                if let Some(before) = warned("wrong owner code", &format!("{channel} {sender}")) {
                    tracing::warn!(
                        channel,
                        sender,
                        before,
                        "somebody has said a wrong code for an owner"
                    );
                }
                say(sentence(&error))
            }
            Err(ClaimError::Db(error)) => self.not_now(&error),
        }
    }

    /// What becomes of something that nobody hears.
    pub(super) async fn unheard(&self, why: Why, message: &Inbound) -> Refusal {
        let Address { channel_type: channel, platform_id: chat, .. } = &message.address;
        let sender = sender_id(message).unwrap_or_default();
        match why {
            Why::Blocked => silence(),
            Why::MayPair => match stranger(message) {
                Some(stranger) => self.invite(stranger, message).await,
                None => silence(),
            },
            Why::Stranger => {
                if let Some(before) = warned("stranger", &format!("{channel} {sender}")) {
                    tracing::info!(
                        channel,
                        chat,
                        sender,
                        before,
                        "somebody is not heard: `twobox people grant member '{channel}:ID'`, with that id, lets \
                         them in"
                    );
                }
                silence()
            }
            Why::Nameless => {
                if let Some(before) = warned("nameless", channel) {
                    tracing::warn!(
                        channel,
                        chat,
                        before,
                        "a message is not heard, for nobody says who wrote it: this channel hears only whom it \
                         knows"
                    );
                }
                silence()
            }
        }
    }

    async fn invite(&self, stranger: Stranger, message: &Inbound) -> Refusal {
        if !is_proven(&stranger.sender) {
            // Whoever has the same name tomorrow would be heard as them.
            let who = format!("{} {}", stranger.channel, stranger.sender);
            let is_first = warned("unproven", &who) == Some(0);
            return match is_first || PeopleWord::of(&message.chat.text).is_some() {
                true => say(UNPROVEN.to_owned()),
                false => silence(),
            };
        }
        let wants = PeopleWord::of(&message.chat.text) == Some(PeopleWord::WantsCode);
        let fresh = match fresh_pairing_code() {
            Ok(fresh) => fresh,
            Err(reason) => return Refusal::TryAgain { reason, passes: true },
        };
        let (channel, sender) = (stranger.channel.clone(), stranger.sender.clone());
        let (people, now) = (self.core.parts.store.people(), self.core.parts.clock.now());
        match people.invite(stranger, &message.id, wants, fresh, now).await {
            Ok(Some(invited)) => {
                tracing::info!(
                    channel,
                    sender,
                    "a stranger was told a code: `twobox people pair CODE` lets them in"
                );
                say(invitation(&invited.code))
            }
            Ok(None) => silence(),
            Err(error) => self.not_now(&error),
        }
    }

    fn not_now(&self, error: &DbError) -> Refusal {
        tracing::warn!(error = chain(error), "what was said about people could not be carried out");
        let reason = explain(error, self.core.parts.data.root());
        Refusal::TryAgain { reason, passes: passes(error) }
    }
}

/// What somebody is told who says a word about people and is heard as anybody.
pub(super) fn heard(word: &PeopleWord) -> Refusal {
    say(match word {
        PeopleWord::WantsCode => IS_HEARD.to_owned(),
        PeopleWord::Pair(_) | PeopleWord::Claim(_) => MAY_NOT_PAIR.to_owned(),
    })
}

/// What whoever has no account is told, who wants to be known.
const UNPROVEN: &str = "Here anybody may take a name like yours, so nobody is known by it. Log in to an account of this \
                        network first, and say it again.";

/// Whether an id is one that its platform gives to nobody else. A channel whose platform tells somebody by a name that
/// anybody may take tomorrow begins such an id with `nick:`.
fn is_proven(sender: &str) -> bool {
    !sender.starts_with("nick:")
}

fn say(text: String) -> Refusal {
    Refusal::Unheard { say: Some(text) }
}

fn silence() -> Refusal {
    Refusal::Unheard { say: None }
}

/// What a stranger is told.
fn invitation(code: &str) -> String {
    let minutes = PAIRING_LIFE.as_secs() / 60;
    format!(
        "I do not know you yet, and nobody reads what you write here before I do. Your code is {code}: give it to \
         whoever runs me, who lets you in with `twobox people pair {code}`, or by saying `/pair {code}` to me. It \
         holds for {minutes} minutes; after that, /pair gets you another one."
    )
}

fn let_in(Paired { channel, sender, name, again, .. }: &Paired) -> String {
    let id = visible::line(&format!("{channel}:{sender}"));
    let who = match name {
        Some(name) => format!("{} ({id})", visible::line(name)),
        None => id,
    };
    match again {
        false => format!("{who} is let in, and is heard from now on."),
        true => format!("That code was used before: {who} is let in."),
    }
}

/// An error as a sentence of its own.
fn sentence(error: &impl std::error::Error) -> String {
    let text = chain(error);
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", letters.as_str())
}
