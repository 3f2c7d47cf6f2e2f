"""What Anthropic's library makes of the stand-in."""

import anthropic

from bench import DIVE, KEY, LOOK, MODEL, PDF, PNG, SCHEMA, raises, same, says

TOOLS = [{"name": name, "description": name, "input_schema": SCHEMA} for name in ("look", "dive")]


def ask(bench, said="hello", client=None, **more):
    messages = said if isinstance(said, list) else [{"role": "user", "content": said}]
    client = client or bench.anthropic
    return client.messages.create(model=MODEL, max_tokens=99, messages=messages, **more)


def stream(bench, said="hello", **more):
    messages = said if isinstance(said, list) else [{"role": "user", "content": said}]
    return bench.anthropic.messages.stream(model=MODEL, max_tokens=99, messages=messages, **more)


def a_text_is_the_same_whole_and_streamed(bench):
    bench.will(says("grüße 🐟 and more"), says("grüße 🐟 and more", piece=3))
    whole = ask(bench)
    with stream(bench) as events:
        pieces = list(events.text_stream)
        final = events.get_final_message()
    same("".join(pieces), "grüße 🐟 and more")
    assert len(pieces) > 3, pieces
    for message in (whole, final):
        same(message.content[0].text, "grüße 🐟 and more")
        same((message.role, message.model, message.stop_reason), ("assistant", MODEL, "end_turn"))
    same(whole.usage.output_tokens, final.usage.output_tokens)
    assert whole._request_id.startswith("req_"), whole._request_id
    same(ask(bench, "and now?").content[0].text, "you said: and now?")


def calls_of_tools_are_whole_and_results_are_taken(bench):
    for piece in (0, 2):
        bench.will(says("let me see", LOOK, DIVE, piece=piece), says("done"))
        with stream(bench, tools=TOOLS) as events:
            message = events.get_final_message()
        same(message.stop_reason, "tool_use")
        text, look, dive = message.content
        same((text.text, look.name, look.input, dive.input["at"]),
             ("let me see", "look", {"at": "sea"}, "grüße 🐟"))
        results = [{"type": "tool_result", "tool_use_id": call.id, "content": "fish"} for call in (look, dive)]
        said = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": message.content}]
        answer = ask(bench, said + [{"role": "user", "content": results}], tools=TOOLS)
        same(answer.content[0].text, "done")


def thoughts_come_with_a_signature_and_are_wanted_back(bench):
    thinking = {"type": "adaptive"}
    bench.will(says({"thinking": "hm, the sea"}, LOOK, piece=4))
    with stream(bench, tools=TOOLS, thinking=thinking) as events:
        message = events.get_final_message()
    thought, call = message.content
    same((thought.type, thought.thinking), ("thinking", "hm, the sea"))
    assert thought.signature and message.usage.output_tokens_details.thinking_tokens > 0
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "fish"}]}
    for content, good in ((message.content, True), (message.content[1:], False)):
        said = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": content}, result]
        if good:
            ask(bench, said, tools=TOOLS, thinking=thinking)
        else:
            raises(anthropic.BadRequestError, lambda said=said: ask(bench, said, tools=TOOLS))


def pictures_and_files_are_taken(bench):
    blocks = [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": PDF}},
        {"type": "text", "text": "what is it?"},
    ]
    same(ask(bench, [{"role": "user", "content": blocks}]).content[0].text, "you said: what is it?")


def a_second_turn_reads_the_cache(bench):
    mark = {"type": "ephemeral"}
    first = {"role": "user", "content": [{"type": "text", "text": "long " * 900, "cache_control": mark}]}
    written = ask(bench, [first]).usage
    same((written.cache_read_input_tokens, written.input_tokens), (0, 0))
    more = [first, {"role": "assistant", "content": "so"}, {"role": "user", "content": "and?"}]
    with stream(bench, more) as events:
        read = events.get_final_message().usage
    same(read.cache_read_input_tokens, written.cache_creation_input_tokens)
    same(written.cache_creation.ephemeral_5m_input_tokens, written.cache_creation_input_tokens)
    assert 0 < read.input_tokens < 20, read


