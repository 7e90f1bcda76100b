import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.executor.backends import open_backend
from actors.executor.backends.roles import named_role, role_of
from tests.fakes.raw import RawServer


@pytest.mark.parametrize(
    ("card", "role"),
    [
        ({"type": "chat"}, "text"),
        ({"type": "rerank"}, "other"),
        ({"type": "audio"}, "other"),
        ({"type": "moderation"}, "other"),
        ({"type": "image"}, "image"),
        ({"type": "embedding"}, "embedding"),
        ({"object": "model", "type": "model"}, None),
        ({"model_type": "LLM"}, "text"),
        ({"pipeline_tag": "text-generation"}, "text"),
        ({"task": "automatic-speech-recognition"}, "other"),
        ({"mode": "audio_transcription"}, "other"),
        ({"capabilities": {"completion_chat": True, "vision": False}}, "text"),
        ({"capabilities": {"completion_chat": False, "audio": True}}, "other"),
        ({"supports_chat": False}, "other"),
        ({"capabilities": ["completion", "tools"]}, "text"),
        ({"capabilities": ["embedding"]}, "embedding"),
        ({"architecture": {"output_modalities": ["text"], "input_modalities": ["image", "text"]}}, "text"),
        ({"architecture": {"output_modalities": ["text"], "input_modalities": ["audio"]}}, "other"),
        ({"architecture": {"modality": "text->audio"}}, "other"),
        ({"endpoints": ["rerank"]}, "other"),
        ({"supported_endpoints": ["/v1/chat/completions"]}, "text"),
        ({"capabilities": {"type": "embeddings", "family": "text-embedding-3-small"}}, "embedding"),
        ({"capabilities": {"type": "chat", "supports": {"tool_calls": True}}}, "text"),
        ({"type": "upscale"}, "other"),
        ({"reported_type": "text-to-image"}, "image"),
        ({"reported_type": "text-to-speech"}, "other"),
        ({"pipeline_tag": "fill-mask"}, "other"),
        ({"pipeline_tag": "image-text-to-text"}, "text"),
        ({"task": "text-to-video"}, "other"),
        ({"model_ability": ["generate", "chat"]}, "text"),
        ({"supported_output_modalities": ["embeddings"], "supported_input_modalities": ["text"]}, "embedding"),
        ({"architecture": {"modality": "text->embeddings", "output_modalities": ["embeddings"]}}, "embedding"),
        ({"id": "x", "owned_by": "y", "active": True}, None),
    ],
)
def test_the_server_s_own_word(card: dict[str, Any], role: str | None) -> None:
    assert role_of(card) == role


OTHERS = """cartesia/sonic-2 Qwen/Qwen3-TTS-12Hz nvidia/llama-3.2-nv-rerankqa-1b-v2 RLHFlow/ArmoRM-Llama3-8B-v0.1
    nvidia/Llama-3.1-Nemotron-70B-Reward nvidia/llama-3.1-nemoguard-8b-content-safety music-1.5 facebook/musicgen-large
    stabilityai/stable-audio-open-1.0 2noise/ChatTTS FunAudioLLM/CosyVoice2-0.5B SWivid/F5-TTS silero-vad mistral-ocr-latest
    rhasspy/piper-voices minimax/hailuo-02 lightricks/ltx-video tencent/HunyuanVideo tencent/Hunyuan3D-2 lyria-002
    eleven_multilingual_v2 elevenlabs/eleven_turbo_v2_5 gpt-4o-realtime-preview gpt-audio facebook/sam2-hiera-large
    ultralytics/yolo11 nari-labs/Dia-1.6B microsoft/VibeVoice-1.5B
    Helsinki-NLP/opus-mt-en-de ResembleAI/chatterbox Wan-AI/Wan2.1-I2V-14B"""
EMBEDDERS = """jinaai/jina-clip-v2 openai/clip-vit-large-patch14 google/siglip-so400m sentence-t5-xxl jina-colbert-v2
    hkunlp/instructor-xl paraphrase-multilingual-MiniLM-L12-v2 Alibaba-NLP/gte-Qwen2-7B-instruct bert-base-uncased
    FacebookAI/xlm-roberta-base gemini-embedding-001 e5:latest"""
PAINTERS = """recraft-v3 ideogram/ideogram-v3 imagen-4.0-generate-001 Kwai-Kolors/Kolors cogview-4-250304
    playgroundai/playground-v2.5 tongyi-mai/z-image-turbo HiDream-ai/HiDream-I1-Full dreamshaper-8-lcm sd3.5-large sd15
    black-forest-labs/FLUX.2-dev tencent/HunyuanImage-3.0"""
WRITERS = """mistralai/Voxtral-Small-24B-2507 microsoft/phi-4-multimodal-instruct nvidia/nemotron-nano-9b-v2 sonar-pro
    qwen3-vl-235b-a22b moonshotai/Kimi-K2 imagine-rp-12b classified-llama-7b sonicmind-7b kolorsmith-chat clipper-3b-chat
    musician-llama-8b robert-7b google/gemma-3n-e4b-it ai21/jamba-large-1.7 command-a-vision qwen2-audio-7b-instruct"""


