//! People: who is heard, who may do what, and what engages an agent. Values and decisions, all pure; who
//! somebody is, is stored by `twobox_store::people`, and what was decided is carried out by
//! `twobox_app::intake`.
//!
//! A person is known by identities, each an id on one channel. What they may do is said by roles; whoever has
//! none is a stranger.

mod code;
mod hearing;
mod streak;
mod word;

use std::collections::BTreeSet;

use serde::Serialize;

pub use self::code::{
    CLAIM_BYTES, CLAIM_LIFE, PAIRING_BYTES, PAIRING_LIFE, Tries, claim_code, normal, pairing_code,
};
pub use self::hearing::{Form, Heard, Said, Why, form, hear};
pub use self::streak::{PAUSE, STREAK_MAX, Streak};
pub use self::word::PeopleWord;
use crate::approval::Kind;
use crate::words;

words! {
    /// What somebody may do.
    Role {
        /// All: people, other agents, and what an admin may.
        Owner = "owner",
        /// To decide what an agent asks for, and to have others heard by it.
        Admin = "admin",
        /// To talk to an agent.
        Member = "member",
    }
}

words! {
    /// What of a chat with several people starts a turn of an agent that listens there. The rest that is heard
    /// is context.
    Engage {
        /// What names it.
        Mention = "mention",
        /// Everything.
        Always = "always",
        /// Nothing: the agent only knows what was said.
        Context = "context",
    }
}

/// Whose messages are heard on a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Senders {
    /// Whoever finds it.
    Open,
    /// Who has a role. A stranger is told a code by which somebody can let them in.
    Known,
    /// Who has a role. Strangers are told nothing.
    Members,
    /// Those with one of these ids, and who has a role. Others are told nothing.
    Listed(BTreeSet<String>),
}

impl Senders {
    /// Whether somebody with this id may be heard, now or after a person has let them in.
    pub fn may_ever_hear(&self, sender: &str) -> bool {
        match self {
            Self::Open | Self::Known | Self::Members => true,
            Self::Listed(ids) => ids.contains(sender),
        }
    }

    /// Whether whoever is heard needs no role, so that nobody may have one.
    pub fn is_lax(&self) -> bool {
        match self {
            Self::Open | Self::Listed(_) => true,
            Self::Known | Self::Members => false,
        }
    }
}

/// How a channel listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manner {
    /// To whom.
    pub senders: Senders,
    /// What engages an agent of which the wiring says nothing.
    pub engage: Engage,
}

impl Manner {
    /// To everybody and everything, as where the host's own user hands in.
    pub const OPEN: Self = Self { senders: Senders::Open, engage: Engage::Always };
}

/// Who somebody is for one agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// The host's own user.
    Operator,
    /// Has a role.
    Has(Role),
    /// Has none.
    Stranger,
    /// Is not heard, whatever else they are.
    Blocked,
}

impl Standing {
    /// Of somebody who has these roles for the agent.
    pub fn of(roles: impl IntoIterator<Item = Role>, blocked: bool) -> Self {
        if blocked {
            return Self::Blocked;
        }
        let rank = |role: &Role| match role {
            Role::Owner => 2,
            Role::Admin => 1,
            Role::Member => 0,
        };
        roles.into_iter().max_by_key(rank).map_or(Self::Stranger, Self::Has)
    }

    /// Whether somebody may decide what the agent asks. `lax` is where nobody needs a role to be heard and nobody
    /// has one in the whole installation: then whoever is heard decides. A question is for everybody who is heard.
    pub fn may_decide(self, kind: Kind, lax: bool) -> bool {
        match (self, kind) {
            (Self::Blocked, _) => false,
            (Self::Operator | Self::Has(Role::Owner | Role::Admin), _) | (_, Kind::Question) => {
                true
            }
            (Self::Has(Role::Member) | Self::Stranger, Kind::Permission) => lax,
        }
    }

    /// Whether the host's owners have chosen this person to rule: no program is taken for one.
    pub fn rules(self) -> bool {
        match self {
            Self::Operator | Self::Has(Role::Owner | Role::Admin) => true,
            Self::Has(Role::Member) | Self::Stranger | Self::Blocked => false,
        }
    }
}

/// Who says something, for whom it matters what they may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Speaker {
    /// The host's own user, at a door of this machine.
    Operator,
    /// Somebody on a channel.
    Person {
        /// The channel's id.
        channel: String,
        /// Their id there, if the channel says one.
        sender: Option<String>,
        /// Whether whoever is heard there needs no role.
        lax: bool,
    },
}

/// What somebody is told who may not decide.
pub const MAY_NOT_DECIDE: &str = "only an admin of this agent or an owner may decide that, and the operator with \
                                  `twobox approvals`; `twobox people grant admin` makes somebody one";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_role_counts_and_a_block_above_all() {
        let cases = [
            (&[][..], false, Standing::Stranger),
            (&[Role::Member], false, Standing::Has(Role::Member)),
            (&[Role::Member, Role::Owner, Role::Admin], false, Standing::Has(Role::Owner)),
            (&[Role::Admin, Role::Member], false, Standing::Has(Role::Admin)),
            (&[Role::Owner], true, Standing::Blocked),
            (&[], true, Standing::Blocked),
        ];
        for (roles, blocked, expected) in cases {
            assert_eq!(Standing::of(roles.iter().copied(), blocked), expected, "{roles:?}");
        }
    }

    #[test]
    fn a_permission_is_for_admins_and_a_question_for_whoever_is_heard() {
        use Kind::{Permission, Question};
        let cases = [
            (Standing::Operator, Permission, false, true),
            (Standing::Has(Role::Owner), Permission, false, true),
            (Standing::Has(Role::Admin), Permission, false, true),
            (Standing::Has(Role::Member), Permission, false, false),
            (Standing::Has(Role::Member), Question, false, true),
            (Standing::Stranger, Permission, false, false),
            (Standing::Stranger, Permission, true, true),
            (Standing::Stranger, Question, false, true),
            (Standing::Blocked, Permission, true, false),
            (Standing::Blocked, Question, true, false),
        ];
        for (standing, kind, lax, may) in cases {
            assert_eq!(standing.may_decide(kind, lax), may, "{standing:?} {kind:?} {lax}");
        }
    }
}
