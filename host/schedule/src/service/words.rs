//! Reasons in words.

use twobox_slots::reason::Reason;

/// `reason` as the end of a sentence about a run or slot.
pub const fn in_words(reason: Reason) -> &'static str {
    match reason {
        Reason::TurnLimitExceeded => "it used up its turns",
        Reason::Timeout => "it went on longer than it may",
        Reason::Aborted => "a person or the host ended it",
        Reason::BudgetExceeded => "a budget was used up",
        Reason::AuthFailed => "the provider did not accept the credentials",
        Reason::RateLimited => "the provider wanted fewer calls",
        Reason::LeaseExpired => "it was not heard of for longer than it may run",
        Reason::PrepareFailed => "its session could not be made ready",
        Reason::ProviderError => "the provider could not answer",
        Reason::Interrupted => "the host died while it was at it, and it may have had effects",
        Reason::Overlap => {
            "an earlier run had not ended, and the overlap policy leaves such slots out"
        }
        Reason::Replaced => "a later slot took its place",
        Reason::Policy => "nobody fired it in time, and the missed policy does not run it",
        Reason::Window => "nobody fired it in time, and it was too late for the missed window",
        Reason::Limit => "nobody fired it in time, and there were too many at once",
        Reason::Edited => "the schedule was edited before it was run",
        Reason::Paused => "the schedule was paused",
        Reason::Removed => "the schedule was removed",
    }
}
