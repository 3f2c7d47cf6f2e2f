"""Has two libraries of others judge the stand-in for Telegram: `judge_telegram.py URL TOKEN LIBRARY`.

`scripts/test-sdks` starts the stand-in and runs this. Each judgement is called after what it shows, and is given a
library's bot, so that each of them says what it makes of the same. All are tried; the exit code is 0 if all hold.
"""

import asyncio
import json
import sys
import time
import traceback
import urllib.request

import aiogram
import aiogram.client.session.aiohttp
import aiogram.client.telegram
import aiogram.exceptions
import aiogram.types
import telegram
import telegram.error
import telegram.request

from bench import same

ADA, BOB, GROUP, FORUM, TOPIC = 42, 43, -500, -1001000000001, 77
PNG = bytes.fromhex("89504e470d0a1a0a")


class StandIn:
    def __init__(self, url):
        self.url = url

    def control(self, what, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/_stand-in/{what}", data=data)
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.load(answer)

    def do(self, order, **what):
        return self.control("do", {order: what})

    def say(self, text, chat=ADA, who=ADA, **more):
        return self.do("say", chat=chat, **{"from": who}, text=text, more=more)

    def refuse(self, method, code, description="", retry_after=None):
        refuse = {"code": code, "description": description, "retry_after": retry_after}
        self.do("fail", method=method, weather={"refuse": refuse})

    def gateway(self, method):
        self.do("fail", method=method, weather="gateway")


class Ptb:
    """python-telegram-bot."""

    name = f"python-telegram-bot {telegram.__version__}"
    errors = {
        "bad": telegram.error.BadRequest,
        "forbidden": telegram.error.Forbidden,
        "token": telegram.error.InvalidToken,
        "conflict": telegram.error.Conflict,
        "busy": telegram.error.RetryAfter,
        "moved": telegram.error.ChatMigrated,
        "gateway": telegram.error.NetworkError,
    }

    def __init__(self, url, token):
        pools = [telegram.request.HTTPXRequest(connection_pool_size=4) for _ in range(2)]
        self.bot = telegram.Bot(
            token, base_url=url + "/bot", base_file_url=url + "/file/bot", request=pools[0],
            get_updates_request=pools[1])

    async def close(self):
        pass

    async def updates(self, offset=None, timeout=0):
        return await self.bot.get_updates(offset=offset, timeout=timeout, allowed_updates=["message", "callback_query"])

    async def send(self, chat, text, entities=(), reply_to=None, thread=None, buttons=()):
        marks = [telegram.MessageEntity(kind, offset, length, **more) for kind, offset, length, more in entities]
        reply = reply_to and telegram.ReplyParameters(reply_to, allow_sending_without_reply=False)
        rows = [[telegram.InlineKeyboardButton(text, callback_data=data)] for text, data in buttons]
        return await self.bot.send_message(
            chat, text, entities=marks, reply_parameters=reply, message_thread_id=thread,
            reply_markup=telegram.InlineKeyboardMarkup(rows) if rows else None)

    async def document(self, chat, name, content):
        return await self.bot.send_document(chat, telegram.InputFile(content, name), filename=name)

    async def photo(self, chat, content):
        return await self.bot.send_photo(chat, content)

    async def unkey(self, chat, message):
        return await self.bot.edit_message_reply_markup(chat, message, reply_markup=None)

    async def answer(self, query):
        return await self.bot.answer_callback_query(query, text="yes")

    async def typing(self, chat):
        return await self.bot.send_chat_action(chat, "typing")

    async def content(self, file_id):
        file = await self.bot.get_file(file_id)
        return bytes(await file.download_as_bytearray())

    @staticmethod
    def sender(message):
        return message.from_user

    @staticmethod
    def pause(error):
        after = error.retry_after
        return after if isinstance(after, (int, float)) else after.total_seconds()

    @staticmethod
    def moved_to(error):
        return error.new_chat_id


class Aiogram:
    """aiogram."""

    name = f"aiogram {aiogram.__version__}"
    errors = {
        "bad": aiogram.exceptions.TelegramBadRequest,
        "forbidden": aiogram.exceptions.TelegramForbiddenError,
        "token": aiogram.exceptions.TelegramUnauthorizedError,
        "conflict": aiogram.exceptions.TelegramConflictError,
        "busy": aiogram.exceptions.TelegramRetryAfter,
        "moved": aiogram.exceptions.TelegramMigrateToChat,
        "gateway": Exception,  # what is no JSON is for it what it cannot read
    }

    def __init__(self, url, token):
        api = aiogram.client.telegram.TelegramAPIServer.from_base(url)
        session = aiogram.client.session.aiohttp.AiohttpSession(api=api)
        self.bot = aiogram.Bot(token, session=session)

    async def close(self):
        await self.bot.session.close()

    async def updates(self, offset=None, timeout=0):
        return await self.bot.get_updates(offset=offset, timeout=timeout, allowed_updates=["message", "callback_query"])

    async def send(self, chat, text, entities=(), reply_to=None, thread=None, buttons=()):
        types = aiogram.types
        marks = [types.MessageEntity(type=kind, offset=offset, length=length, **more)
                 for kind, offset, length, more in entities]
        reply = reply_to and types.ReplyParameters(message_id=reply_to, allow_sending_without_reply=False)
        rows = [[types.InlineKeyboardButton(text=text, callback_data=data)] for text, data in buttons]
        return await self.bot.send_message(
            chat, text, entities=marks or None, reply_parameters=reply, message_thread_id=thread,
            reply_markup=types.InlineKeyboardMarkup(inline_keyboard=rows) if rows else None)

    async def document(self, chat, name, content):
        return await self.bot.send_document(chat, aiogram.types.BufferedInputFile(content, name))

    async def photo(self, chat, content):
        return await self.bot.send_photo(chat, aiogram.types.BufferedInputFile(content, "photo.png"))

    async def unkey(self, chat, message):
        return await self.bot.edit_message_reply_markup(chat_id=chat, message_id=message, reply_markup=None)

    async def answer(self, query):
        return await self.bot.answer_callback_query(query, text="yes")

    async def typing(self, chat):
        return await self.bot.send_chat_action(chat, "typing")

    async def content(self, file_id):
        file = await self.bot.get_file(file_id)
        return (await self.bot.download_file(file.file_path)).read()

    @staticmethod
    def sender(message):
        return message.from_user

    @staticmethod
    def pause(error):
        return error.retry_after

    @staticmethod
    def moved_to(error):
        return error.migrate_to_chat_id


async def raises(library, kind, asked):
    """What is raised, which is of that kind."""
    try:
        answer = await asked
    except library.errors[kind] as error:
        return error
    raise AssertionError(f"{answer!r}, where a {kind} was to be raised")


async def fetched(library):
    """What waits, confirmed."""
    updates = await library.updates()
    if updates:
        await library.updates(offset=updates[-1].update_id + 1)
    return updates


async def a_bot_knows_itself(bench, library):
    me = await library.bot.get_me()
    same((me.id, me.is_bot, me.username), (7001, True, "two_box_bot"))
    same((me.can_join_groups, me.can_read_all_group_messages), (True, False))
    same((await library.bot.get_webhook_info()).url, "")


async def what_is_said_comes_again_until_it_is_confirmed(bench, library):
    number = bench.say("hello 😀 @two_box_bot /help")
    first = await library.updates()
    same(len(first), 1)
    message = first[0].message
    same((message.message_id, message.text, message.chat.id, message.chat.type), (
        number, "hello 😀 @two_box_bot /help", ADA, "private"))
    same((library.sender(message).id, library.sender(message).first_name), (ADA, "Person 42"))
    marks = [(mark.type, mark.offset, mark.length) for mark in message.entities]
    same(marks, [("mention", 9, 12), ("bot_command", 22, 5)])
    assert abs(message.date.timestamp() - time.time()) < 60, message.date
    same((await library.updates())[0].update_id, first[0].update_id)
    bench.say("more")
    second = await library.updates(offset=first[0].update_id + 1)
    same([update.message.text for update in second], ["more"])
    same(await library.updates(offset=second[0].update_id + 1), type(second)())


async def who_waits_is_told_when_something_is_said(bench, library):
    waits = asyncio.create_task(library.updates(timeout=10))
    await asyncio.sleep(0.3)
    bench.say("at last")
    same([update.message.text for update in await waits], ["at last"])


async def an_answer_and_a_topic_are_what_they_are(bench, library):
    said = await library.send(GROUP, "ask me")
    bench.say("why?", GROUP, answers=said.message_id)
    bench.say("@two_box_bot here", FORUM, message_thread_id=TOPIC)
    answer, topic = (update.message for update in await fetched(library))
    same((answer.reply_to_message.message_id, answer.reply_to_message.from_user.id), (said.message_id, 7001))
    same((answer.chat.type, topic.chat.type, topic.chat.is_forum), ("group", "supergroup", True))
    same((topic.message_thread_id, topic.is_topic_message), (TOPIC, True))


async def a_text_is_shown_with_its_marks_where_it_belongs(bench, library):
    number = bench.say("say it")
    marks = [("bold", 0, 2, {}), ("pre", 3, 2, {"language": "sh"}),
             ("text_link", 6, 1, {"url": "https://x.example/"})]
    said = await library.send(ADA, "ab cd e", marks, reply_to=number)
    same([(mark.type, mark.offset, mark.length) for mark in said.entities], [mark[:3] for mark in marks])
    same((said.entities[1].language, said.entities[2].url), ("sh", "https://x.example/"))
    same((said.reply_to_message.message_id, said.from_user.is_bot), (number, True))
    same((await library.send(FORUM, "there", thread=TOPIC)).message_thread_id, TOPIC)
    assert await library.typing(ADA)


async def what_telegram_does_not_take_is_refused(bench, library):
    await library.send(ADA, "x" * 4096)
    for text in ("x" * 4097, ""):
        await raises(library, "bad", library.send(ADA, text))
    await raises(library, "bad", library.send(ADA, "ab", [("bold", 0, 3, {})]))
    await raises(library, "bad", library.send(ADA, "x", reply_to=999_999))
    await raises(library, "bad", library.send(FORUM, "x", thread=5))
    await raises(library, "bad", library.send(ADA, "x", buttons=[("x", "y" * 65)]))
    await raises(library, "bad", library.send(999, "x"))


async def a_button_is_pressed_and_answered_once_and_goes(bench, library):
    asked = await library.send(ADA, "which?", buttons=[("one", "AB 1"), ("two", "AB 2")])
    rows = asked.reply_markup.inline_keyboard
    same([(row[0].text, row[0].callback_data) for row in rows], [("one", "AB 1"), ("two", "AB 2")])
    bench.do("click", chat=ADA, message=asked.message_id, **{"from": BOB}, button=1)
    (query,) = (update.callback_query for update in await fetched(library))
    same((query.data, query.from_user.id, query.message.message_id), ("AB 2", BOB, asked.message_id))
    assert await library.answer(query.id)
    await raises(library, "bad", library.answer(query.id))
    changed = await library.unkey(ADA, asked.message_id)
    assert not changed.reply_markup and changed.edit_date, changed
    error = await raises(library, "bad", library.unkey(ADA, asked.message_id))
    assert "message is not modified" in str(error).lower(), error


async def files_go_both_ways(bench, library):
    sent = await library.document(ADA, "plän 1.txt", b"the\r\n--plan\x00\xff")
    same((sent.document.file_name, sent.document.file_size), ("plän 1.txt", 13))
    same(await library.content(sent.document.file_id), b"the\r\n--plan\x00\xff")
    photo = await library.photo(ADA, PNG)
    same(photo.photo[-1].file_size, len(PNG))
    await raises(library, "bad", library.photo(ADA, b"no picture"))
    await raises(library, "bad", library.content("nowhere"))


async def a_no_is_what_it_says(bench, library):
    bench.refuse("sendMessage", 429, retry_after=7)
    error = await raises(library, "busy", library.send(ADA, "x"))
    same(library.pause(error), 7)
    bench.do("block", chat=ADA, blocked=True)
    await raises(library, "forbidden", library.send(ADA, "x"))
    bench.do("block", chat=ADA, blocked=False)
    bench.gateway("sendMessage")
    await raises(library, "gateway", library.send(ADA, "x"))
    other = type(library)(bench.url, "7001:not-the-token-of-it")
    await raises(library, "token", other.bot.get_me())
    await other.close()


async def two_who_ask_are_told_of_each_other_and_a_webhook_wins(bench, library):
    waits = asyncio.create_task(library.updates(timeout=10))
    await asyncio.sleep(0.3)
    await library.updates()
    await raises(library, "conflict", waits)
    await library.bot.set_webhook("https://hooks.example/x")
    same((await library.bot.get_webhook_info()).url, "https://hooks.example/x")
    await raises(library, "conflict", library.updates())
    await library.bot.delete_webhook()
    await library.updates()


async def a_group_that_moves_says_where_to(bench, library):
    # It moves once: each library is given a stand-in of its own.
    to = -1001000000500 - len(library.name)
    bench.do("upgrade", group=GROUP, to=to)
    old, new = (update.message for update in await fetched(library))
    same((old.migrate_to_chat_id, new.migrate_from_chat_id), (to, GROUP))
    error = await raises(library, "moved", library.send(GROUP, "x"))
    same(library.moved_to(error), to)
    same((await library.send(to, "x")).chat.id, to)


JUDGEMENTS = (
    a_bot_knows_itself,
    what_is_said_comes_again_until_it_is_confirmed,
    who_waits_is_told_when_something_is_said,
    an_answer_and_a_topic_are_what_they_are,
    a_text_is_shown_with_its_marks_where_it_belongs,
    what_telegram_does_not_take_is_refused,
    a_button_is_pressed_and_answered_once_and_goes,
    files_go_both_ways,
    a_no_is_what_it_says,
    two_who_ask_are_told_of_each_other_and_a_webhook_wins,
    a_group_that_moves_says_where_to,
)


async def judge(kind, bench, token):
    library, failed = kind(bench.url, token), 0
    for judgement in JUDGEMENTS:
        said = f"{kind.name}: {judgement.__name__.replace('_', ' ')}"
        try:
            # How fast is none of what is judged here.
            bench.do("flood", on=False)
            await fetched(library)
            await judgement(bench, library)
        except Exception:  # noqa: BLE001: the others are tried all the same
            failed += 1
            print(f"FAILED {said}")
            traceback.print_exc(file=sys.stdout)
        else:
            print(f"ok     {said}")
    await library.close()
    return failed


def main():
    kind = {"python-telegram-bot": Ptb, "aiogram": Aiogram}[sys.argv[3]]
    failed = asyncio.run(judge(kind, StandIn(sys.argv[1]), sys.argv[2]))
    print(f"{failed} failed")
    return 1 if failed else 0


sys.exit(main())
