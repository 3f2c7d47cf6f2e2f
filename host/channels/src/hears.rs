//! Whom a channel hears, and what engages an agent in its groups: settings that every channel has, beside those of
//! its kind, which knows nothing of them. What follows from them is decided by `twobox_model::people`.

use std::collections::BTreeSet;

use twobox_model::people::{Engage, Manner, Senders};

/// The names of these settings.
pub(crate) const COMMON: [&str; 2] = ["senders", "groups"];

/// How everybody is called in a list of senders.
const ANYBODY: &str = "*";

/// The most bytes of an id in a list.
const ID_MAX: usize = 255;

/// How a kind of channel listens, if nothing is set, and which ids people have there.
pub struct Hears {
    /// Whether whoever finds it is heard, in groups too: a channel that only the host's own user hands messages to.
    pub open: bool,
    /// Whether a text can be the id of somebody there.
    pub is_id: fn(&str) -> bool,
    /// Such an id, for people.
    pub such_as: &'static str,
}

impl Hears {
    /// A channel to which the host's own user hands in what was said, and knows why.
    pub const OPEN: Self = Self { open: true, is_id: is_plain, such_as: "u-17" };

    /// A chat platform, where anybody may find it.
    pub const CHAT: Self = Self { open: false, ..Self::OPEN };

    /// As it is, with ids that look otherwise.
    pub const fn of(self, is_id: fn(&str) -> bool, such_as: &'static str) -> Self {
        Self { is_id, such_as, ..self }
    }

    /// How an instance listens that has these settings; `name_of` is what people call one.
    ///
    /// # Errors
    /// A sentence that names the setting that is wrong and says what is allowed.
    pub fn manner(
        &self,
        settings: &toml::Table,
        name_of: &dyn Fn(&str) -> String,
    ) -> Result<Manner, String> {
        let [senders, groups] = COMMON.map(|name| settings.get(name).map(|value| (name, value)));
        let wrong = |(name, value): (&str, &toml::Value), allowed: String| {
            format!("{}: {value} is not allowed: use {allowed}", name_of(name))
        };
        let senders = match senders {
            None if self.open => Senders::Open,
            None => Senders::Known,
            Some(set) => self.senders(set.1).ok_or_else(|| {
                wrong(
                    set,
                    format!(
                        "\"known\", \"open\", \"members\", or a list of whole ids, such as [{:?}]",
                        self.such_as
                    ),
                )
            })?,
        };
        let engage = match groups {
            None if self.open => Engage::Always,
            None => Engage::Mention,
            Some(set) => {
                let words: Vec<_> =
                    Engage::ALL.iter().map(|it| format!("{:?}", it.as_str())).collect();
                let read = set.1.as_str().and_then(Engage::parse);
                read.ok_or_else(|| wrong(set, words.join(" or ")))?
            }
        };
        Ok(Manner { senders, engage })
    }

    fn senders(&self, value: &toml::Value) -> Option<Senders> {
        match value {
            toml::Value::String(word) => match word.as_str() {
                "open" => Some(Senders::Open),
                "known" => Some(Senders::Known),
                "members" => Some(Senders::Members),
                _ => None,
            },
            toml::Value::Array(ids) => {
                let ids: Option<BTreeSet<&str>> = ids.iter().map(toml::Value::as_str).collect();
                let ids = ids.filter(|ids| !ids.is_empty())?;
                if ids.contains(ANYBODY) {
                    return Some(Senders::Open);
                }
                let all = ids.iter().all(|id| (self.is_id)(id)).then_some(ids)?;
                Some(Senders::Listed(all.into_iter().map(str::to_owned).collect()))
            }
            _ => None,
        }
    }
}

/// Who is heard, in a few words.
pub fn told(senders: &Senders) -> String {
    match senders {
        Senders::Open => "hears whoever finds it".to_owned(),
        Senders::Known => "hears whoever was let in".to_owned(),
        Senders::Members => "hears whoever has a role".to_owned(),
        Senders::Listed(ids) if ids.len() == 1 => "hears one person".to_owned(),
        Senders::Listed(ids) => format!("hears {} people", ids.len()),
    }
}

fn is_plain(id: &str) -> bool {
    !id.is_empty() && id.len() <= ID_MAX && !id.contains(char::is_control) && id.trim() == id
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(hears: &Hears, text: &str) -> Result<Manner, String> {
        hears.manner(&text.parse().unwrap(), &|name| format!("channels.m.{name}"))
    }

    #[test]
    fn what_is_set_is_read_and_nothing_set_is_the_kinds_own() {
        let listed =
            |ids: &[&str]| Senders::Listed(ids.iter().map(|it| (*it).to_owned()).collect());
        let cases = [
            (Hears::CHAT, "", Senders::Known, Engage::Mention),
            (Hears::OPEN, "", Senders::Open, Engage::Always),
            (Hears::OPEN, "senders = 'known'", Senders::Known, Engage::Always),
            (Hears::CHAT, "senders = 'open'\ngroups = 'always'", Senders::Open, Engage::Always),
            (
                Hears::CHAT,
                "senders = 'members'\ngroups = 'context'",
                Senders::Members,
                Engage::Context,
            ),
            (Hears::CHAT, "senders = ['7', '8']", listed(&["7", "8"]), Engage::Mention),
            (Hears::CHAT, "senders = ['*']", Senders::Open, Engage::Mention),
        ];
        for (hears, text, senders, engage) in cases {
            assert_eq!(read(&hears, text), Ok(Manner { senders, engage }), "{text}");
        }
    }

    #[test]
    fn each_mistake_names_its_setting_and_what_is_allowed() {
        let hears = Hears::CHAT.of(|id| id.starts_with('@'), "@me:example.org");
        let allowed = "use \"known\", \"open\", \"members\", or a list of whole ids, such as \
                       [\"@me:example.org\"]";
        for senders in ["[]", "'friends'", "['me']", "[7]", "true", "['@me', 7]"] {
            let error = read(&hears, &format!("senders = {senders}")).unwrap_err();
            assert!(
                error.starts_with("channels.m.senders: ") && error.ends_with(allowed),
                "{error}"
            );
        }
        let error = read(&hears, "groups = 'some'").unwrap_err();
        let expected = "channels.m.groups: \"some\" is not allowed: use \"mention\" or \"always\" or \"context\"";
        assert_eq!(error, expected);
    }
}
