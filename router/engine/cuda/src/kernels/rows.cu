// What is done row by row: embedding, norms, rotary embedding with the append to KV, the sum of experts' parts, random weights.

#define BLOCK 32

struct Embed {
    const u8* codes;
    const u8* scales;
    const u32* tokens;
    float* out;
    int hidden, format, group_shift;
};

// Grid: rows.
extern "C" __global__ void __launch_bounds__(256) embed(const __grid_constant__ Embed e) {
    begin();
    u64 token = e.tokens[blockIdx.x];
    float* out = e.out + (u64)blockIdx.x * e.hidden;
    for (int k = threadIdx.x; k < e.hidden; k += blockDim.x) {
        float value;
        if (e.format == 0) {
            value = bf16_to_f32(((const u16*)e.codes)[token * e.hidden + k]);
        } else {
            // Codes of each 32 lie as `place` in weights.rs has them.
            u64 at = token * e.hidden + (k & ~31) + (k & 7) / 2 * 8 + (k & 31) / 16 * 4 + (k & 15) / 8 * 2 + (k & 1);
            u32 code = e.format == 1 ? e.codes[at >> 1] >> ((at & 1) * 4) & 15 : e.codes[at];
            u32 pair = ((const u32*)e.scales)[(token * e.hidden + k) >> e.group_shift];
            value = fmaf((float)code, f16_to_f32((u16)pair), f16_to_f32((u16)(pair >> 16)));
        }
        out[k] = value;
    }
}

struct Norm {
    const float* x;
    const float* weight;
    u16* out;
    // Which row of x is row i; null: row i.
    const u32* index;
    int width;
    float eps;
};

DEVICE void norm_row(const float* x, const float* weight, u16* out, int width, float eps, float* scratch) {
    float squares = 0.0f;
    for (int k = threadIdx.x * 4; k < width; k += blockDim.x * 4) {
        float4 v = *(const float4*)(x + k);
        squares += v.x * v.x + v.y * v.y + v.z * v.z + v.w * v.w;
    }
    float factor = rsqrtf(block_sum(squares, scratch) / width + eps);
    for (int k = threadIdx.x * 4; k < width; k += blockDim.x * 4) {
        float4 v = *(const float4*)(x + k), w = *(const float4*)(weight + k);
        uint2 packed;
        packed.x = pack_bf16(v.x * factor * w.x, v.y * factor * w.y);
        packed.y = pack_bf16(v.z * factor * w.z, v.w * factor * w.w);
        *(uint2*)(out + k) = packed;
    }
}

// Grid: rows.
extern "C" __global__ void __launch_bounds__(256) rms_norm(const __grid_constant__ Norm n) {
    begin();
    __shared__ float scratch[33];
    u64 row = blockIdx.x;
    u64 from = n.index ? n.index[row] : row;
    norm_row(n.x + from * n.width, n.weight, n.out + row * n.width, n.width, n.eps, scratch);
}

struct Rotate {
    // [rows][(heads + 2 kv heads) head dim], f16: q, k, v.
    const u16* qkv;
    // Null, or norms of q and k: of a head each, or of the whole projection.
    const float* q_norm;
    const float* k_norm;
    // [positions][head dim / 2]: cosine and sine.
    const float2* turns;
    const int* positions;
    const u32* table_of;
    const u32* tables;
    u16* q;
    u16* keys;
    u16* values;
    int heads, kv_heads, head_dim;
    // 1: dimensions 2i and 2i + 1 are a pair; 0: i and i + head dim / 2.
    int interleaved;
    int whole_norm;
    float eps, scale;
};

#define TOGETHER 16

DEVICE float2 two_f16(u32 v) { return make_float2(f16_to_f32((u16)v), f16_to_f32((u16)(v >> 16))); }

