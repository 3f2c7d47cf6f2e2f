//! What a row of an outbox becomes for its channel, and what the agent is told of its fate. Pure.

use std::collections::HashMap;
use std::path::Path;

use twobox_shared::content::Chat;
use twobox_shared::ids::{InstallId, MessageId, SessionId};
use twobox_shared::inbox::{DeliveryStatus, NewMessage, Origin};
use twobox_shared::outbox::OutRow;
use twobox_shared::paths::OUTBOX_FILES;
use twobox_shared::seq::Seq;

use super::delivery;
use twobox_model::approval::Prompt;
use twobox_model::channel::{Address, Outbound, Shelf};
use twobox_store::notices::Notice;

/// How many messages a row may list as answered: far more than a turn takes, and few enough to look
/// for.
const ANSWERS_MAX: usize = 1024;

/// The idempotency key of an outbound message. What a container chose is only its last part, so it can never
/// be another session's key.
pub(super) fn key(install: InstallId, session: SessionId, row: &str) -> String {
    format!("{install}:{session}:{row}")
}

/// A row as its channel gets it, for `address`. Ids are unique in a chat and not among chats, so of what
/// the row answers it is told what was `said` there: elsewhere such an id would be another message. What
/// the inbox does not know (any more), and what the host made, is no message of anywhere. Its files lie in
/// `out`, the container's half of the folder.
pub(super) fn of_row(
    row: &OutRow,
    key: String,
    said: &HashMap<MessageId, Address>,
    address: &Address,
    out: &Path,
) -> Outbound {
    let chat = row.chat();
    let mut answers = answers(row);
    answers.retain(|id| said.get(id) == Some(address));
    let named = row.in_reply_to.as_deref();
    Outbound {
        key,
        in_reply_to: answers.iter().find(|id| Some(id.as_str()) == named).cloned(),
        answers,
        text: chat.text,
        shelf: (!chat.files.is_empty()).then(|| Shelf {
            base: out.to_owned(),
            within: Path::new(OUTBOX_FILES).join(row.id.as_str()),
        }),
        files: chat.files,
        failed: false,
        prompt: None,
    }
}

/// A notice as its channel gets it.
pub(super) fn of_notice(notice: &Notice, key: String, prompt: Option<Prompt>) -> Outbound {
    let failed = notice.failed_message();
    let is_failed = failed.is_some();
    let answers: Vec<_> = failed.into_iter().chain(notice.answers.iter().cloned()).collect();
    Outbound {
        key,
        in_reply_to: answers.first().cloned(),
        failed: is_failed,
        answers,
        prompt,
        text: notice.text.clone(),
        files: Vec::new(),
        shelf: None,
    }
}

/// Everything that a row says it answers: what it names, and what its content lists besides. Ids that
/// no message can have answer nothing.
pub(super) fn answers(row: &OutRow) -> Vec<MessageId> {
    let listed = row.chat().answers;
    let listed = listed.iter().take(ANSWERS_MAX).filter_map(|id| MessageId::parse(id).ok());
    let mut answers: Vec<MessageId> = listed.collect();
    if let Some(named) = row.in_reply_to.as_deref().and_then(|id| MessageId::parse(id).ok())
        && !answers.contains(&named)
    {
        answers.push(named);
    }
    answers
}

/// Where the answer to a message goes.
pub(super) fn address_of_origin(origin: &Origin, reply_address: &Address) -> Address {
    match (&origin.channel_type, &origin.platform_id) {
        (Some(channel_type), Some(platform_id)) => Address {
            channel_type: channel_type.clone(),
            platform_id: platform_id.clone(),
            thread_id: origin.thread_id.clone(),
        },
        _ => reply_address.clone(),
    }
}

