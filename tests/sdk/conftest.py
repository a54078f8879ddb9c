"""One server for the whole run, and the SDKs' clients. No client retries, so that a fault is seen."""

import anthropic
import openai
import pytest

import server as server_module


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    server = server_module.start(tmp_path_factory.mktemp("server"))
    yield server
    server.stop()


@pytest.fixture
def gateway(server):
    """The server, if it is a gateway: the demo provider alone checks no key and knows every model."""
    if not server.is_gateway:
        pytest.skip("only the gateway does this")
    return server


@pytest.fixture
def anyio_backend():
    return "asyncio"


def openai_client(server, key=None):
    return openai.OpenAI(api_key=key or server.key, base_url=f"{server.url}/v1", max_retries=0, timeout=20)


def anthropic_client(server, key=None):
    return anthropic.Anthropic(api_key=key or server.key, base_url=server.url, max_retries=0, timeout=20)


@pytest.fixture
def oai(server):
    with openai_client(server) as client:
        yield client


@pytest.fixture
def claude(server):
    with anthropic_client(server) as client:
        yield client


@pytest.fixture
async def async_oai(server):
    async with openai.AsyncOpenAI(
        api_key=server.key, base_url=f"{server.url}/v1", max_retries=0, timeout=20
    ) as client:
        yield client


@pytest.fixture
async def async_claude(server):
    async with anthropic.AsyncAnthropic(
        api_key=server.key, base_url=server.url, max_retries=0, timeout=20
    ) as client:
        yield client
