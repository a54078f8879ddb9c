"""Chat completions and legacy completions by OpenAI's SDK."""

import asyncio
import json

import openai
import pytest
from pydantic import BaseModel

MESSAGES = [{"role": "user", "content": "Salam, ঢাকা 🌦"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "unit": {"type": "string", "enum": ["c", "f"]}},
            "required": ["city", "unit"],
            "additionalProperties": False,
        },
    },
}


class Trip(BaseModel):
    city: str
    days: int
    stops: list[str]


def test_an_answer_is_whole(oai):
    completion = oai.chat.completions.create(model="priyo-llama", messages=MESSAGES)
    assert completion.object == "chat.completion"
    assert completion.model == "priyo-llama"
    choice = completion.choices[0]
    assert choice.finish_reason == "stop"
    assert choice.message.role == "assistant"
    assert "Salam, ঢাকা 🌦" in choice.message.content
    usage = completion.usage
    assert 0 < usage.prompt_tokens and usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


def test_headers_carry_a_request_id(oai):
    raw = oai.chat.completions.with_raw_response.create(model="priyo-qwen", messages=MESSAGES)
    assert raw.headers["x-request-id"] == raw.request_id == raw.parse()._request_id
    assert raw.headers["content-type"].startswith("application/json")
    again = oai.chat.completions.with_raw_response.create(model="priyo-qwen", messages=MESSAGES)
    assert again.request_id != raw.request_id


def test_a_request_id_of_the_client_is_kept(gateway, oai):
    raw = oai.chat.completions.with_raw_response.create(
        model="priyo-qwen", messages=MESSAGES, extra_headers={"x-request-id": "my-request-1"}
    )
    assert raw.request_id == "my-request-1"


def test_several_answers_and_a_limit(oai):
    completion = oai.chat.completions.create(model="priyo-llama", messages=MESSAGES, n=3, max_completion_tokens=5)
    assert [choice.index for choice in completion.choices] == [0, 1, 2]
    assert {choice.finish_reason for choice in completion.choices} == {"length"}
    assert completion.usage.completion_tokens <= 15


def test_a_raw_stream_has_its_chunks_in_order(oai):
    stream = oai.chat.completions.create(
        model="priyo-llama", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert len(chunks) > 5 and {chunk.model for chunk in chunks} == {"priyo-llama"}
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].choices == [] and chunks[-1].usage.total_tokens > 0
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1])
    assert "Salam, ঢাকা 🌦" in text


def test_without_stream_options_there_is_no_usage_chunk(oai):
    chunks = list(oai.chat.completions.create(model="priyo-llama", messages=MESSAGES, stream=True))
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)


def test_the_stream_helper_puts_an_answer_together(oai):
    with oai.chat.completions.stream(model="priyo-llama", messages=MESSAGES) as stream:
        kinds = [event.type for event in stream]
        completion = stream.get_final_completion()
    assert kinds.count("content.delta") > 3 and kinds[-1] == "content.done"
    assert "Salam" in completion.choices[0].message.content
    assert completion.choices[0].finish_reason == "stop"


def test_a_forced_tool_is_called_and_its_result_read(oai):
    messages = list(MESSAGES)
    called = oai.chat.completions.create(
        model="gpt-5",
        messages=messages,
        tools=[WEATHER],
        tool_choice={"type": "function", "function": {"name": "get_weather"}},
    )
    assert called.choices[0].finish_reason == "tool_calls"
    message = called.choices[0].message
    call = message.tool_calls[0]
    assert call.function.name == "get_weather"
    assert set(json.loads(call.function.arguments)) == {"city", "unit"}

    messages += [message, {"role": "tool", "tool_call_id": call.id, "content": "31 degrees, rain"}]
    answered = oai.chat.completions.create(model="gpt-5", messages=messages, tools=[WEATHER])
    assert "31 degrees, rain" in answered.choices[0].message.content