// Pairs of dimensions of a head, from pair `pair` on.
template <int PAIRS>
DEVICE void split(const Rotate& a, const u16* x, int pair, int pairs, float (&u)[PAIRS], float (&v)[PAIRS]) {
    static_assert(PAIRS == 4, "16 bytes");
    if (a.interleaved) {
        uint4 all = *(const uint4*)(x + 2 * pair);
        u32 in[4] = {all.x, all.y, all.z, all.w};
#pragma unroll
        for (int i = 0; i < PAIRS; i++) {
            float2 of = two_f16(in[i]);
            u[i] = of.x, v[i] = of.y;
        }
    } else {
        uint2 first = *(const uint2*)(x + pair), second = *(const uint2*)(x + pair + pairs);
        float2 a_0 = two_f16(first.x), a_1 = two_f16(first.y), b_0 = two_f16(second.x), b_1 = two_f16(second.y);
        u[0] = a_0.x, u[1] = a_0.y, u[2] = a_1.x, u[3] = a_1.y;
        v[0] = b_0.x, v[1] = b_0.y, v[2] = b_1.x, v[3] = b_1.y;
    }
}

// Values lie token by token within a dimension. Sixteen rows whose slots are a whole sixteen write them in sectors of 32 bytes, of which less is
// slow to write, each row a sixteenth of the dimensions; other rows write their own. `whole`: this row and its fifteen are such.
DEVICE void append_values(const Rotate& a, u64 row, u64 block, int slot, bool whole) {
    int at = slot % TOGETHER;
    u64 base = row - at;
    int width = a.kv_heads * a.head_dim, pitch = (a.heads + 2 * a.kv_heads) * a.head_dim;
    const u16* v = a.qkv + (a.heads + a.kv_heads) * a.head_dim;
    u16* to = a.values + block * width * BLOCK;
    if (!whole) {
        for (int k = threadIdx.x; k < width; k += blockDim.x) to[k * BLOCK + slot] = v[row * pitch + k];
        return;
    }
    int share = width / TOGETHER;
    // Two lanes have a dimension.
    for (int j = threadIdx.x; j < share * 2; j += blockDim.x) {
        int k = at * share + j / 2, half = j % 2 * 8;
        u32 x[8];
#pragma unroll
        for (int i = 0; i < 8; i++) x[i] = v[(base + half + i) * pitch + k];
        *(uint4*)(to + k * BLOCK + slot - at + half) = make_uint4(x[0] | x[1] << 16, x[2] | x[3] << 16, x[4] | x[5] << 16, x[6] | x[7] << 16);
    }
}

DEVICE float squares_of(uint4 v) {
    u32 in[4] = {v.x, v.y, v.z, v.w};
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float2 of = two_f16(in[i]);
        sum += of.x * of.x + of.y * of.y;
    }
    return sum;
}

