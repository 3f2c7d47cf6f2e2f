"""Has discord.py judge the stand-in for Discord: `judge_discord.py URL TOKEN`.

`scripts/test-sdks` starts the stand-in and runs this. A bot of the library lives on it, from its first introduction to its
end; people are the stand-in's own words. Each judgement is called after what it shows. All are tried; the exit
code is 0 if all hold.
"""

import asyncio
import io
import json
import sys
import time
import traceback
import urllib.request

import discord
import yarl

URL, TOKEN = sys.argv[1], sys.argv[2]
BASE = URL.removesuffix("/api")
PATIENCE = 20

discord.http.Route.BASE = f"{URL}/v10"


def control(what, body=None):
    """Has the stand-in do something, or say something."""
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(f"{BASE}/_stand-in/{what}", data=data, timeout=PATIENCE) as answer:
        return json.load(answer)


def do(what, body=None):
    return control(what, {} if body is None else body)


class Bot(discord.Client):
    """A bot that writes down what it is told."""

    def __init__(self):
        intents = discord.Intents.default()
        intents.message_content = True
        super().__init__(intents=intents, heartbeat_timeout=20, guild_ready_timeout=1)
        self.heard, self.resumed, self.pressed = asyncio.Queue(), asyncio.Queue(), asyncio.Queue()
        self.edited = asyncio.Queue()

    async def on_message(self, message):
        await self.heard.put(message)

    async def on_resumed(self):
        await self.resumed.put(True)

    async def on_interaction(self, interaction):
        await self.pressed.put(interaction)

    async def on_message_edit(self, _before, after):
        await self.edited.put(after)


async def within(waiting):
    return await asyncio.wait_for(waiting, PATIENCE)


def say(text, channel=None, **more):
    place = control("place")
    return do("say", {"channel": channel or place["channels"][0], "text": text, **more})


async def a_bot_is_let_in_and_told_of_its_server(bot):
    place = control("place")
    assert str(bot.user.id) == place["bot"] and bot.user.bot
    (guild,) = bot.guilds
    assert str(guild.id) == place["guild"] and [it.name for it in guild.text_channels] == ["general"]
    (role,) = [it for it in guild.roles if it.is_bot_managed()]
    assert str(role.tags.bot_id) == place["bot"]
    info = await bot.application_info()
    assert info.flags.gateway_message_content_limited


async def what_people_say_is_heard_with_everything_beside_it(bot):
    place = control("place")
    first = say("hello")
    message = await within(bot.heard.get())
    assert (message.content, message.author.name, str(message.id)) == ("hello", "me", first)
    assert str(message.channel.id) == place["channels"][0] and not message.author.bot
    age = abs(time.time() - message.created_at.timestamp())
    assert age < 60, f"its id has the time in it: {age} s"
    say(f"<@{place['bot']}> and you", reply_to=first)
    message = await within(bot.heard.get())
    assert bot.user in message.mentions
    assert message.type == discord.MessageType.reply
    assert str(message.reference.message_id) == first
    assert message.reference.resolved.content == "hello"


async def what_a_bot_says_is_there_and_told_of(bot):
    channel = bot.guilds[0].text_channels[0]
    sent = await channel.send("from the bot", nonce="a-nonce-1")
    echo = await within(bot.heard.get())
    assert echo.id == sent.id and echo.nonce == "a-nonce-1"
    assert [it.content async for it in channel.history(limit=1)] == ["from the bot"]
    answer = await sent.reply("an answer", mention_author=False)
    await within(bot.heard.get())
    assert answer.reference.message_id == sent.id
    fetched = await channel.fetch_message(sent.id)
    assert fetched.content == "from the bot" and fetched.nonce is None


async def history_comes_in_pages_from_either_side(bot):
    channel = bot.guilds[0].text_channels[0]
    first = say("number 0")
    ids = [int(first)] + [int(say(f"number {it}")) for it in range(1, 130)]
    for _ in ids:
        await within(bot.heard.get())
    after = discord.Object(ids[0])
    forward = [it.id async for it in channel.history(limit=None, after=after, oldest_first=True)]
    assert forward == ids[1:], "everything behind it, oldest first"
    back = [it.id async for it in channel.history(limit=120)]
    assert back == list(reversed(ids))[:120], "newest first"


async def a_file_arrives(bot):
    channel = bot.guilds[0].text_channels[0]
    sent = await channel.send("see", file=discord.File(io.BytesIO(b"the plan"), "a plan.txt"))
    await within(bot.heard.get())
    (file,) = sent.attachments
    assert (file.filename, file.size) == ("a_plan.txt", 8)


