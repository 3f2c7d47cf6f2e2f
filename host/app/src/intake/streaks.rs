//! Who has spoken alone in a group, and how often: see `twobox_model::people::Streak`.

use std::collections::HashMap;

use twobox_model::channel::Inbound;
use twobox_model::people::{Form, PAUSE, STREAK_MAX, Streak};
use twobox_shared::time::UnixMillis;
use twobox_store::routing::{Hearer, Said};

/// In how many chats that is remembered.
const CHATS_MAX: usize = 10_000;

/// What becomes of a message that is one of a row.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Row {
    /// It is heard as it is.
    Short,
    /// It is the first that starts no turn.
    Ends,
    /// It starts no turn.
    Long,
}

/// What was said last in groups, by their channels and ids.
#[derive(Debug, Default)]
pub(super) struct Streaks {
    chats: HashMap<(String, String), Streak>,
}

impl Streaks {
    /// Notes a message that is heard. Whoever `rules` is no program.
    pub(super) fn note(
        &mut self,
        message: &Inbound,
        said: &Said,
        (hearers, rules): (&[Hearer], bool),
        now: UnixMillis,
    ) -> Row {
        let chat = &message.chat;
        let id = chat.about.as_ref().and_then(|about| about.sender_id.as_ref());
        let Some(sender) = id.or(chat.sender.as_ref()).filter(|_| said.group) else {
            return Row::Short;
        };
        let starts = said.form == Form::Text && hearers.iter().any(|hearer| hearer.trigger);
        let place = (message.address.channel_type.clone(), message.address.platform_id.clone());
        self.make_room(now);
        let before = self.chats.remove(&place);
        let streak = match before {
            Some(streak) if !starts && streak.is_of(sender) => streak,
            Some(streak) => streak.and(sender, now),
            None => Streak::new(sender, now),
        };
        let row = match (starts && !rules, streak.has_just_become_too_long(), streak.is_too_long())
        {
            (false, ..) | (true, false, false) => Row::Short,
            (true, true, _) => Row::Ends,
            (true, false, true) => Row::Long,
        };
        self.chats.insert(place, streak);
        row
    }

    fn make_room(&mut self, now: UnixMillis) {
        if self.chats.len() >= CHATS_MAX {
            self.chats.retain(|_, streak| !streak.is_over(now));
        }
        if self.chats.len() >= CHATS_MAX {
            self.chats.clear();
        }
    }
}

/// What is said where a row ends.
pub(super) fn told() -> String {
    let minutes = PAUSE.as_secs() / 60;
    format!(
        "I was told {STREAK_MAX} things in a row by one and the same, as by a program that answers me: I did not read \
         the last one, and go on when somebody else speaks, or after {minutes} minutes of silence. Owners and admins \
         are always answered."
    )
}
