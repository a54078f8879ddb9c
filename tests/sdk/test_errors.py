"""Every refusal is the SDK's own typed error, with the code and the request id in its place."""

import anthropic
import openai
import pytest
from conftest import anthropic_client, openai_client

MESSAGES = [{"role": "user", "content": "hi"}]
#: More than any socket buffer on the way: the refusal comes while the client still sends.
LARGE = [{"role": "user", "content": "x" * 4_000_000}]


@pytest.mark.parametrize("messages", [MESSAGES, LARGE], ids=["small", "4 MB"])
def test_openai_a_wrong_key(gateway, messages):
    with openai_client(gateway, "sk-wrong-0123456789abcdef") as client:
        with pytest.raises(openai.AuthenticationError) as caught:
            client.chat.completions.create(model="priyo-llama", messages=messages)
    assert caught.value.code == "invalid_api_key" and caught.value.type == "invalid_request_error"
    assert caught.value.request_id


def test_openai_a_wrong_key_on_an_upload(gateway):
    with openai_client(gateway, "sk-wrong-0123456789abcdef") as client:
        with pytest.raises(openai.AuthenticationError):
            client.audio.transcriptions.create(model="whisper-1", file=("a.wav", bytes(2_000_000)))


def test_openai_an_unknown_model(gateway, oai):
    with pytest.raises(openai.NotFoundError) as caught:
        oai.chat.completions.create(model="no-such-model", messages=MESSAGES)
    assert caught.value.code == "model_not_found" and caught.value.param == "model"
    with pytest.raises(openai.NotFoundError):
        oai.responses.create(model="no-such-model", input="hi", stream=True)


def test_openai_an_unknown_model_is_not_retrieved(oai):
    with pytest.raises(openai.NotFoundError):
        oai.models.retrieve("no-such-model")


def test_openai_a_model_beyond_the_tier(gateway):
    with openai_client(gateway, gateway.limited_key) as client:
        assert client.chat.completions.create(model="priyo-llama", messages=MESSAGES).choices
        with pytest.raises(openai.PermissionDeniedError) as caught:
            client.chat.completions.create(model="gpt-5", messages=MESSAGES)
    assert caught.value.code == "model_not_allowed"


def test_openai_a_bad_request(oai):
    with pytest.raises(openai.BadRequestError) as caught:
        oai.chat.completions.create(model="priyo-llama", messages=[])
    assert caught.value.request_id and caught.value.type == "invalid_request_error"
    with pytest.raises(openai.BadRequestError):
        oai.post("/chat/completions", cast_to=object, body={"messages": MESSAGES})
    with pytest.raises(openai.BadRequestError):
        oai.embeddings.create(model="priyo-embed", input="")


def test_openai_a_bad_stream_request_is_no_stream(oai):
    with pytest.raises(openai.BadRequestError):
        oai.chat.completions.create(model="priyo-llama", messages=[], stream=True)


def test_openai_an_unknown_path(oai):
    with pytest.raises(openai.NotFoundError):
        oai.post("/no/such/path", cast_to=object, body={})


@pytest.mark.anyio
async def test_openai_async_errors(gateway, async_oai):
    with pytest.raises(openai.NotFoundError):
        await async_oai.chat.completions.create(model="no-such-model", messages=MESSAGES)


def anthropic_error(caught):
    """The error inside Anthropic's envelope."""
    body = caught.value.body
    assert body["type"] == "error" and body["request_id"] and caught.value.request_id
    return body["error"]


@pytest.mark.parametrize("messages", [MESSAGES, LARGE], ids=["small", "4 MB"])
def test_anthropic_a_wrong_key(gateway, messages):
    with anthropic_client(gateway, "sk-wrong-0123456789abcdef") as client:
        with pytest.raises(anthropic.AuthenticationError) as caught:
            client.messages.create(model="claude-sonnet-4-6", max_tokens=9, messages=messages)
    assert anthropic_error(caught)["type"] == "authentication_error"


def test_anthropic_an_unknown_model(gateway, claude):
    with pytest.raises(anthropic.NotFoundError) as caught:
        claude.messages.create(model="no-such-model", max_tokens=9, messages=MESSAGES)
    assert anthropic_error(caught)["type"] == "not_found_error"
    assert caught.value.body["request_id"] == caught.value.request_id


def test_anthropic_a_model_beyond_the_tier(gateway):
    with anthropic_client(gateway, gateway.limited_key) as client:
        with pytest.raises(anthropic.PermissionDeniedError) as caught:
            client.messages.create(model="claude-sonnet-4-6", max_tokens=9, messages=MESSAGES)
    assert anthropic_error(caught)["type"] == "permission_error"


def test_anthropic_a_bad_request(claude):
    for bad in ({"max_tokens": 0}, {"messages": []}, {"extra_body": {"temperature": 7}}):
        with pytest.raises(anthropic.BadRequestError) as caught:
            claude.messages.create(**{"model": "claude-sonnet-4-6", "max_tokens": 9, "messages": MESSAGES, **bad})
        assert anthropic_error(caught)["type"] == "invalid_request_error"


@pytest.mark.anyio
async def test_anthropic_async_errors(gateway, async_claude):
    with pytest.raises(anthropic.NotFoundError):
        await async_claude.messages.create(model="no-such-model", max_tokens=9, messages=MESSAGES)
