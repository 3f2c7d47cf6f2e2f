"""What OpenAI's library makes of the stand-in."""

import json

import openai

from bench import DIVE, KEY, LOOK, MODEL, PDF, PNG, SCHEMA, raises, same, says

CHAT_TOOLS = [{"type": "function", "function": {"name": name, "parameters": SCHEMA}} for name in ("look", "dive")]
TOOLS = [{"type": "function", "name": name, "parameters": SCHEMA, "strict": False} for name in ("look", "dive")]


def person(content):
    return [{"role": "user", "content": content}]


def chat(bench, said="hello", client=None, **more):
    messages = said if isinstance(said, list) else person(said)
    return (client or bench.openai).chat.completions.create(model=MODEL, messages=messages, **more)


def chat_stream(bench, said="hello", **more):
    messages = said if isinstance(said, list) else person(said)
    usage = {"include_usage": True}
    with bench.openai.chat.completions.stream(
            model=MODEL, messages=messages, stream_options=usage, **more) as events:
        for _ in events:
            pass
        return events.get_final_completion()


def respond(bench, said="hello", client=None, **more):
    return (client or bench.openai).responses.create(model=MODEL, input=said, **more)


def respond_stream(bench, said="hello", **more):
    with bench.openai.responses.stream(model=MODEL, input=said, **more) as events:
        for _ in events:
            pass
        return events.get_final_response()


def a_text_is_the_same_whole_and_streamed(bench):
    text = "grüße 🐟 and more"
    bench.will(says(text), says(text, piece=3), says(text, piece=3))
    whole, final = chat(bench), chat_stream(bench)
    for completion in (whole, final):
        choice = completion.choices[0]
        same((choice.message.content, choice.finish_reason, completion.model), (text, "stop", MODEL))
    same(whole.usage.completion_tokens, final.usage.completion_tokens)
    chunks = list(chat(bench, stream=True))
    same("".join(chunk.choices[0].delta.content or "" for chunk in chunks), text)
    assert len(chunks) > 5 and not any(chunk.usage for chunk in chunks), chunks
    assert whole._request_id.startswith("req_"), whole._request_id
    bench.will(says(text), says(text, piece=3))
    for response in (respond(bench), respond_stream(bench)):
        same((response.output_text, response.status, response.model), (text, "completed", MODEL))
        assert response.usage.output_tokens > 0 and response.usage.total_tokens > response.usage.output_tokens
    same(respond(bench, "and now?").output_text, "you said: and now?")
    same(chat(bench, "and now?").choices[0].message.content, "you said: and now?")


def calls_of_chats_are_whole_and_results_are_taken(bench):
    for piece in (0, 2):
        bench.will(says("let me see", LOOK, DIVE, piece=piece), says("done"))
        choice = chat_stream(bench, tools=CHAT_TOOLS).choices[0]
        same((choice.finish_reason, choice.message.content), ("tool_calls", "let me see"))
        look, dive = choice.message.tool_calls
        same((look.function.name, json.loads(look.function.arguments)), ("look", {"at": "sea"}))
        same(json.loads(dive.function.arguments), {"at": "grüße 🐟"})
        calls = [{"id": call.id, "type": "function", "function": {
            "name": call.function.name, "arguments": call.function.arguments}} for call in (look, dive)]
        results = [{"role": "tool", "tool_call_id": call.id, "content": "fish"} for call in (look, dive)]
        said = person("hello") + [{"role": "assistant", "content": None, "tool_calls": calls}]
        same(chat(bench, said + results, tools=CHAT_TOOLS).choices[0].message.content, "done")
        raises(openai.BadRequestError, lambda: chat(bench, said + results[:1], tools=CHAT_TOOLS))
    bench.will(says(LOOK))
    message = chat(bench, tools=CHAT_TOOLS).choices[0].message
    same((message.content, message.tool_calls[0].function.name), (None, "look"))


def calls_of_responses_are_whole_and_thoughts_are_wanted_back(bench):
    for piece in (0, 2):
        bench.will(says({"thinking": "hm, the sea"}, "let me see", LOOK, DIVE, piece=piece))
        response = respond_stream(bench, tools=TOOLS, store=False)
        thought, text, look, dive = response.output
        same((thought.summary[0].text, text.content[0].text), ("hm, the sea", "let me see"))
        same((look.name, json.loads(look.arguments), json.loads(dive.arguments)),
             ("look", {"at": "sea"}, {"at": "grüße 🐟"}))
        assert thought.encrypted_content and response.usage.output_tokens_details.reasoning_tokens > 0
        results = [{"type": "function_call_output", "call_id": call.call_id, "output": "fish"}
                   for call in (look, dive)]
        items = [item.to_dict() for item in response.output]
        bench.will(says("done"))
        said = person("hello") + items + results
        same(respond(bench, said, tools=TOOLS, store=False).output_text, "done")
        for wrong in (person("hello") + items[1:] + results, person("hello") + items + results[:1]):
            raises(openai.BadRequestError, lambda wrong=wrong: respond(bench, wrong, tools=TOOLS))