def test_tools_are_called_in_parallel_and_streamed(oai):
    other = json.loads(json.dumps(WEATHER).replace("get_weather", "get_traffic"))
    ask = [{"role": "user", "content": "The weather and the traffic in Dhaka?"}]
    with oai.chat.completions.stream(model="gpt-5", messages=ask, tools=[WEATHER, other]) as stream:
        done = [event for event in stream if event.type == "tool_calls.function.arguments.done"]
        calls = stream.get_final_completion().choices[0].message.tool_calls
    assert [call.function.name for call in calls] == ["get_weather", "get_traffic"]
    assert [event.name for event in done] == ["get_weather", "get_traffic"]
    assert all(call.function.parsed_arguments["unit"] == "c" for call in calls)


def test_structured_output_is_parsed(oai):
    completion = oai.chat.completions.parse(model="gpt-5", messages=MESSAGES, response_format=Trip)
    trip = completion.choices[0].message.parsed
    assert isinstance(trip, Trip) and trip.city and trip.stops


def test_structured_output_is_parsed_from_a_stream(oai):
    with oai.chat.completions.stream(model="gpt-5", messages=MESSAGES, response_format=Trip) as stream:
        assert isinstance(stream.get_final_completion().choices[0].message.parsed, Trip)


def test_structured_output_that_is_cut_is_said_so(oai):
    with pytest.raises(openai.LengthFinishReasonError):
        oai.chat.completions.parse(model="gpt-5", messages=MESSAGES, response_format=Trip, max_completion_tokens=2)


def test_json_mode_gives_json(oai):
    completion = oai.chat.completions.create(
        model="gpt-4o", messages=MESSAGES, response_format={"type": "json_object"}
    )
    assert isinstance(json.loads(completion.choices[0].message.content), dict)


def test_images_in_a_message_and_unknown_fields_pass(oai):
    content = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 1_500_000}},
    ]
    completion = oai.chat.completions.create(
        model="gpt-4o",
        messages=[{"role": "user", "content": content}],
        extra_body={"x_unknown": {"model": "not-this-one"}},
        extra_headers={"x-stainless-extra": "1"},
    )
    assert "What is this?" in completion.choices[0].message.content


@pytest.mark.anyio
async def test_the_async_client_answers_and_streams(async_oai):
    completion = await async_oai.chat.completions.create(model="priyo-llama", messages=MESSAGES)
    assert "Salam" in completion.choices[0].message.content
    stream = await async_oai.chat.completions.create(model="priyo-llama", messages=MESSAGES, stream=True)
    text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    assert text == completion.choices[0].message.content
    async with async_oai.chat.completions.stream(model="priyo-llama", messages=MESSAGES) as helper:
        assert (await helper.get_final_completion()).choices[0].message.content == text


@pytest.mark.anyio
async def test_streams_side_by_side_stay_apart(async_oai):
    async def ask(number):
        stream = await async_oai.chat.completions.create(
            model="priyo-llama", messages=[{"role": "user", "content": f"number {number}."}], stream=True
        )
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
        assert f'"number {number}."' in text

    await asyncio.gather(*(ask(number) for number in range(50)))


def test_a_stream_can_be_left_early(oai):
    with oai.chat.completions.create(model="priyo-llama", messages=MESSAGES, stream=True) as stream:
        next(iter(stream))
    assert oai.chat.completions.create(model="priyo-llama", messages=MESSAGES).choices


def test_completions_answer_each_prompt(oai):
    completion = oai.completions.create(model="gpt-3.5-turbo-instruct", prompt=["one", "two"], max_tokens=64)
    assert completion.object == "text_completion"
    assert [choice.index for choice in completion.choices] == [0, 1]
    assert "two" in completion.choices[1].text


def test_completions_stream_text(oai):
    stream = oai.completions.create(model="priyo-llama", prompt="Once upon a time", max_tokens=64, stream=True)
    chunks = list(stream)
    assert all(isinstance(chunk.choices[0].text, str) for chunk in chunks)
    assert "Once upon a time" in "".join(chunk.choices[0].text for chunk in chunks)
    assert chunks[-1].choices[0].finish_reason in ("stop", "length")
