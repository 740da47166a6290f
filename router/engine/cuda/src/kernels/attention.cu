// Causal grouped-query attention over paged KV in f16.
//
// A warp has 16 rows: the query heads of one KV head, of one token (decode) or of several (prefill). All it does is on registers: the order
// of dimensions within a product and of tokens within a block is chosen so that what a lane loads in 16 bytes is what the tensor cores want of it.
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
    // {first token, tokens, 0, 0}: prefill.
    const uint4* tiles;
    // Decode: [token][head][chunk][head dim], and {largest, sum} of each.
    float* parts;
    float2* part_sums;
    // [tokens][heads][head dim] bf16.
    u16* out;
    int heads, kv_heads, chunks, tile_count;
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

// `left`: tokens of the block that were written.
template <int HD>
DEVICE void add_values(const float (&weight)[4][4], const Loaded<HD>& values, int left, int t, float (&sum)[HD / 8][4]) {
    u32 p[4][2], mask[4];
#pragma unroll
    for (int j = 0; j < 4; j++) {
        p[j][0] = pack_f16(weight[j][0], weight[j][1]);
        p[j][1] = pack_f16(weight[j][2], weight[j][3]);
        // What was never written may be no number, and 0 times it is none either.
        int token = t * 8 + 2 * j;
        mask[j] = token + 1 < left ? 0xffffffff : token < left ? 0xffff : 0;
    }
#pragma unroll
    for (int n = 0; n < HD / 8; n++) {
        uint4 v = values.at[n];
        mma_f16(sum[n], p[0][0], p[0][1], p[1][0], p[1][1], v.x & mask[0], v.y & mask[1]);
        mma_f16(sum[n], p[2][0], p[2][1], p[3][0], p[3][1], v.z & mask[2], v.w & mask[3]);
    }
}