def pictures_and_files_are_taken(bench):
    picture, file = f"data:image/png;base64,{PNG}", f"data:application/pdf;base64,{PDF}"
    same(chat(bench, person([
        {"type": "image_url", "image_url": {"url": picture}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": file}},
        {"type": "text", "text": "what is it?"},
    ])).choices[0].message.content, "you said: what is it?")
    same(respond(bench, person([
        {"type": "input_image", "image_url": picture, "detail": "auto"},
        {"type": "input_file", "filename": "a.pdf", "file_data": file},
        {"type": "input_text", "text": "what is it?"},
    ])).output_text, "you said: what is it?")


def a_second_turn_reads_the_cache(bench):
    said = person("long " * 900)
    same(chat(bench, said).usage.prompt_tokens_details.cached_tokens, 0)
    more = said + [{"role": "assistant", "content": "so"}, *person("and?")]
    usage = chat_stream(bench, more).usage
    assert usage.prompt_tokens * 0.8 < usage.prompt_tokens_details.cached_tokens < usage.prompt_tokens, usage
    same(usage.prompt_tokens_details.cached_tokens % 128, 0)
    said = person("other " * 900)
    same(respond(bench, said).usage.input_tokens_details.cached_tokens, 0)
    assert respond_stream(bench, said).usage.input_tokens_details.cached_tokens > 1000


def odd_ends_are_told(bench):
    bench.will(says(), says("half", length=True), says(), says("half", length=True))
    same((chat(bench).choices[0].message.content, chat(bench).choices[0].finish_reason), ("", "length"))
    same(chat_stream(bench).choices[0].message.content or "", "")
    # What the helper for streams takes for an error, and nothing else does.
    error = raises(openai.LengthFinishReasonError, lambda: chat_stream(bench))
    same(error.completion.choices[0].message.content, "half")
    bench.will(says(), says("half", length=True))
    same(respond(bench).output, [])
    half = respond(bench)
    same((half.status, half.incomplete_details.reason), ("incomplete", "max_output_tokens"))
    bench.will(says("half", length=True))
    events = list(respond(bench, stream=True))
    same((events[-1].type, events[-1].response.output_text), ("response.incomplete", "half"))
    same([event.sequence_number for event in events], list(range(len(events))))


def refusals_have_their_class(bench):
    kinds = {
        400: openai.BadRequestError, 401: openai.AuthenticationError, 402: openai.APIStatusError,
        403: openai.PermissionDeniedError, 404: openai.NotFoundError, 413: openai.APIStatusError,
        429: openai.RateLimitError, 500: openai.InternalServerError, 503: openai.InternalServerError,
    }
    for ask in (chat, respond):
        for status, kind in kinds.items():
            bench.refuses(status)
            error = raises(kind, lambda ask=ask: ask(bench))
            same(error.status_code, status)
            assert error.body["message"] and error.request_id.startswith("req_"), error.body
    bench.refuses(401)
    same(raises(openai.AuthenticationError, lambda: chat(bench)).code, "invalid_api_key")
    same(raises(openai.BadRequestError, lambda: chat(bench, [])).param, "messages")


def what_may_pass_is_asked_again(bench):
    client = openai.OpenAI(api_key=KEY, base_url=bench.url + "/v1", max_retries=1, timeout=20)
    cases = ((429, {"retry_after": 1}, 2), (429, {"retry_after": 300}, 1), (500, {}, 2), (401, {}, 1), (402, {}, 1))
    for status, more, expected in cases:
        before = len(bench.requests())
        bench.refuses(status, times=expected, **more)
        try:
            respond(bench, client=client)
        except openai.APIStatusError as error:
            same(error.status_code, status)
        same(len(bench.requests()) - before, expected, (status, more))
    bench.refuses(503)
    same(chat(bench, "again", client=client).choices[0].message.content, "you said: again")


def trouble_within_a_stream_is_told(bench):
    bench.will(says("half", trouble={"error": 700}, piece=1))
    error = raises(openai.APIError, lambda: chat_stream(bench))
    assert "server had an error" in error.message, error
    bench.will(says("half", trouble={"error": 2000}, piece=1))
    last = list(respond(bench, stream=True))[-1]
    same((last.type, last.code), ("error", "server_error"))
    for ask in (chat, respond):
        bench.will(says("half", trouble={"cut": 700}, piece=1))
        raises(openai.APIConnectionError, lambda ask=ask: list(ask(bench, stream=True)))
    same([request["end"] for request in bench.requests()[-4:]], ["cut"] * 4)
    bench.will(says("slowly", drip=True), says("slowly", drip=True))
    same((chat_stream(bench).choices[0].message.content, respond_stream(bench).output_text), ("slowly", "slowly"))


def lists_are_read(bench):
    models = list(bench.openai.models.list())
    assert models and models[0].object == "model", models
    same(bench.openai.models.retrieve(models[0].id).owned_by, "stand-in")
    raises(openai.AuthenticationError, lambda: openai.OpenAI(
        api_key="another", base_url=bench.url + "/v1", max_retries=0).models.list())


JUDGEMENTS = [
    a_text_is_the_same_whole_and_streamed,
    calls_of_chats_are_whole_and_results_are_taken,
    calls_of_responses_are_whole_and_thoughts_are_wanted_back,
    pictures_and_files_are_taken,
    a_second_turn_reads_the_cache,
    odd_ends_are_told,
    refusals_have_their_class,
    what_may_pass_is_asked_again,
    trouble_within_a_stream_is_told,
    lists_are_read,
]