async def what_is_refused_has_its_number(bot):
    channel = bot.guilds[0].text_channels[0]
    for text, code in (("x" * 2001, 50035), ("  ", 50006)):
        try:
            await channel.send(text)
        except discord.HTTPException as refused:
            assert (refused.status, refused.code) == (400, code), refused
        else:
            raise AssertionError(f"{text[:9]!r} is taken")
    try:
        await bot.fetch_channel(1)
    except discord.NotFound as refused:
        assert refused.code == 10003
    else:
        raise AssertionError("there is no such channel")


async def limits_are_told_so_that_a_library_keeps_them(bot):
    channel = bot.guilds[0].text_channels[0]
    await asyncio.gather(*(channel.send(f"one of many {it}") for it in range(12)))
    said = [(await within(bot.heard.get())).content for _ in range(12)]
    assert len(set(said)) == 12


async def a_button_is_pressed_and_the_message_changed(bot):
    channel = bot.guilds[0].text_channels[0]
    view = discord.ui.View(timeout=None)
    view.add_item(discord.ui.Button(label="yes", custom_id="abcd 1"))
    sent = await channel.send("may it?", view=view)
    await within(bot.heard.get())
    do("press", {"message": str(sent.id), "custom_id": "abcd 1"})
    pressed = await within(bot.pressed.get())
    assert pressed.data["custom_id"] == "abcd 1" and pressed.user.name == "me"
    assert pressed.message.id == sent.id
    await pressed.response.edit_message(view=None)
    changed = await within(bot.edited.get())
    assert changed.id == sent.id and changed.components == []


async def a_direct_chat_is_one(bot):
    user = discord.Object(int(control("place")["me"]))
    channel = await bot.create_dm(user)
    assert isinstance(channel, discord.DMChannel)
    say("psst", channel=str(channel.id))
    message = await within(bot.heard.get())
    assert message.content == "psst" and message.guild is None


async def a_connection_that_is_cut_off_goes_on(bot):
    before = control("counts")
    do("drop")
    said = say("while nobody listens")
    await within(bot.resumed.get())
    message = await within(bot.heard.get())
    assert str(message.id) == said, "it is told of what it missed"
    do("reconnect")
    await within(bot.resumed.get())
    after = control("counts")
    assert after["identified"] == before["identified"], "the session goes on"
    assert after["resumed"] == before["resumed"] + 2


async def a_sign_of_life_is_given_when_it_is_wanted(bot):
    do("beat")
    await asyncio.sleep(0)
    say("still there?")
    assert (await within(bot.heard.get())).content == "still there?"
    assert bot.latency < 5


async def a_session_that_is_over_is_followed_by_another(bot):
    before = control("counts")
    do("invalidate")
    end = time.monotonic() + PATIENCE
    while control("counts")["identified"] == before["identified"]:
        assert time.monotonic() < end, "nobody introduces themselves anew"
        await asyncio.sleep(0.1)
    await within(bot.wait_for("ready"))
    say("anew")
    assert (await within(bot.heard.get())).content == "anew"


JUDGEMENTS = (
    a_bot_is_let_in_and_told_of_its_server,
    what_people_say_is_heard_with_everything_beside_it,
    what_a_bot_says_is_there_and_told_of,
    history_comes_in_pages_from_either_side,
    a_file_arrives,
    what_is_refused_has_its_number,
    limits_are_told_so_that_a_library_keeps_them,
    a_button_is_pressed_and_the_message_changed,
    a_direct_chat_is_one,
    a_connection_that_is_cut_off_goes_on,
    a_sign_of_life_is_given_when_it_is_wanted,
    a_session_that_is_over_is_followed_by_another,
)


async def main():
    failed, begin = 0, time.monotonic()
    bot = Bot()
    await bot.login(TOKEN)
    _, gateway, _ = await bot.http.get_bot_gateway()
    discord.gateway.DiscordWebSocket.DEFAULT_GATEWAY = yarl.URL(gateway)
    life = asyncio.create_task(bot.connect())
    await within(bot.wait_until_ready())
    for judgement in JUDGEMENTS:
        said = f"discord.py {discord.__version__}: {judgement.__name__.replace('_', ' ')}"
        try:
            await judgement(bot)
        except Exception:  # noqa: BLE001: the others are tried all the same
            failed += 1
            print(f"FAILED {said}")
            traceback.print_exc(file=sys.stdout)
        else:
            print(f"ok     {said}")
    await bot.close()
    await asyncio.gather(life, return_exceptions=True)
    # A bot that says goodbye has no session any more, and one with another token none at all.
    other = Bot()
    try:
        await other.login("another.token")
    except discord.LoginFailure:
        print(f"ok     discord.py {discord.__version__}: another token is refused")
    else:
        failed += 1
        print("FAILED another token is refused")
    await other.close()
    print(f"{failed} failed, {time.monotonic() - begin:.1f} s")
    return 1 if failed else 0


sys.exit(asyncio.run(main()))
