// Causal grouped-query attention over paged KV in f16.
//
// A warp has 16 rows: the query heads of one KV head, of one token (decode) or of several (prefill). The order of dimensions within a
// product and of tokens within a block is chosen so that what a lane loads in 16 bytes is what the tensor cores want of it.
//
// A context is cut into chunks of 64 tokens, always at the same places. A chunk gives, for a row, its largest score, the sum of weights and the
// weighted sum of values; chunks are merged in order. Decode does chunks side by side and merges after, prefill one after the other: the
// arithmetic of a row is the same, so its result does not depend on how its prompt was cut.
//
// KV of a layer: keys [block][kv head][32 tokens][head dim], values [block][kv head][head dim][32 tokens].

#define CHUNK 64
#define BLOCK 32

struct Attention {
    // [tokens][heads][head dim] f16, scaled by log2(e) / sqrt(head dim).
    const u16* q;
    const u16* keys;
    const u16* values;
    // [tokens], -1: no token.
    const int* positions;
    // Of each token: where its table begins in `tables`.
    const u32* table_of;
    const u32* tables;
    // {first token, tokens, 0, 0}, tokens of one sequence: prefill.
    const uint4* tiles;
    // Decode: [token][head][chunk][head dim], and {largest, sum} of each.
    float* parts;
    float2* part_sums;
    // [tokens][heads][head dim] bf16.
    u16* out;
    int heads, kv_heads, chunks;
};

template <int HD>
struct Rows {
    uint4 low[HD / 32], high[HD / 32];
};

template <int HD>
struct State {
    float sum[HD / 8][4];
    float top[2], mass[2];
};

// Query head and token of a warp's row; false: the row is padding.
DEVICE bool row_of(int row, int group, int tokens, int& token, int& head) {
    token = row / group, head = row % group;
    return token < tokens;
}

template <int HD>
DEVICE void load_rows(const Attention& a, Rows<HD>& rows, int first, int tokens, int kv_head, int group, int r, int t) {
#pragma unroll
    for (int h = 0; h < 2; h++) {
        int token, head;
        bool real = row_of(r + h * 8, group, tokens, token, head);
        const u16* from = a.q + ((u64)(first + token) * a.heads + kv_head * group + head) * HD + t * 8;
#pragma unroll
        for (int d = 0; d < HD / 32; d++) {
            uint4 v = make_uint4(0, 0, 0, 0);
            if (real) v = *(const uint4*)(from + d * 32);
            if (h == 0) rows.low[d] = v;
            else rows.high[d] = v;
        }
    }
}

// What a lane loads of a block's keys or values.
template <int HD>
struct Loaded {
    uint4 at[HD / 8];
};

// Column c of tile j is token 8 (c / 2) + 2 j + c % 2.
template <int HD>
DEVICE void load_keys(const Attention& a, u64 base, int r, int t, Loaded<HD>& out) {
    const u16* from = a.keys + base + ((r >> 1) * 8 + (r & 1)) * HD + t * 8;
#pragma unroll
    for (int j = 0; j < 4; j++)
#pragma unroll
        for (int d = 0; d < HD / 32; d++) out.at[j * (HD / 32) + d] = __ldg((const uint4*)(from + j * 2 * HD + d * 32));
}

template <int HD>
DEVICE void load_values(const Attention& a, u64 base, int r, int t, Loaded<HD>& out) {
    const u16* from = a.values + base + r * BLOCK + t * 8;
#pragma unroll
    for (int n = 0; n < HD / 8; n++) out.at[n] = __ldg((const uint4*)(from + n * 8 * BLOCK));
}

