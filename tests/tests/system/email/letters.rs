//! What goes in and comes out, as a reader of mail sees it.

use serde_json::json;
use twobox_tests::wait_for;

use super::Place;
use crate::scripts::echo;

#[test]
fn a_line_that_is_the_final_dot_goes_there_and_back() {
    let Some(place) = Place::up(echo()) else { return };
    let text = "above\n.\n..\n.below\n\nlast";
    place.ask(text);
    assert_eq!(place.told(), [text]);
}

#[test]
fn a_text_with_long_lines_and_other_letters_arrives_whole() {
    let long = format!("{} ünd {}", "x".repeat(3000), "€😀".repeat(700));
    let script = json!({ "otherwise": [{ "reply": long }] });
    let Some(place) = Place::up(script) else { return };
    place.mail.write("me", "", "", "hello");
    let answer = place.mail.wait_mail("me", &long);
    assert!(answer.raw().lines().all(|line| line.len() < 998));
}

#[test]
fn what_is_in_a_mail_is_read_as_its_reader_reads_it() {
    let Some(place) = Place::up(echo()) else { return };
    let mail = "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n\
                --b\nContent-Type: text/html; charset=iso-8859-1\nContent-Transfer-Encoding: quoted-printable\n\n\
                <p>gr=FC=DFe</p><p>see <a href=3D\"https://x.org\">this</a></p>\n\
                --b\nContent-Type: application/pdf; name=\"plan.pdf\"\nContent-Disposition: attachment\n\n%PDF\n--b--\n";
    place.mail.write("me", "=?utf-8?q?Gr=C3=BC=C3=9Fe?=", mail, "");
    let expected = "Subject: Grüße\n\ngrüße\n\nsee this <https://x.org>";
    place.mail.wait_mail("me", &format!("echo: {expected}"));
    assert_eq!(place.told(), [expected]);
}

#[test]
fn files_of_a_mail_lie_beside_its_message_also_where_the_mail_is_long() {
    let Some(place) = Place::up(echo()) else { return };
    let line = format!("{}\n", "A".repeat(76));
    let large = line.repeat((6 << 20) / line.len());
    let mail = format!(
        "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\nsee below\n\
         --b\nContent-Type: x/y; name=\"../large.bin\"\nContent-Transfer-Encoding: base64\n\n{large}\n\
         --b\nContent-Type: image/png\nContent-Transfer-Encoding: base64\n\nAAEC\n--b--\n"
    );
    place.mail.write("me", "", &mail, "");
    place.mail.wait_mail("me", "echo: see below");
    let session = place.world.session("ada");
    let message = session.messages().remove(0);
    let folder = session.paths().inbox_files().join(&message.id);
    let chat: serde_json::Value = serde_json::from_str(&message.content).unwrap();
    assert_eq!(chat["files"], json!(["large.bin", "image.png"]));
    assert_eq!(std::fs::read(folder.join("image.png")).unwrap(), [0, 1, 2]);
    let size = std::fs::metadata(folder.join("large.bin")).unwrap().len();
    assert_eq!(size, (6 << 20) / 77 * 57);
}

#[test]
fn what_an_agent_says_by_itself_begins_a_thread() {
    let script = json!({
        "rules": [{ "match": "^write", "do": [{ "send": { "to": "me", "text": "# Report\n\nAll is well." } }] }],
        "otherwise": [{ "reply": "echo: {text}" }],
    });
    let Some(place) = Place::up(script) else { return };
    let address = place.mail.address("me");
    place.world.twobox(&["wire", "add", "ada", "mail", &address, "--name", "me"]);
    place.world.chat("ada").say("write");
    let report = place.mail.wait_mail("me", "# Report\n\nAll is well.");
    assert_eq!(report.header("Subject"), "Report");
    assert_eq!(report.header("Auto-Submitted"), "auto-generated");
    assert_eq!(report.header("In-Reply-To"), "");
    let id = report.header("Message-ID");
    place.mail.write(
        "me",
        "Re: Report",
        &format!("In-Reply-To: {id}\nReferences: {id}\n"),
        "thanks",
    );
    let answer = place.mail.wait_mail("me", "echo: thanks");
    assert_eq!(answer.header("Subject"), "Re: Report");
    assert!(answer.header("References").starts_with(&id), "{}", answer.raw());
    wait_for("both", || (place.answers().len() == 2).then_some(()));
}