@pytest.mark.parametrize(
    ("model", "role"),
    [
        ("canopylabs/orpheus-v1-english", "other"),
        ("meta-llama/llama-prompt-guard-2-22m", "other"),
        ("openai/gpt-oss-20b", None),
        ("whisper-large-v3", "other"),
        ("distil-whisper-large-v3-en", "other"),
        ("playai-tts", "other"),
        ("tts-1-hd", "other"),
        ("meta-llama/Llama-Guard-4-12B", "other"),
        ("shieldgemma:9b", "other"),
        ("omni-moderation-latest", "other"),
        ("BAAI/bge-reranker-v2-m3", "other"),
        ("jina-reranker-v2", "other"),
        ("hexgrad/Kokoro-82M", "other"),
        ("nomic-embed-text", "embedding"),
        ("text-embedding-bge-m3", "embedding"),
        ("bge-m3:latest", "embedding"),
        ("intfloat/multilingual-e5-large", "embedding"),
        ("stabilityai/sdxl-turbo", "image"),
        ("black-forest-labs/FLUX.1-schnell", "image"),
        ("llama3.1:8b", None),
        ("qwen2.5-coder:7b", None),
        ("mistral-small-latest", None),
        ("deepseek-r1:70b", None),
        ("gemma-3-27b-it", None),
        ("/models/voice/Qwen3-8B-Q4_K_M.gguf", None),
        ("claude-haiku-5-5", None),
        ("gpt-4o", None),
        ("command-r-plus", None),
        # A part of a word is not the word.
        ("e500html", None),
        ("invoice-extractor-3b", None),
        ("speechless-llama2-13b", None),
        ("vanguard-7b", None),
        ("embedded-coder-7b", None),
        ("soraya-8b", None),
        ("veolia-chat", None),
        ("microsoft/speecht5_tts", "other"),
        ("resemble/voice-clone-1", "other"),
        ("allenai/wildguard", "other"),
        ("ibm/granite-guardian-3.1-8b", "other"),
        ("openai/gpt-oss-safeguard-20b", "other"),
        ("sora-2-pro", "other"),
        ("wan2.2-t2v-a14b", "other"),
        ("embeddinggemma:300m", "embedding"),
        *((name, "other") for name in OTHERS.split()),
        *((name, "embedding") for name in EMBEDDERS.split()),
        *((name, "image") for name in PAINTERS.split()),
        *((name, None) for name in WRITERS.split()),
    ],
)
def test_the_name_where_the_server_says_nothing(model: str, role: str | None) -> None:
    assert named_role(model) == role


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["type", "capabilities", "architecture", "output_modalities", "modality", "endpoints", "chat"]
            ),
            inner,
        )
    ),
    max_leaves=8,
)


@given(
    st.dictionaries(st.sampled_from(["type", "capabilities", "architecture", "endpoints", "output_modalities"]), JSON)
)
def test_any_card_has_a_role_or_none(card: dict[str, Any]) -> None:
    assert role_of(card) in (None, "text", "embedding", "image", "other")


async def texts_of(*cards: dict[str, Any], refusal: bytes = b"{}", status: int = 200) -> tuple[list[str], list[str]]:
    """The text models that are offered for a list, and what was asked for."""
    async with RawServer([refusal], "application/json") as server:
        server.status = status
        server.listed = json.dumps({"data": cards}).encode()
        backend = open_backend("openai", server.url, api_key=None, now=lambda: 0.0)
        try:
            offers = [offer.model for offer in await backend.discover() if "text" in offer.capabilities]
            assert [offer.model for offer in await backend.discover() if "text" in offer.capabilities] == offers
        finally:
            await backend.close()
        return offers, [path for path in server.paths if path.startswith("POST")]


def test_only_models_that_chat_are_offered_for_chat(run) -> None:
    """Case 25. Several models of a server of one's own are not asked for: each would be loaded."""
    names = [
        "canopylabs/orpheus-v1-english",
        "meta-llama/llama-prompt-guard-2-22m",
        "openai/gpt-oss-20b",
        "whisper-large-v3",
    ]

    async def main() -> None:
        assert await texts_of(*[{"id": name} for name in names]) == (["openai/gpt-oss-20b"], [])
        assert await texts_of({"id": "x", "type": "audio"}, {"id": "guardian-of-tales", "type": "chat"}) == (
            ["guardian-of-tales"],
            [],
        )

    run(main())


@pytest.mark.parametrize(
    ("said", "status", "chats"),
    [
        ("The model `x` does not support chat completions", 400, False),
        ("This server does not support completions. Start it without `--embeddings`", 501, False),
        ("The model does not support Chat Completions API", 400, False),
        ("x is not a chat model", 404, False),
        ("Chat completions are not supported for this model", 400, False),
        ("messages: must hold at least one", 400, True),
        ("List should have at least 1 item after validation, not 0", 422, True),
        ("slow down", 429, True),
    ],
)
def test_a_chat_without_messages_tells_whether_a_model_chats(run, said: str, status: int, chats: bool) -> None:
    async def main() -> None:
        refusal = json.dumps({"error": {"message": said, "type": "invalid_request_error"}}).encode()
        offers, asked = await texts_of({"id": "x"}, refusal=refusal, status=status)
        assert (offers, asked) == (["x"] if chats else [], ["POST /v1/chat/completions"])

    run(main())