// Grid: rows. Keys and values of rows without a position go nowhere.
extern "C" __global__ void __launch_bounds__(256) rotate(const __grid_constant__ Rotate a) {
    begin();
    __shared__ float2 scratch[33];
    u64 row = blockIdx.x;
    int hd = a.head_dim, pairs = hd / 2;
    int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, warps = blockDim.x >> 5;
    // What several rows are asked for is asked for at once: of this row, and of the sixteen that may be written together.
    int position = a.positions[row];
    u32 table = a.table_of[row];
    int at = position % TOGETHER;
    u64 base = row - at, near = base + (lane & TOGETHER - 1);
    bool whole = position >= 0 && row >= at && base + TOGETHER <= gridDim.x;
    if (whole) whole = __all_sync(0xffffffff, a.table_of[near] == table && a.positions[near] == position - at + (lane & TOGETHER - 1));
    const u16* from = a.qkv + row * (u64)((a.heads + 2 * a.kv_heads) * hd);
    float whole_q = 1.0f, whole_k = 1.0f;
    if (a.q_norm && a.whole_norm) {
        float2 squares = make_float2(0.0f, 0.0f);
        int of_queries = a.heads * hd, all = of_queries + a.kv_heads * hd;
#pragma unroll 4
        for (int k = threadIdx.x * 8; k < all; k += blockDim.x * 8) {
            float more = squares_of(*(const uint4*)(from + k));
            if (k < of_queries) squares.x += more;
            else squares.y += more;
        }
        squares = block_sum(squares, scratch);
        whole_q = rsqrtf(squares.x / of_queries + a.eps);
        whole_k = rsqrtf(squares.y / (a.kv_heads * hd) + a.eps);
    }
    if (position < 0) return;
    u64 block = a.tables[table + position / BLOCK];
    int slot = position % BLOCK;
    const float2* turns = a.turns + (u64)position * pairs;
    // A lane has four pairs of dimensions that are side by side, a warp as many heads as it has lanes for.
    const int PAIRS = 4;
    int lanes = pairs / PAIRS, per_warp = 32 / lanes, total = a.heads + a.kv_heads;
    int pair = lane % lanes * PAIRS;
    __align__(16) float2 turn[PAIRS];
#pragma unroll
    for (int i = 0; i < PAIRS; i += 2) *(float4*)(turn + i) = *(const float4*)(turns + pair + i);
#pragma unroll 2
    for (int h_0 = warp * per_warp; h_0 < total; h_0 += warps * per_warp) {
        int h = min(h_0 + lane / lanes, total - 1);
        bool query = h < a.heads, real = h_0 + lane / lanes < total;
        int kv_head = h - a.heads;
        const u16* x = from + (u64)h * hd;
        const float* weight = query ? a.q_norm : a.k_norm;
        float u[PAIRS], v[PAIRS];
        split<PAIRS>(a, x, pair, pairs, u, v);
        if (weight) {
            float factor = query ? whole_q : whole_k;
            if (a.whole_norm) {
                weight += (query ? h : kv_head) * hd;
            } else {
                float squares = 0.0f;
#pragma unroll
                for (int i = 0; i < PAIRS; i++) squares += u[i] * u[i] + v[i] * v[i];
                for (int o = lanes / 2; o > 0; o >>= 1) squares += __shfl_xor_sync(0xffffffff, squares, o);
                factor = rsqrtf(squares / hd + a.eps);
            }
            __align__(16) float p[2 * PAIRS];
#pragma unroll
            for (int i = 0; i < 2 * PAIRS; i += 4) {
                int at = a.interleaved ? 2 * pair + i : pair + (i < PAIRS ? i : pairs + i - PAIRS);
                *(float4*)(p + i) = *(const float4*)(weight + at);
            }
#pragma unroll
            for (int i = 0; i < PAIRS; i++) {
                u[i] *= factor * (a.interleaved ? p[2 * i] : p[i]);
                v[i] *= factor * (a.interleaved ? p[2 * i + 1] : p[PAIRS + i]);
            }
        }
        float scale = query ? a.scale : 1.0f;
#pragma unroll
        for (int i = 0; i < PAIRS; i++) {
            float p = (u[i] * turn[i].x - v[i] * turn[i].y) * scale, q = (u[i] * turn[i].y + v[i] * turn[i].x) * scale;
            u[i] = p, v[i] = q;
        }
        u16* out = query ? a.q + (row * a.heads + h) * hd : a.keys + ((block * a.kv_heads + kv_head) * BLOCK + slot) * hd;
        if (!real) continue;
        if (a.interleaved) {
            *(uint4*)(out + 2 * pair) = make_uint4(pack_f16(u[0], v[0]), pack_f16(u[1], v[1]), pack_f16(u[2], v[2]), pack_f16(u[3], v[3]));
        } else {
            *(uint2*)(out + pair) = make_uint2(pack_f16(u[0], u[1]), pack_f16(u[2], u[3]));
            *(uint2*)(out + pair + pairs) = make_uint2(pack_f16(v[0], v[1]), pack_f16(v[2], v[3]));
        }
    }
    append_values(a, row, block, slot, whole);
}

struct Join {
    float* x;
    // [parts][hidden], and which parts and weights a row has, slot 0 first.
    const u16* parts;
    const u32* part_of;
    const float* weights;
    // Null, or the shared expert's result and the logit of its gate.
    const float* shared_part;
    const float* shared_gate;
    // Null, or the norm of what follows.
    const float* norm_weight;
    u16* normed;
    // Which row of x is row i; null: row i.
    const u32* index;
    const u32* rows;
    int hidden, top_k, renormalised;
    float eps;
};

DEVICE void eight_bf16(const u16* from, float (&x)[8]) {
    uint4 v = *(const uint4*)from;
    u32 pairs[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int i = 0; i < 4; i++) x[2 * i] = bf16_to_f32((u16)pairs[i]), x[2 * i + 1] = __uint_as_float(pairs[i] & 0xffff0000);
}

