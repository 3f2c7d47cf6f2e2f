"""Has Slack's own libraries judge the stand-in for Slack: `judge_slack.py JSON`, the line that `slack-stand-in` prints.

Each judgement is called after what it shows. All are tried; the exit code is 0 if all hold.
"""

import json
import queue
import sys
import threading
import time
import traceback
import urllib.request

import slack_bolt
import slack_sdk
from slack_bolt.adapter.socket_mode import SocketModeHandler
from slack_sdk.errors import SlackApiError
from slack_sdk.socket_mode import SocketModeClient
from slack_sdk.socket_mode.response import SocketModeResponse

PATIENCE = 20


class Workspace:
    """The stand-in, and clients of it that repeat nothing by themselves."""

    def __init__(self, said):
        self.__dict__.update(json.loads(said))
        self.api = self.url + "/api/"
        self.web = slack_sdk.WebClient(token=self.bot_token, base_url=self.api, retry_handlers=[])

    def control(self, what, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/_stand-in/{what}", data=data)
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return json.load(answer)

    def say(self, text, chat=None, thread=None):
        body = {"user": self.person, "chat": chat or self.direct, "text": text, "thread": thread}
        return self.control("say", body)["ts"]

    def wait(self, what, is_so):
        end = time.monotonic() + PATIENCE
        while not is_so():
            assert time.monotonic() < end, f"waited {PATIENCE} s for {what}"
            time.sleep(0.02)

    def listen(self, acknowledge=True):
        """A client of Socket Mode, and the queue of what it was told."""
        heard = queue.Queue()
        client = SocketModeClient(
            app_token=self.app_token, web_client=slack_sdk.WebClient(base_url=self.api), ping_interval=1)

        def take(client, request):
            heard.put(request)
            if acknowledge:
                client.send_socket_mode_response(SocketModeResponse(envelope_id=request.envelope_id))

        client.socket_mode_request_listeners.append(take)
        client.connect()
        self.wait("a connection", client.is_connected)
        return client, heard


def same(found, expected, what=""):
    assert found == expected, f"{what}: {found!r}, not {expected!r}"


def refused(ask):
    """The word with which `ask` is refused."""
    try:
        answer = ask()
    except SlackApiError as error:
        return error.response["error"]
    raise AssertionError(f"{answer!r}, where it was to be refused")


def the_bot_is_who_its_token_says(place):
    answer = place.web.auth_test()
    same((answer["user_id"], answer["team_id"]), (place.bot, "T1"))
    assert "chat:write" in answer.headers["x-oauth-scopes"], answer.headers
    same(place.web.users_info(user=place.person)["user"]["profile"]["display_name"], "Ada")
    other = slack_sdk.WebClient(token="xoxb-other", base_url=place.api)
    same(refused(other.auth_test), "invalid_auth")
    app = slack_sdk.WebClient(token=place.app_token, base_url=place.api)
    same(refused(app.auth_test), "not_allowed_token_type")
    same(refused(lambda: place.web.users_info(user="U404")), "user_not_found")
    same(refused(lambda: place.web.api_call("no.such")), "unknown_method")


def what_is_posted_stands_in_the_history_with_what_is_beside_it(place):
    metadata = {"event_type": "part", "event_payload": {"part": "1"}}
    posted = place.web.chat_postMessage(channel=place.channel, text="hello &lt;", metadata=metadata)
    page = place.web.conversations_history(channel=place.channel, limit=1, include_all_metadata=True)
    newest = page["messages"][0]
    same((newest["ts"], newest["text"], newest["user"]), (posted["ts"], "hello &lt;", place.bot))
    same(newest["metadata"], metadata)
    plain = place.web.conversations_history(channel=place.channel, limit=1)["messages"][0]
    assert "event_payload" not in plain["metadata"], plain
    # What is sent twice is shown twice.
    place.web.chat_postMessage(channel=place.channel, text="hello &lt;", metadata=metadata)
    texts = [it["text"] for it in place.web.conversations_history(channel=place.channel)["messages"]]
    same(texts[:2], ["hello &lt;"] * 2)
    place.web.chat_update(channel=place.channel, ts=posted["ts"], text="changed")
    same(refused(lambda: place.web.chat_postMessage(channel="C404", text="x")), "channel_not_found")
    same(refused(lambda: place.web.chat_postMessage(channel=place.channel, text="")), "no_text")
    place.web.chat_postEphemeral(channel=place.channel, user=place.person, text="for you")


def a_history_has_pages_and_a_thread_its_own(place):
    said = [place.say(f"number {number}", place.channel) for number in range(7)]
    found, cursor = [], None
    while cursor != "":
        page = place.web.conversations_history(
            channel=place.channel, oldest=said[0], limit=3, cursor=cursor)
        found += [message["ts"] for message in page["messages"]]
        cursor = page["response_metadata"]["next_cursor"]
    same(found, said[:0:-1], "newest first, and not the oldest itself")
    replies = [place.say(f"reply {number}", place.channel, said[2]) for number in range(3)]
    page = place.web.conversations_history(channel=place.channel, latest=said[2], inclusive=True, limit=1)
    root = page["messages"][0]
    same((root["reply_count"], root["latest_reply"]), (3, replies[2]))
    thread = place.web.conversations_replies(channel=place.channel, ts=said[2])["messages"]
    same([message["ts"] for message in thread], [said[2], *replies])
    newest = place.web.conversations_history(channel=place.channel, limit=1)["messages"][0]
    same(newest["ts"], said[6], "a reply does not stand in the history")
    same(refused(lambda: place.web.conversations_replies(channel=place.channel, ts="1.000000")), "thread_not_found")
    kinds = place.web.users_conversations(types="public_channel,im")["channels"]
    same({kind["id"] for kind in kinds}, {place.channel, place.direct})


def files_are_uploaded_and_shared(place):
    done = place.web.files_upload_v2(channel=place.channel, filename="plan.txt", content="the plan")
    same(done["files"][0]["title"], "plan.txt")
    newest = place.web.conversations_history(channel=place.channel, limit=1)["messages"][0]
    same((newest["files"][0]["name"], newest["files"][0]["size"]), ("plan.txt", 8))


def buttons_are_checked(place):
    def block(text="yes", **more):
        button = {"type": "button", "action_id": "a", "value": "v", "text": {"type": "plain_text", "text": text}}
        return [{"type": "actions", "elements": [{**button, **more}]}]

    place.web.chat_postMessage(channel=place.channel, text="ask", blocks=block())
    for wrong in (block("x" * 76), block(value="v" * 2001), block(type="menu"), [{"type": "section"}]):
        same(refused(lambda wrong=wrong: place.web.chat_postMessage(
            channel=place.channel, text="ask", blocks=wrong)), "invalid_blocks")


def what_is_said_is_handed_over_once_when_it_is_acknowledged(place):
    client, heard = place.listen()
    try:
        ts = place.say("hello")
        request = heard.get(timeout=PATIENCE)
        same((request.type, request.payload["event"]["ts"]), ("events_api", ts))
        same(request.payload["event"]["channel_type"], "im")
        place.wait("everything to be acknowledged", lambda: place.control("state")["waiting"] == 0)
        assert heard.empty()
        place.say(f"<@{place.bot}> you", place.channel)
        kinds = {heard.get(timeout=PATIENCE).payload["event"]["type"] for _ in range(2)}
        same(kinds, {"message", "app_mention"}, "a mention comes twice")
    finally:
        client.close()


def what_is_not_acknowledged_is_handed_over_again(place):
    client, heard = place.listen(acknowledge=False)
    try:
        place.say("hello")
        first, second = heard.get(timeout=PATIENCE), heard.get(timeout=PATIENCE)
        same(first.envelope_id, second.envelope_id)
        same((first.retry_attempt, second.retry_attempt, second.retry_reason), (0, 1, "timeout"))
        client.send_socket_mode_response(SocketModeResponse(envelope_id=second.envelope_id))
        place.wait("it to be acknowledged", lambda: place.control("state")["waiting"] == 0)
    finally:
        client.close()


def a_connection_is_renewed_before_it_ends(place):
    client, heard = place.listen()
    try:
        before = client.session_id()
        place.control("refresh", {})
        place.wait("another connection", lambda: client.is_connected() and client.session_id() != before)
        place.say("after")
        same(heard.get(timeout=PATIENCE).payload["event"]["text"], "after")
    finally:
        client.close()


def an_app_of_bolt_answers_and_hears_its_buttons(place):
    web = slack_sdk.WebClient(token=place.bot_token, base_url=place.api)
    app, pressed = slack_bolt.App(client=web), threading.Event()

    @app.message("tea")
    def answer(message, say):
        say(text="which?", thread_ts=message["ts"], blocks=[{"type": "actions", "elements": [{
            "type": "button", "action_id": "choose", "value": "green", "text": {"type": "plain_text", "text": "Green"}}]}])

    @app.action("choose")
    def choose(ack, body):
        ack()
        if body["actions"][0]["value"] == "green" and body["user"]["id"] == place.person:
            pressed.set()

    handler = SocketModeHandler(app, place.app_token, web_client=slack_sdk.WebClient(base_url=place.api))
    handler.connect()
    try:
        said = place.say("tea, please")

        def thread():
            return place.web.conversations_replies(channel=place.direct, ts=said)["messages"][1:]

        place.wait("an answer", thread)
        question = thread()[0]
        same((question["text"], question["thread_ts"]), ("which?", said))
        press = {"user": place.person, "chat": place.direct, "ts": question["ts"], "value": "green"}
        assert place.control("press", press)["pressed"]
        assert pressed.wait(PATIENCE), "nobody heard of the button"
        place.wait("everything to be acknowledged", lambda: place.control("state")["waiting"] == 0)
    finally:
        handler.close()


JUDGEMENTS = [
    the_bot_is_who_its_token_says,
    what_is_posted_stands_in_the_history_with_what_is_beside_it,
    a_history_has_pages_and_a_thread_its_own,
    files_are_uploaded_and_shared,
    buttons_are_checked,
    what_is_said_is_handed_over_once_when_it_is_acknowledged,
    what_is_not_acknowledged_is_handed_over_again,
    a_connection_is_renewed_before_it_ends,
    an_app_of_bolt_answers_and_hears_its_buttons,
]


def main():
    place, failed, begin = Workspace(sys.argv[1]), 0, time.monotonic()
    libraries = f"slack_sdk {slack_sdk.version.__version__}, slack_bolt {slack_bolt.version.__version__}"
    for judgement in JUDGEMENTS:
        said = f"{libraries}: {judgement.__name__.replace('_', ' ')}"
        # What was said while nobody listened is no matter of the next.
        place.control("forget", {})
        try:
            judgement(place)
        except Exception:  # noqa: BLE001: the others are tried all the same
            failed += 1
            print(f"FAILED {said}")
            traceback.print_exc(file=sys.stdout)
        else:
            print(f"ok     {said}")
    print(f"{failed} failed, {time.monotonic() - begin:.1f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
