"""The Responses API by OpenAI's SDK."""

import json

import pytest
from pydantic import BaseModel

WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather of a city",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
}


class Trip(BaseModel):
    city: str
    days: int


def test_an_answer_is_whole(oai):
    response = oai.responses.create(
        model="gpt-5", input="Salam, ঢাকা", instructions="Be brief.", metadata={"a": "b"}
    )
    assert response.object == "response" and response.status == "completed"
    assert response.model == "gpt-5" and response.metadata == {"a": "b"}
    assert response.instructions == "Be brief."
    assert "Salam, ঢাকা" in response.output_text
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens
    assert response.error is None and response.incomplete_details is None


def test_headers_carry_a_request_id(oai):
    raw = oai.responses.with_raw_response.create(model="gpt-5", input="hi")
    assert raw.headers["x-request-id"] == raw.parse()._request_id


def test_a_raw_stream_has_its_events_in_order(oai):
    events = list(oai.responses.create(model="gpt-5", input="Salam", stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = list(dict.fromkeys(event.type for event in events))
    assert kinds == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert events[0].response.status == "in_progress"
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert "Salam" in text and events[-1].response.output_text == text
    assert events[-1].response.model == "gpt-5"


def test_the_stream_helper_puts_a_response_together(oai):
    with oai.responses.stream(model="gpt-5", input="Salam") as stream:
        kinds = {event.type for event in stream}
        response = stream.get_final_response()
    assert "response.output_text.delta" in kinds
    assert response.status == "completed" and "Salam" in response.output_text


def test_a_function_is_called_and_its_output_read(oai):
    items = [{"role": "user", "content": "How is the weather?"}]
    called = oai.responses.create(model="gpt-5", input=items, tools=[WEATHER], tool_choice="required")
    call = called.output[0]
    assert call.type == "function_call" and call.name == "get_weather"
    assert set(json.loads(call.arguments)) == {"city"}
    items += [call, {"type": "function_call_output", "call_id": call.call_id, "output": "31 degrees"}]
    answered = oai.responses.create(model="gpt-5", input=items, tools=[WEATHER])
    assert "31 degrees" in answered.output_text


def test_a_function_call_streams_its_arguments(oai):
    with oai.responses.stream(model="gpt-5", input="hi", tools=[WEATHER], tool_choice="required") as stream:
        events = list(stream)
    deltas = "".join(event.delta for event in events if event.type == "response.function_call_arguments.delta")
    done = next(event for event in events if event.type == "response.function_call_arguments.done")
    assert deltas == done.arguments and json.loads(deltas)


def test_structured_output_is_parsed(oai):
    parsed = oai.responses.parse(model="gpt-5", input="Plan a trip", text_format=Trip).output_parsed
    assert isinstance(parsed, Trip)


def test_a_limit_leaves_it_incomplete(oai):
    response = oai.responses.create(model="gpt-5", input="hi", max_output_tokens=4)
    assert response.status == "incomplete" and response.incomplete_details.reason == "max_output_tokens"
    assert response.usage.output_tokens <= 4


@pytest.mark.anyio
async def test_the_async_client_answers_and_streams(async_oai):
    response = await async_oai.responses.create(model="gpt-5", input="Salam")
    async with async_oai.responses.stream(model="gpt-5", input="Salam") as stream:
        async for _ in stream:
            pass
        assert (await stream.get_final_response()).output_text == response.output_text