def odd_ends_are_told(bench):
    bench.will(says(), says("half", length=True), says(), says("half", length=True))
    same((ask(bench).content, ask(bench).stop_reason), ([], "max_tokens"))
    for expected in ("end_turn", "max_tokens"):
        with stream(bench) as events:
            same(events.get_final_message().stop_reason, expected)


def refusals_have_their_class(bench):
    kinds = {
        400: anthropic.BadRequestError, 401: anthropic.AuthenticationError,
        402: anthropic.PaymentRequiredError, 403: anthropic.PermissionDeniedError,
        404: anthropic.NotFoundError, 413: anthropic.ContentTooLargeError,
        429: anthropic.RateLimitError, 500: anthropic.InternalServerError,
        503: anthropic.ServiceUnavailableError, 529: anthropic.OverloadedError,
    }
    for status, kind in kinds.items():
        bench.refuses(status)
        error = raises(kind, lambda: ask(bench))
        same((error.status_code, error.body["type"]), (status, "error"))
        assert error.body["error"]["message"] and error.request_id.startswith("req_"), error.body
    long = raises(anthropic.BadRequestError, lambda: ask(bench, ""))
    assert "non-empty content" in str(long), long


def what_may_pass_is_asked_again(bench):
    client = anthropic.Anthropic(api_key=KEY, base_url=bench.url, max_retries=1, timeout=20)
    cases = ((429, {"retry_after": 1}, 2), (500, {}, 2), (529, {}, 2), (401, {}, 1), (402, {}, 1), (403, {}, 1))
    for status, more, expected in cases:
        before = len(bench.requests())
        bench.refuses(status, times=expected, **more)
        try:
            ask(bench, client=client)
        except anthropic.APIStatusError as error:
            same(error.status_code, status)
        same(len(bench.requests()) - before, expected, status)
    bench.refuses(529)
    same(ask(bench, "again", client=client).content[0].text, "you said: again")


def trouble_within_a_stream_is_raised(bench):
    def read():
        with stream(bench) as events:
            return events.get_final_message()

    bench.will(says("half", trouble={"error": 700}, piece=1))
    error = raises(anthropic.APIStatusError, read)
    same(error.body["error"]["type"], "overloaded_error")
    bench.will(says("half", trouble={"cut": 700}, piece=1))
    try:
        read()
    except Exception as error:  # noqa: BLE001: which one is httpx's business
        assert "closed" in str(error) or "Connection" in str(error), repr(error)
    else:
        raise AssertionError("a stream that was cut was read to its end")
    same([request["end"] for request in bench.requests()[-2:]], ["cut", "cut"])
    bench.will(says("slowly", drip=True))
    same(read().content[0].text, "slowly")


def lists_and_counts_are_read(bench):
    models = list(bench.anthropic.models.list())
    assert models and models[0].type == "model", models
    same(bench.anthropic.models.retrieve(models[0].id).id, models[0].id)
    count = bench.anthropic.messages.count_tokens(model=MODEL, messages=[{"role": "user", "content": "hello"}])
    assert count.input_tokens > 0
    ask(bench)
    last = bench.last()
    same((last["headers"]["authorization"], last["end"], last["fault"]), (f"Bearer {KEY}", "sold", None))
    assert "x-api-key" not in last["headers"], last["headers"]


JUDGEMENTS = [
    a_text_is_the_same_whole_and_streamed,
    calls_of_tools_are_whole_and_results_are_taken,
    thoughts_come_with_a_signature_and_are_wanted_back,
    pictures_and_files_are_taken,
    a_second_turn_reads_the_cache,
    odd_ends_are_told,
    refusals_have_their_class,
    what_may_pass_is_asked_again,
    trouble_within_a_stream_is_raised,
    lists_and_counts_are_read,
]
