//! What an instance keeps from one life to the next: until when it listened, what it heard that nobody has taken yet, and
//! why it is not where it should be.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use twobox_shared::content::Chat;
use twobox_shared::time::UnixMillis;

/// How many messages are kept that nobody has taken yet.
pub(super) const WAITING_MAX: usize = 1_000;

/// How long it may have been away without a word of it: a connection that is lost and there again.
const SHORT: Duration = Duration::from_secs(1);

/// The state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Kept {
    /// Until when it is known to have listened.
    pub(super) heard_until: Option<UnixMillis>,
    /// When it was away last: what was said then, nobody has heard.
    pub(super) away: Option<Away>,
    /// What was heard and not taken yet, in its order.
    pub(super) waiting: Vec<Waiting>,
    /// Channels in which it is not and should be, each with the server's reason.
    pub(super) outside: BTreeMap<String, String>,
}

/// A time in which nothing was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Away {
    pub(super) from: UnixMillis,
    pub(super) to: UnixMillis,
}

/// A message that was heard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Waiting {
    pub(super) platform_id: String,
    pub(super) id: String,
    pub(super) chat: Chat,
}

impl Kept {
    /// It listens from `now` on. Returns how long it did not, if it ever did before.
    pub(super) fn listen(&mut self, now: UnixMillis) -> Option<Away> {
        let from = self.heard_until.replace(now)?;
        let away = Away { from, to: now };
        if away.to.since(away.from) < SHORT {
            return None;
        }
        self.away = Some(away);
        Some(away)
    }
}

impl std::fmt::Display for Away {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "from {} to {}", self.from, self.to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_between_two_lives_is_a_gap_unless_it_is_none() {
        let mut kept = Kept::default();
        assert_eq!(kept.listen(UnixMillis(5_000)), None, "it was never there before");
        assert_eq!(kept.listen(UnixMillis(5_500)), None);
        assert_eq!(kept.listen(UnixMillis(4_000)), None, "a clock that was set back");
        let away = kept.listen(UnixMillis(9_000));
        assert_eq!(away, Some(Away { from: UnixMillis(4_000), to: UnixMillis(9_000) }));
        assert_eq!((kept.away, kept.heard_until), (away, Some(UnixMillis(9_000))));
    }
}