template <int HD>
DEVICE void multiply_keys(const Rows<HD>& q, const Loaded<HD>& keys, float (&score)[4][4]) {
#pragma unroll
    for (int j = 0; j < 4; j++)
#pragma unroll
        for (int d = 0; d < HD / 32; d++) {
            uint4 k = keys.at[j * (HD / 32) + d];
            mma_f16(score[j], q.low[d].x, q.high[d].x, q.low[d].y, q.high[d].y, k.x, k.y);
            mma_f16(score[j], q.low[d].z, q.high[d].z, q.low[d].w, q.high[d].w, k.z, k.w);
        }
}

// A block's weights in f16, as the left operand; `left`: its tokens that were written.
struct Weights16 {
    u32 p[4][2], mask[4];

    DEVICE_MEMBER void pack(const float (&weight)[4][4], int left, int t) {
#pragma unroll
        for (int j = 0; j < 4; j++) {
            p[j][0] = pack_f16(weight[j][0], weight[j][1]);
            p[j][1] = pack_f16(weight[j][2], weight[j][3]);
            // What was never written may be no number, and 0 times it is none either.
            int token = t * 8 + 2 * j;
            mask[j] = token + 1 < left ? 0xffffffff : token < left ? 0xffff : 0;
        }
    }

    // Of eight dimensions of the values: half of the tokens, and the other half. Without MASKED all were written.
    template <bool MASKED>
    DEVICE_MEMBER void add_first(uint4 v, float (&sum)[4]) const {
        if (MASKED) v.x &= mask[0], v.y &= mask[1];
        mma_f16(sum, p[0][0], p[0][1], p[1][0], p[1][1], v.x, v.y);
    }

    template <bool MASKED>
    DEVICE_MEMBER void add_second(uint4 v, float (&sum)[4]) const {
        if (MASKED) v.z &= mask[2], v.w &= mask[3];
        mma_f16(sum, p[2][0], p[2][1], p[3][0], p[3][1], v.z, v.w);
    }

    // Their sums, of a row in all columns: the tensor cores' own, so that it does not depend on which lane has which token.
    DEVICE_MEMBER void add_mass(float (&mass)[4]) const {
        const u32 ONES = 0x3c003c00;
        mma_f16(mass, p[0][0], p[0][1], p[1][0], p[1][1], ONES, ONES);
        mma_f16(mass, p[2][0], p[2][1], p[3][0], p[3][1], ONES, ONES);
    }

    DEVICE_MEMBER void add(uint4 v, float (&sum)[4]) const {
        add_first<true>(v, sum);
        add_second<true>(v, sum);
    }
};

// Token of a block whose score lane t has as number i (0 or 1) of tile j.
DEVICE int token_of(int j, int t, int i) { return t * 8 + 2 * j + i; }

// A chunk's scores to weights: 2^(score - top). `seen`: tokens that rows r and r + 8 may see; without MASKED all.
template <bool MASKED, typename TOKEN>
DEVICE void weigh(float (&score)[2][4][4], const int (&seen)[2], int t, float (&top)[2], TOKEN token_of) {
    top[0] = top[1] = NEG_INF;
#pragma unroll
    for (int b = 0; b < 2; b++)
#pragma unroll
        for (int j = 0; j < 4; j++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                int token = b * BLOCK + token_of(j, t, i & 1);
                if (MASKED && token >= seen[i >> 1]) score[b][j][i] = NEG_INF;
                top[i >> 1] = fmaxf(top[i >> 1], score[b][j][i]);
            }
    float base[2];
#pragma unroll
    for (int h = 0; h < 2; h++) {
        top[h] = fmaxf(top[h], __shfl_xor_sync(0xffffffff, top[h], 1));
        top[h] = fmaxf(top[h], __shfl_xor_sync(0xffffffff, top[h], 2));
        base[h] = top[h] == NEG_INF ? 0.0f : top[h];
    }
#pragma unroll
    for (int b = 0; b < 2; b++)
#pragma unroll
        for (int j = 0; j < 4; j++)
#pragma unroll
            for (int i = 0; i < 4; i++) score[b][j][i] = exp2_fast(score[b][j][i] - base[i >> 1]);
}