/// What the agent is told of `rows` that a person has had sent once more, and that are at `address` now.
pub(super) fn arrived_note(address: &Address, rows: &[&MessageId]) -> Option<NewMessage> {
    let first = rows.first()?;
    let Address { channel_type, platform_id, .. } = address;
    let what = match rows.len() {
        1 => "A message".to_owned(),
        many => format!("{many} messages"),
    };
    let text = format!(
        "{what} to {channel_type} {platform_id:?} arrived after all: a person had what did not \
         arrive, or perhaps not, sent once more. Do not repeat it."
    );
    Some(NewMessage::note(delivery::arrived_id(first), Chat::text(text).to_json()))
}

/// What the agent is told of a row for `address` that did not arrive, once until something does: `epoch` is
/// the last that did.
pub(super) fn undeliverable_note(
    address: &Address,
    status: DeliveryStatus,
    error: &str,
    epoch: Seq,
) -> NewMessage {
    let fate = match status {
        DeliveryStatus::Uncertain => "may not have arrived",
        _ => "was not delivered",
    };
    let text =
        format!("A message to {} {:?} {fate}: {error}", address.channel_type, address.platform_id);
    NewMessage::note(delivery::undeliverable_id(address, error, epoch), Chat::text(text).to_json())
}

#[cfg(test)]
mod tests {
    use super::*;
    use twobox_shared::ids::SystemIds;

    fn row(named: Option<&str>, listed: Vec<String>) -> OutRow {
        let chat = Chat { answers: listed, ..Chat::text("yes") };
        OutRow {
            id: MessageId::parse("r").unwrap(),
            seq: Seq(1),
            in_reply_to: named.map(str::to_owned),
            timestamp: None,
            deliver_after: None,
            kind: "chat".into(),
            destination: Origin::default(),
            content: Some(chat.to_json()),
            attempt: None,
            runner: None,
        }
    }

    #[test]
    fn a_row_answers_what_it_names_and_what_it_lists() {
        let id = |text| MessageId::parse(text).unwrap();
        let listed = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
        let cases = [
            ("one", Some("b"), listed(&[]), vec!["b"]),
            ("several", Some("b"), listed(&["a", "b"]), vec!["a", "b"]),
            ("named only", Some("c"), listed(&["a", "../b"]), vec!["a", "c"]),
            ("nothing", None, listed(&[]), vec![]),
        ];
        for (case, named, listed, expected) in cases {
            let expected: Vec<_> = expected.into_iter().map(id).collect();
            assert_eq!(answers(&row(named, listed)), expected, "{case}");
        }
    }

    #[test]
    fn an_outbound_quotes_what_was_said_where_it_goes_and_nothing_else() {
        let address = |chat: &str| Address {
            channel_type: "command".to_owned(),
            platform_id: chat.to_owned(),
            thread_id: None,
        };
        let id = |text| MessageId::parse(text).unwrap();
        let said = HashMap::from([(id("here"), address("1")), (id("there"), address("2"))]);
        let listed = ["here", "there", "nowhere"].map(str::to_owned).to_vec();
        let row = row(Some("there"), listed);
        let to = |chat| of_row(&row, "key".to_owned(), &said, &address(chat), Path::new("/out"));
        assert_eq!((to("1").in_reply_to, to("1").answers), (None, vec![id("here")]));
        assert_eq!((to("2").in_reply_to, to("2").answers), (Some(id("there")), vec![id("there")]));
        assert_eq!((to("3").in_reply_to, to("3").answers), (None, vec![]));
    }

    #[test]
    fn p10_a_row_id_never_makes_the_key_of_another_session() {
        let install = InstallId::generate(&SystemIds);
        let [ours, theirs] = [0; 2].map(|_| SessionId::generate(&SystemIds));
        let forged = format!("{theirs}:row");
        assert_ne!(key(install, ours, &forged), key(install, theirs, "row"));
        assert_ne!(key(install, ours, "row"), key(install, theirs, "row"));
        assert_eq!(key(install, ours, "row"), key(install, ours, "row"), "each attempt has it");
    }
}
