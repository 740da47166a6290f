"""llama.cpp through its own low-level interface: a model, a context, one batch per decode call."""

import ctypes
import time

import llama_cpp as lib
import numpy as np

_quiet = lib.llama_log_callback(lambda level, text, data: None)
lib.llama_log_set(_quiet, ctypes.c_void_p(0))
lib.llama_backend_init()

FLASH = {"off": 0, "on": 1}


class Model:
    """Loaded once; contexts differ in their settings."""

    def __init__(self, path: str):
        self.model = lib.llama_model_load_from_file(str(path).encode(), lib.llama_model_default_params())
        if not self.model:
            raise SystemExit(f"llama.cpp does not load {path}")
        self.vocab = lib.llama_model_get_vocab(self.model)
        self.vocabulary = lib.llama_vocab_n_tokens(self.vocab)

    def tokens(self, text: str) -> list[int]:
        """Of a rendered prompt: control tokens are looked for, none is added."""
        raw = text.encode()
        found = (lib.llama_token * (len(raw) + 8))()
        count = lib.llama_tokenize(self.vocab, raw, len(raw), found, len(found), False, True)
        return list(found[:count])

    def is_end(self, token: int) -> bool:
        return lib.llama_vocab_is_eog(self.vocab, token)


class Context:
    def __init__(self, model: Model, threads: int, tokens: int, sequences: int = 1, flash: str = "off", f32: bool = False):
        """`tokens`: a sequence's longest. `f32`: KV in f32 instead of f16. Each sequence has KV memory of its own."""
        params = lib.llama_context_default_params()
        params.n_ctx = tokens * sequences
        params.n_batch = params.n_ubatch = 512
        params.n_seq_max = sequences
        params.n_threads = params.n_threads_batch = threads
        params.flash_attn_type = FLASH[flash]
        params.kv_unified = False
        if f32:
            params.type_k = params.type_v = lib.GGML_TYPE_F32
        self.context = lib.llama_init_from_model(model.model, params)
        if not self.context:
            raise SystemExit("llama.cpp makes no context")
        self.vocabulary, self.batch = model.vocabulary, lib.llama_batch_init(512, 0, 1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        lib.llama_batch_free(self.batch)
        lib.llama_free(self.context)

    def clear(self):
        lib.llama_memory_clear(lib.llama_get_memory(self.context), True)

    def decode(self, rows: list[tuple[int, int, int, bool]]):
        """One forward pass over rows of (token, position, sequence, logits wanted)."""
        batch = self.batch
        for at, (token, position, sequence, wanted) in enumerate(rows):
            batch.token[at], batch.pos[at], batch.n_seq_id[at] = token, position, 1
            batch.seq_id[at][0], batch.logits[at] = sequence, int(wanted)
        batch.n_tokens = len(rows)
        status = lib.llama_decode(self.context, batch)
        if status != 0:
            raise SystemExit(f"llama_decode: {status}")

    def prefill(self, tokens: list[int], sequence: int = 0):
        self.decode([(t, at, sequence, at + 1 == len(tokens)) for at, t in enumerate(tokens)])

    def logits(self, row: int) -> np.ndarray:
        """Of the `row`-th row of the last call. A view: copy it to keep it."""
        return np.ctypeslib.as_array(lib.llama_get_logits_ith(self.context, row), shape=(self.vocabulary,))


def prompt(count: int, seed: int = 0) -> list[int]:
    """The tokens that `reprise bench engine` takes."""
    return [100 + (i * 7919 + seed * 104729) % 10_000 for i in range(count)]


def speeds(model: Model, threads: int, flash: str, batch: int, prompt_tokens: int, generate: int) -> dict:
    """Prefill, then decode of given tokens, of `batch` sequences at once; after one unmeasured pass. Tokens a second, of all
    sequences together. Logits of every decoded row are asked for, as a sampler needs them."""
    with Context(model, threads, prompt_tokens + generate, batch, flash) as context:
        context.prefill(prompt(prompt_tokens))
        context.decode([(100, prompt_tokens, 0, True)])
        context.clear()
        begun = time.perf_counter()
        for sequence in range(batch):
            context.prefill(prompt(prompt_tokens, sequence), sequence)
        context.logits(-1)
        prefill = time.perf_counter() - begun
        begun = time.perf_counter()
        for step in range(generate):
            token = 100 + step % 9_900
            context.decode([(token + s, prompt_tokens + step, s, True) for s in range(batch)])
            context.logits(-1)
        decode = time.perf_counter() - begun
    return {
        "prefill_tokens_per_second": batch * prompt_tokens / prefill,
        "decode_tokens_per_second": batch * generate / decode,
    }