// What a row gains in eight dimensions from `k` on. TOP_K: how many parts, where that is known.
template <int TOP_K>
DEVICE void weighted_sum(const Join& j, const u32* part_of, const float* weights, int k, float (&sum)[8]) {
    float first[8];
    eight_bf16(j.parts + (u64)part_of[0] * j.hidden + k, first);
    // Weights that sum to 1: equal parts give exactly that part.
#pragma unroll
    for (int i = 0; i < 8; i++) sum[i] = j.renormalised ? first[i] : weights[0] * first[i];
#pragma unroll
    for (int slot = 1; slot < (TOP_K > 0 ? TOP_K : j.top_k); slot++) {
        float part[8], w = weights[slot];
        eight_bf16(j.parts + (u64)part_of[slot] * j.hidden + k, part);
#pragma unroll
        for (int i = 0; i < 8; i++) sum[i] += w * (j.renormalised ? part[i] - first[i] : part[i]);
    }
}

// Grid: rows.
extern "C" __global__ void __launch_bounds__(256) join(const __grid_constant__ Join j) {
    begin();
    __shared__ float scratch[33];
    u64 row = blockIdx.x;
    if (row >= *j.rows) return;
    float* x = j.x + (j.index ? j.index[row] : row) * (u64)j.hidden;
    const u32* part_of = j.part_of + row * j.top_k;
    const float* weights = j.weights + row * j.top_k;
    float open = j.shared_part ? 1.0f / (1.0f + __expf(-j.shared_gate[row])) : 0.0f;
    for (int k = threadIdx.x * 8; k < j.hidden; k += blockDim.x * 8) {
        float sum[8];
        if (j.top_k == 8) weighted_sum<8>(j, part_of, weights, k, sum);
        else weighted_sum<0>(j, part_of, weights, k, sum);
#pragma unroll
        for (int h = 0; h < 8; h += 4) {
            if (j.shared_part) {
                float4 part = *(const float4*)(j.shared_part + row * j.hidden + k + h);
                sum[h] += open * part.x, sum[h + 1] += open * part.y, sum[h + 2] += open * part.z, sum[h + 3] += open * part.w;
            }
            float4 v = *(float4*)(x + k + h);
            v.x += sum[h], v.y += sum[h + 1], v.z += sum[h + 2], v.w += sum[h + 3];
            *(float4*)(x + k + h) = v;
        }
    }
    if (j.norm_weight) {
        __syncthreads();
        norm_row(x, j.norm_weight, j.normed + row * j.hidden, j.hidden, j.eps, scratch);
    }
}

struct Move {
    const float* from;
    float* to;
    const u32* index;
    int width;
    // 1: to[index[i]] = from[i]; 0: to[i] = from[index[i]].
    int scatter;
};

// Grid: rows.
extern "C" __global__ void __launch_bounds__(256) move_rows(const __grid_constant__ Move m) {
    begin();
    u64 here = blockIdx.x, there = m.index[blockIdx.x];
    const float* from = m.from + (m.scatter ? here : there) * m.width;
    float* to = m.to + (m.scatter ? there : here) * m.width;
    for (int k = threadIdx.x; k < m.width; k += blockDim.x) to[k] = from[k];
}

struct SiluMul {
    const float* gate;
    const float* up;
    u16* out;
    u32 count;
};

extern "C" __global__ void __launch_bounds__(256) silu_mul(const __grid_constant__ SiluMul s) {
    begin();
    for (u32 i = blockIdx.x * blockDim.x + threadIdx.x; i < s.count; i += gridDim.x * blockDim.x) {
        float gate = s.gate[i];
        s.out[i] = f32_to_bf16(gate / (1.0f + __expf(-gate)) * s.up[i]);
    }
}

// Uniform in [-range, range], in bf16: what `weights::random` gives on the host.
extern "C" __global__ void fill_random(u16* out, u64 count, u64 seed, float range) {
    begin();
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += (u64)gridDim.x * blockDim.x) {
        // No fused multiply-add: the host has none here.
        float unit = __fadd_rn(__fmul_rn((float)(hash_bits(seed, i) >> 8), 1.0f / 8388608.0f), -1.0f);
        out[i] = f32_to_bf16(__fmul_rn(unit, range));
    }
}
