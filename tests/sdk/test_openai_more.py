"""Embeddings, moderations, models, rerank and realtime by OpenAI's SDK."""

import math

import pytest


def length(vector):
    return math.sqrt(sum(x * x for x in vector))


def test_embeddings_are_the_same_in_both_encodings(oai):
    # Without encoding_format the SDK asks for base64 and decodes it.
    coded = oai.embeddings.create(model="priyo-embed", input=["এক", "two"], dimensions=256)
    plain = oai.embeddings.create(model="priyo-embed", input=["এক", "two"], dimensions=256, encoding_format="float")
    assert [len(entry.embedding) for entry in coded.data] == [256, 256]
    assert coded.data[0].embedding == pytest.approx(plain.data[0].embedding)
    assert coded.data[0].embedding != coded.data[1].embedding
    assert length(coded.data[1].embedding) == pytest.approx(1, abs=1e-4)
    assert coded.usage.prompt_tokens == coded.usage.total_tokens > 0
    assert coded.model == "priyo-embed"


def test_one_embedding_has_the_default_size(oai):
    assert len(oai.embeddings.create(model="text-embedding-3-small", input="text").data[0].embedding) == 1536


def test_many_embeddings_keep_their_order(oai):
    texts = [f"text {number}" for number in range(200)]
    entries = oai.embeddings.create(model="priyo-embed", input=texts, dimensions=8).data
    assert [entry.index for entry in entries] == list(range(200))


def test_moderations_have_every_category(oai):
    moderation = oai.moderations.create(input=["a sunny day", "I will kill you"])
    calm, angry = moderation.results
    assert not calm.flagged and angry.flagged and angry.categories.violence
    assert 0 <= calm.category_scores.self_harm_intent < 0.5 < angry.category_scores.violence <= 1
    assert moderation.model == "omni-moderation-latest"


def test_models_are_listed_and_retrieved(oai, server):
    models = list(oai.models.list())
    assert models and all(model.object == "model" and model.created and model.owned_by for model in models)
    assert oai.models.retrieve(models[0].id) == models[0]
    if server.is_gateway:
        assert {"priyo-llama", "priyo-embed", "claude-sonnet-4-6", "gpt-5"} <= {model.id for model in models}


def test_models_are_those_the_key_may_call(gateway):
    from conftest import openai_client

    with openai_client(gateway, gateway.limited_key) as client:
        names = {model.id for model in client.models.list()}
    assert names and all(name.startswith("priyo-") for name in names)


def test_rerank_by_a_plain_post(oai):
    answer = oai.post(
        "/rerank",
        cast_to=object,
        body={
            "model": "rerank-english-v3.0",
            "query": "best mango variety in Bangladesh",
            "documents": ["The Padma river.", "A mango variety of Bangladesh."],
            "top_n": 1,
            "return_documents": True,
        },
    )
    assert answer["model"] == "rerank-english-v3.0"
    assert [result["index"] for result in answer["results"]] == [1]
    assert 0 < answer["results"][0]["relevance_score"] <= 1
    assert answer["results"][0]["document"]["text"].startswith("A mango")


def test_realtime_talks(oai):
    with oai.realtime.connect(model="gpt-realtime") as connection:
        assert connection.recv().type == "session.created"
        connection.session.update(session={"type": "realtime", "instructions": "Be brief."})
        assert connection.recv().session.instructions == "Be brief."
        connection.conversation.item.create(
            item={"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Salam"}]}
        )
        connection.response.create()
        text = ""
        for event in connection:
            if event.type == "response.output_text.delta":
                text += event.delta
            if event.type == "response.done":
                break
    assert "Salam" in text
    assert event.response.status == "completed" and event.response.usage.output_tokens > 0


@pytest.mark.anyio
async def test_the_async_client_does_it_too(async_oai):
    embedding = await async_oai.embeddings.create(model="priyo-embed", input="text", dimensions=8)
    assert len(embedding.data[0].embedding) == 8
    assert (await async_oai.moderations.create(input="text")).results
    assert [model async for model in async_oai.models.list()]
    async with async_oai.realtime.connect(model="gpt-realtime") as connection:
        assert (await connection.recv()).type == "session.created"