// One chunk, of which the first `most` tokens are written and seen, at least 1.
template <int HD>
DEVICE void attend(const Attention& a, const Rows<HD>& q, const u32* table, int chunk, int most, int kv_head, int r, int t, State<HD>& out) {
    float score[2][4][4];
    const u64 size = (u64)HD * BLOCK;
    bool two = most > BLOCK;
    u64 base_0 = ((u64)table[chunk * 2] * a.kv_heads + kv_head) * size, base_1 = 0;
    if (two) base_1 = ((u64)table[chunk * 2 + 1] * a.kv_heads + kv_head) * size;
#pragma unroll
    for (int b = 0; b < 2; b++)
#pragma unroll
        for (int j = 0; j < 4; j++)
#pragma unroll
            for (int i = 0; i < 4; i++) score[b][j][i] = 0.0f;
    Loaded<HD> load_0, load_1;
    load_keys<HD>(a, base_0, r, t, load_0);
    if (two) load_keys<HD>(a, base_1, r, t, load_1);
    multiply_keys<HD>(q, load_0, score[0]);
    load_values<HD>(a, base_0, r, t, load_0);
    if (two) {
        multiply_keys<HD>(q, load_1, score[1]);
        load_values<HD>(a, base_1, r, t, load_1);
    }
    int seen[2] = {most, most};
    weigh<true>(score, seen, t, out.top, token_of);
    Weights16 p;
    float mass[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
    for (int n = 0; n < HD / 8; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) out.sum[n][i] = 0.0f;
    p.pack(score[0], most, t);
    p.add_mass(mass);
#pragma unroll
    for (int n = 0; n < HD / 8; n++) p.add(load_0.at[n], out.sum[n]);
    if (two) {
        p.pack(score[1], most - BLOCK, t);
        p.add_mass(mass);
#pragma unroll
        for (int n = 0; n < HD / 8; n++) p.add(load_1.at[n], out.sum[n]);
    }
    out.mass[0] = mass[0], out.mass[1] = mass[2];
}

// Factors of what was merged and of what comes.
DEVICE void merge_factors(float top, float next, float& merged, float& keep, float& take) {
    merged = fmaxf(top, next);
    float base = merged == NEG_INF ? 0.0f : merged;
    keep = exp2_fast(top - base);
    take = exp2_fast(next - base);
}

DEVICE float merge(float sum, float keep, float next, float take) {
    return __fmaf_rn(sum, keep, __fmul_rn(next, take));
}

// Grid: chunks / 4, KV heads, tokens. A warp has one chunk.
template <int HD>
DEVICE void decode(const Attention& a) {
    begin();
    int token = blockIdx.z, kv_head = blockIdx.y;
    int chunk = blockIdx.x * 4 + (threadIdx.x >> 5);
    int position = a.positions[token];
    int most = min(position + 1 - chunk * CHUNK, CHUNK);
    if (most <= 0) return;
    int lane = threadIdx.x & 31, t = lane & 3, r = lane >> 2;
    int group = a.heads / a.kv_heads;
    Rows<HD> q;
    load_rows<HD>(a, q, token, 1, kv_head, group, r, t);
    State<HD> state;
    attend<HD>(a, q, a.tables + a.table_of[token], chunk, most, kv_head, r, t, state);
#pragma unroll
    for (int h = 0; h < 2; h++) {
        int row = r + h * 8;
        if (row >= group) continue;
        u64 at = ((u64)token * a.heads + kv_head * group + row) * a.chunks + chunk;
        if (t == 0) a.part_sums[at] = make_float2(state.top[h], state.mass[h]);
#pragma unroll
        for (int n = 0; n < HD / 8; n++)
            *(float2*)(a.parts + at * HD + n * 8 + 2 * t) = make_float2(state.sum[n][2 * h], state.sum[n][2 * h + 1]);
    }
}

// Grid: heads, tokens; a thread for each dimension.
DEVICE void decode_merge(const Attention& a, int hd) {
    begin();
    int token = blockIdx.y, head = blockIdx.x, d = threadIdx.x;
    int position = a.positions[token];
    if (position < 0) return;
    int chunks = position / CHUNK + 1;
    u64 at = ((u64)token * a.heads + head) * a.chunks;
    float top = NEG_INF, mass = 0.0f, sum = 0.0f;
    for (int c = 0; c < chunks; c++) {
        float2 next = a.part_sums[at + c];
        float value = a.parts[(at + c) * hd + d];
        float merged, keep, take;
        merge_factors(top, next.x, merged, keep, take);
        sum = merge(sum, keep, value, take);
        mass = merge(mass, keep, next.y, take);
        top = merged;
    }
    a.out[((u64)token * a.heads + head) * hd + d] = f32_to_bf16(__fdiv_rn(sum, mass));
}

// Prefill: the warps of a block have rows that follow each other in one sequence, and read KV from shared memory, into which they copy it
// together, two chunks ahead.
#define PREFILL_WARPS 8
#define PREFILL_STAGES 3

// Where 16 bytes of a key lie: two rows whose units a warp reads together are in different banks.
template <int HD>
DEVICE int key_place(int token, int unit) {
    return token * HD * 2 + ((HD >= 64 ? unit ^ (token & 1) << 2 : unit) << 4);
}

// Copies a chunk's keys and values, behind each other; of its two blocks those below `blocks`.
template <int HD>
DEVICE void copy_chunk(const Attention& a, const u32 (&ids)[2], int blocks, int kv_head, u32 to) {
    const int UNITS = HD * BLOCK * 2 / 16, THREADS = PREFILL_WARPS * 32;
#pragma unroll
    for (int b = 0; b < 2; b++) {
        if (b >= blocks) continue;
        u64 base = ((u64)ids[b] * a.kv_heads + kv_head) * (HD * BLOCK);
#pragma unroll
        for (int i = 0; i < (UNITS + THREADS - 1) / THREADS; i++) {
            int unit = i * THREADS + threadIdx.x;
            if (UNITS % THREADS != 0 && unit >= UNITS) continue;
            copy_async_16(to + b * UNITS * 16 + key_place<HD>(unit / (HD / 8), unit % (HD / 8)), a.keys + base + unit * 8);
            copy_async_16(to + (2 + b) * UNITS * 16 + unit * 16, a.values + base + unit * 8);
        }
    }
}

// Scores of a chunk's first BLOCKS blocks, those of the others 0. Products that follow each other do not wait for each other.
template <int HD, int BLOCKS>
DEVICE void score_blocks(const Rows<HD>& q, const u8* keys, int r, int t, float (&score)[2][4][4]) {
#pragma unroll
    for (int b = 0; b < 2; b++)
#pragma unroll
        for (int j = 0; j < 4; j++)
#pragma unroll
            for (int i = 0; i < 4; i++) score[b][j][i] = 0.0f;
#pragma unroll
    for (int d = 0; d < HD / 32; d++)
#pragma unroll
        for (int b = 0; b < BLOCKS; b++) {
            uint4 k[4];
#pragma unroll
            for (int j = 0; j < 4; j++)
                k[j] = *(const uint4*)(keys + b * HD * BLOCK * 2 + key_place<HD>((r >> 1) * 8 + (r & 1) + 2 * j, d * 4 + t));
#pragma unroll
            for (int j = 0; j < 4; j++) mma_f16(score[b][j], q.low[d].x, q.high[d].x, q.low[d].y, q.high[d].y, k[j].x, k[j].y);
#pragma unroll
            for (int j = 0; j < 4; j++) mma_f16(score[b][j], q.low[d].z, q.high[d].z, q.low[d].w, q.high[d].w, k[j].z, k[j].w);
        }
}

// sum = keep sum + take (weights times values), four times eight dimensions together.
template <int HD, int BLOCKS, bool MASKED>
DEVICE void gather_values(const Weights16 (&p)[2], const u8* values, int r, int t, const float (&keep)[2], const float (&take)[2], float (&sum)[HD / 8][4]) {
#pragma unroll
    for (int n_0 = 0; n_0 < HD / 8; n_0 += 4) {
        float next[4][4];
#pragma unroll
        for (int n = 0; n < 4; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) next[n][i] = 0.0f;
#pragma unroll
        for (int b = 0; b < BLOCKS; b++) {
            uint4 v[4];
#pragma unroll
            for (int n = 0; n < 4; n++) v[n] = *(const uint4*)(values + b * HD * BLOCK * 2 + ((n_0 + n) * 8 + r) * BLOCK * 2 + t * 16);
#pragma unroll
            for (int n = 0; n < 4; n++) p[b].template add_first<MASKED>(v[n], next[n]);
#pragma unroll
            for (int n = 0; n < 4; n++) p[b].template add_second<MASKED>(v[n], next[n]);
        }
#pragma unroll
        for (int n = 0; n < 4; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) sum[n_0 + n][i] = merge(sum[n_0 + n][i], keep[i >> 1], next[n][i], take[i >> 1]);
    }
}

// What rows r and r + 8 may see; padding sees all.
DEVICE void find_limits(const Attention& a, int (&limit)[2], int first, int tokens, int group, int r) {
#pragma unroll
    for (int h = 0; h < 2; h++) {
        int token, head;
        limit[h] = row_of(r + h * 8, group, tokens, token, head) ? a.positions[first + token] + 1 : 0x7fffffff;
    }
}

// What a warp has found of its rows.
template <int HD>
DEVICE void store_rows(const Attention& a, const float (&sum)[HD / 8][4], const float (&mass)[2], int first, int tokens, int kv_head, int group, int r, int t) {
#pragma unroll
    for (int h = 0; h < 2; h++) {
        int token, head;
        if (!row_of(r + h * 8, group, tokens, token, head)) continue;
        u16* out = a.out + ((u64)(first + token) * a.heads + kv_head * group + head) * HD + 2 * t;
#pragma unroll
        for (int n = 0; n < HD / 8; n++)
            *(u32*)(out + n * 8) = pack_bf16(__fdiv_rn(sum[n][2 * h], mass[h]), __fdiv_rn(sum[n][2 * h + 1], mass[h]));
    }
}

// Grid: KV heads, tiles.
template <int HD>
DEVICE void prefill(const Attention& a) {
    extern __shared__ __align__(1024) u8 shared[];
    const int BYTES = HD * BLOCK * 2, STAGE = 4 * BYTES;
    begin();
    int lane = threadIdx.x & 31, t = lane & 3, r = lane >> 2, warp = threadIdx.x >> 5;
    int kv_head = blockIdx.x, group = a.heads / a.kv_heads, most_tokens = 16 / group;
    // The last tiles have the longest contexts: they begin first.
    uint4 tile = a.tiles[gridDim.y - 1 - blockIdx.y];
    int end = a.positions[tile.x + tile.y - 1] + 1;
    const u32* table = a.tables + a.table_of[tile.x];
    int first = tile.x + warp * most_tokens;
    int tokens = min(max((int)tile.y - warp * most_tokens, 0), most_tokens);
    Rows<HD> q;
    load_rows<HD>(a, q, first, tokens, kv_head, group, r, t);
    int last = tokens > 0 ? a.positions[first + tokens - 1] : -1;
    // What rows r and r + 8 may see, and what all of the warp's may.
    int limit[2], open = last < 0 ? 0 : a.positions[first] + 1;
    find_limits(a, limit, first, tokens, group, r);
    float top[2] = {NEG_INF, NEG_INF}, mass[2] = {0.0f, 0.0f};
    float sum[HD / 8][4];
#pragma unroll
    for (int n = 0; n < HD / 8; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) sum[n][i] = 0.0f;

    u32 smem = shared_address(shared);
    int chunks = (end + CHUNK - 1) / CHUNK, blocks = (end + BLOCK - 1) / BLOCK;
    // Blocks of the chunk that is copied next.
    u32 ids[2];
    auto look_up = [&](int chunk) {
#pragma unroll
        for (int b = 0; b < 2; b++) ids[b] = chunk * 2 + b < blocks ? table[chunk * 2 + b] : 0;
    };
    auto copy = [&](int chunk) {
        if (chunk < chunks) copy_chunk<HD>(a, ids, blocks - chunk * 2, kv_head, smem + chunk % PREFILL_STAGES * STAGE);
        copy_commit();
        look_up(chunk + 1);
    };
    look_up(0);
#pragma unroll
    for (int s = 0; s < PREFILL_STAGES - 1; s++) copy(s);
    for (int chunk = 0; chunk < chunks; chunk++) {
        copy_wait<PREFILL_STAGES - 2>();
        __syncthreads();
        copy(chunk + PREFILL_STAGES - 1);
        int start = chunk * CHUNK, most = min(last + 1 - start, CHUNK);
        if (most <= 0) continue;
        const u8 *keys = shared + chunk % PREFILL_STAGES * STAGE, *values = keys + 2 * BYTES;
        float score[2][4][4];
        if (most > BLOCK) score_blocks<HD, 2>(q, keys, r, t, score);
        else score_blocks<HD, 1>(q, keys, r, t, score);
        int seen[2] = {limit[0] - start, limit[1] - start};
        float next_top[2], next_mass[4] = {0.0f, 0.0f, 0.0f, 0.0f}, keep[2], take[2];
        if (start + CHUNK <= open) weigh<false>(score, seen, t, next_top, token_of);
        else weigh<true>(score, seen, t, next_top, token_of);
        Weights16 p[2];
        p[0].pack(score[0], most, t);
        p[1].pack(score[1], most - BLOCK, t);
        p[0].add_mass(next_mass);
        p[1].add_mass(next_mass);
#pragma unroll
        for (int h = 0; h < 2; h++) {
            float merged;
            merge_factors(top[h], next_top[h], merged, keep[h], take[h]);
            top[h] = merged;
            mass[h] = merge(mass[h], keep[h], next_mass[2 * h], take[h]);
        }
        if (most == CHUNK) gather_values<HD, 2, false>(p, values, r, t, keep, take, sum);
        else if (most > BLOCK) gather_values<HD, 2, true>(p, values, r, t, keep, take, sum);
        else gather_values<HD, 1, true>(p, values, r, t, keep, take, sum);
    }
    store_rows<HD>(a, sum, mass, first, tokens, kv_head, group, r, t);
}

extern "C" __global__ void __launch_bounds__(128, 2) attention_decode_32(const __grid_constant__ Attention a) { decode<32>(a); }
extern "C" __global__ void __launch_bounds__(128, 2) attention_decode_64(const __grid_constant__ Attention a) { decode<64>(a); }
extern "C" __global__ void __launch_bounds__(128, 2) attention_decode_128(const __grid_constant__ Attention a) { decode<128>(a); }
extern "C" __global__ void __launch_bounds__(128) attention_merge(const __grid_constant__ Attention a) { decode_merge(a, blockDim.x); }
extern "C" __global__ void __launch_bounds__(PREFILL_WARPS * 32, 1) attention_prefill_32(const __grid_constant__ Attention a) { prefill<32>(a); }
extern "C" __global__ void __launch_bounds__(PREFILL_WARPS * 32, 1) attention_prefill_64(const __grid_constant__ Attention a) { prefill<64>(a); }
extern "C" __global__ void __launch_bounds__(PREFILL_WARPS * 32, 1) attention_prefill_128(const __grid_constant__ Attention a) { prefill<128>(a); }