// One chunk, of which the first `most` tokens are written, at least 1. `seen`: those that rows r and r + 8 may see; of some row all.
template <int HD, bool AHEAD>
DEVICE void attend(const Attention& a, const Rows<HD>& q, const u32* table, int chunk, int most, const int (&seen)[2],
                   int kv_head, int r, int t, State<HD>& out) {
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
    if (AHEAD && two) load_keys<HD>(a, base_1, r, t, load_1);
    multiply_keys<HD>(q, load_0, score[0]);
    if (AHEAD) load_values<HD>(a, base_0, r, t, load_0);
    if (two) {
        if (!AHEAD) load_keys<HD>(a, base_1, r, t, load_1);
        multiply_keys<HD>(q, load_1, score[1]);
        if (AHEAD) load_values<HD>(a, base_1, r, t, load_1);
    }
    out.top[0] = out.top[1] = NEG_INF;
#pragma unroll
    for (int b = 0; b < 2; b++)
#pragma unroll
        for (int j = 0; j < 4; j++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                int token = b * BLOCK + t * 8 + 2 * j + (i & 1);
                if (token >= seen[i >> 1]) score[b][j][i] = NEG_INF;
                out.top[i >> 1] = fmaxf(out.top[i >> 1], score[b][j][i]);
            }
    float base_score[2];
#pragma unroll
    for (int h = 0; h < 2; h++) {
        out.top[h] = fmaxf(out.top[h], __shfl_xor_sync(0xffffffff, out.top[h], 1));
        out.top[h] = fmaxf(out.top[h], __shfl_xor_sync(0xffffffff, out.top[h], 2));
        base_score[h] = out.top[h] == NEG_INF ? 0.0f : out.top[h];
        out.mass[h] = 0.0f;
    }
#pragma unroll
    for (int b = 0; b < 2; b++)
#pragma unroll
        for (int j = 0; j < 4; j++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                score[b][j][i] = exp2_fast(score[b][j][i] - base_score[i >> 1]);
                out.mass[i >> 1] += score[b][j][i];
            }
#pragma unroll
    for (int h = 0; h < 2; h++) {
        out.mass[h] += __shfl_xor_sync(0xffffffff, out.mass[h], 1);
        out.mass[h] += __shfl_xor_sync(0xffffffff, out.mass[h], 2);
    }
#pragma unroll
    for (int n = 0; n < HD / 8; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) out.sum[n][i] = 0.0f;
    if (!AHEAD) load_values<HD>(a, base_0, r, t, load_0);
    add_values<HD>(score[0], load_0, most, t, out.sum);
    if (two) {
        if (!AHEAD) load_values<HD>(a, base_1, r, t, load_1);
        add_values<HD>(score[1], load_1, most - BLOCK, t, out.sum);
    }
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
    int seen[2] = {most, most};
    attend<HD, true>(a, q, a.tables + a.table_of[token], chunk, most, seen, kv_head, r, t, state);
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

// Grid: tiles / 4, KV heads. A warp has a tile: some tokens of one sequence.
template <int HD>
DEVICE void prefill(const Attention& a) {
    begin();
    int lane = threadIdx.x & 31, t = lane & 3, r = lane >> 2;
    int kv_head = blockIdx.y, group = a.heads / a.kv_heads;
    // The last tiles have the longest contexts: they begin first.
    int index = (gridDim.x - 1 - blockIdx.x) * 4 + (threadIdx.x >> 5);
    uint4 tile = index < a.tile_count ? a.tiles[index] : make_uint4(0, 0, 0, 0);
    int first = tile.x, tokens = tile.y;
    Rows<HD> q;
    load_rows<HD>(a, q, first, tokens, kv_head, group, r, t);
    int last = tokens > 0 ? a.positions[first + tokens - 1] : -1;
    const u32* table = a.tables + (tokens > 0 ? a.table_of[first] : 0);
    int limit[2];
#pragma unroll
    for (int h = 0; h < 2; h++) {
        int token, head;
        limit[h] = row_of(r + h * 8, group, tokens, token, head) ? a.positions[first + token] + 1 : 0;
    }
    State<HD> all;
#pragma unroll
    for (int h = 0; h < 2; h++) all.top[h] = NEG_INF, all.mass[h] = 0.0f;
#pragma unroll
    for (int n = 0; n < HD / 8; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) all.sum[n][i] = 0.0f;
    // The warps of a block read the same KV: in step, all but one find it in L1.
    int chunks = last < 0 ? 0 : last / CHUNK + 1;
    __shared__ int block_chunks[4];
    block_chunks[threadIdx.x >> 5] = chunks;
    __syncthreads();
    int most_chunks = max(max(block_chunks[0], block_chunks[1]), max(block_chunks[2], block_chunks[3]));
    for (int chunk = 0; chunk < most_chunks; chunk++) {
        __syncthreads();
        if (chunk >= chunks) continue;
        int start = chunk * CHUNK;
        int seen[2] = {limit[0] - start, limit[1] - start};
        State<HD> next;
        attend<HD, false>(a, q, table, chunk, min(last + 1 - start, CHUNK), seen, kv_head, r, t, next);
#pragma unroll
        for (int h = 0; h < 2; h++) {
            float merged, keep, take;
            merge_factors(all.top[h], next.top[h], merged, keep, take);
            all.top[h] = merged;
            all.mass[h] = merge(all.mass[h], keep, next.mass[h], take);
#pragma unroll
            for (int n = 0; n < HD / 8; n++)
#pragma unroll
                for (int i = 0; i < 2; i++)
                    all.sum[n][2 * h + i] = merge(all.sum[n][2 * h + i], keep, next.sum[n][2 * h + i], take);
        }
    }
#pragma unroll
    for (int h = 0; h < 2; h++) {
        int token, head;
        if (!row_of(r + h * 8, group, tokens, token, head)) continue;
        u16* out = a.out + ((u64)(first + token) * a.heads + kv_head * group + head) * HD + 2 * t;
#pragma unroll
        for (int n = 0; n < HD / 8; n++)
            *(u32*)(out + n * 8) = pack_bf16(__fdiv_rn(all.sum[n][2 * h], all.mass[h]), __fdiv_rn(all.sum[n][2 * h + 1], all.mass[h]));
    }
}

extern "C" __global__ void __launch_bounds__(128, 2) attention_decode_32(const __grid_constant__ Attention a) { decode<32>(a); }
extern "C" __global__ void __launch_bounds__(128, 2) attention_decode_64(const __grid_constant__ Attention a) { decode<64>(a); }
extern "C" __global__ void __launch_bounds__(128, 2) attention_decode_128(const __grid_constant__ Attention a) { decode<128>(a); }
extern "C" __global__ void __launch_bounds__(128) attention_merge(const __grid_constant__ Attention a) { decode_merge(a, blockDim.x); }
extern "C" __global__ void __launch_bounds__(128, 2) attention_prefill_32(const __grid_constant__ Attention a) { prefill<32>(a); }
extern "C" __global__ void __launch_bounds__(128, 2) attention_prefill_64(const __grid_constant__ Attention a) { prefill<64>(a); }
extern "C" __global__ void __launch_bounds__(128, 2) attention_prefill_128(const __grid_constant__ Attention a) { prefill<128>(a); }
