"""Anthropic's SDK: messages, streams, tools, token counts, models."""

import pytest
from pydantic import BaseModel

MODEL = "claude-sonnet-4-6"
MESSAGES = [{"role": "user", "content": "Salam, ঢাকা 🌦"}]
WEATHER = {
    "name": "get_weather",
    "description": "The weather of a city",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 2}},
        "required": ["city", "days"],
    },
}


class Trip(BaseModel):
    city: str
    days: int


def ask(**more):
    return {"model": MODEL, "max_tokens": 1024, "messages": MESSAGES, **more}


def test_an_answer_is_whole(claude):
    message = claude.messages.create(**ask(system="Be brief."))
    assert message.id.startswith("msg_") and message.type == "message" and message.role == "assistant"
    assert message.model == MODEL
    assert message.stop_reason == "end_turn" and message.stop_sequence is None
    assert message.content[0].type == "text" and "Salam, ঢাকা 🌦" in message.content[0].text
    assert message.usage.input_tokens > 0 and message.usage.output_tokens > 0


def test_headers_carry_a_request_id(claude):
    raw = claude.messages.with_raw_response.create(**ask())
    assert raw.headers["request-id"] == raw.request_id == raw.parse()._request_id


def test_a_bearer_token_will_do(server):
    import anthropic

    with anthropic.Anthropic(auth_token=server.key, base_url=server.url, max_retries=0) as client:
        assert client.messages.create(**ask()).content


def test_limits_and_stop_sequences(claude):
    cut = claude.messages.create(**ask(max_tokens=5))
    assert cut.stop_reason == "max_tokens" and cut.usage.output_tokens <= 5
    stopped = claude.messages.create(**ask(stop_sequences=["demo model"]))
    assert stopped.stop_reason == "stop_sequence" and stopped.stop_sequence == "demo model"


def test_a_raw_stream_has_its_events_in_order(claude):
    events = list(claude.messages.create(**ask(stream=True)))
    kinds = [event.type for event in events if event.type != "ping"]
    assert list(dict.fromkeys(kinds)) == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert events[0].message.model == MODEL and events[0].message.usage.input_tokens > 0
    delta = next(event for event in events if event.type == "message_delta")
    assert delta.delta.stop_reason == "end_turn" and delta.usage.output_tokens > 1


def test_the_stream_helper_puts_a_message_together(claude):
    with claude.messages.stream(**ask()) as stream:
        text = "".join(stream.text_stream)
        message = stream.get_final_message()
    assert "Salam, ঢাকা 🌦" in text and message.content[0].text == text
    assert message.stop_reason == "end_turn"


def test_a_tool_is_used_and_its_result_read(claude):
    used = claude.messages.create(**ask(tools=[WEATHER], tool_choice={"type": "any"}))
    assert used.stop_reason == "tool_use"
    block = used.content[0]
    assert block.type == "tool_use" and block.name == "get_weather" and block.input["days"] >= 2
    messages = MESSAGES + [
        {"role": "assistant", "content": used.content},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": block.id, "content": "31 degrees"}]},
    ]
    answered = claude.messages.create(**ask(messages=messages, tools=[WEATHER]))
    assert answered.stop_reason == "end_turn" and "31 degrees" in answered.content[0].text


def test_tools_are_used_in_parallel_and_streamed(claude):
    messages = [{"role": "user", "content": "The weather and the traffic?"}]
    tools = [WEATHER, {**WEATHER, "name": "get_traffic"}]
    with claude.messages.stream(**ask(messages=messages, tools=tools)) as stream:
        parts = [event.partial_json for event in stream if event.type == "input_json"]
        blocks = stream.get_final_message().content
    assert [block.name for block in blocks] == ["get_weather", "get_traffic"]
    assert all(block.input["city"] for block in blocks) and len(parts) >= 2


def test_structured_output_is_parsed(claude):
    message = claude.messages.parse(**ask(output_format=Trip))
    assert isinstance(message.parsed_output, Trip)


def test_tokens_are_counted_as_they_are_billed(claude):
    counted = claude.messages.count_tokens(model=MODEL, messages=MESSAGES, system="Be brief.", tools=[WEATHER])
    billed = claude.messages.create(**ask(system="Be brief.", tools=[WEATHER]))
    assert counted.input_tokens == billed.usage.input_tokens


def test_betas_and_large_images_pass(claude):
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "A" * 1_500_000}}
    messages = [{"role": "user", "content": [image, {"type": "text", "text": "What is this?"}]}]
    message = claude.beta.messages.create(**ask(messages=messages, betas=["context-1m-2025-08-07"]))
    assert "What is this?" in message.content[0].text


def test_models_are_listed_and_retrieved(claude, server):
    models = list(claude.models.list())
    assert models and all(model.type == "model" and model.display_name and model.created_at for model in models)
    assert claude.models.retrieve(models[0].id).id == models[0].id
    if server.is_gateway:
        assert MODEL in {model.id for model in models}


@pytest.mark.anyio
async def test_the_async_client_answers_and_streams(async_claude):
    message = await async_claude.messages.create(**ask())
    async with async_claude.messages.stream(**ask()) as stream:
        assert "".join([text async for text in stream.text_stream]) == message.content[0].text
    assert (await async_claude.messages.count_tokens(model=MODEL, messages=MESSAGES)).input_tokens > 0
    assert [model async for model in async_claude.models.list()]
