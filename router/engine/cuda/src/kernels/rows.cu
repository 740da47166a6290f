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
    // [rows][(heads + 2 kv heads) head dim]: q, k, v.
    const float* qkv;
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

// Grid: rows. Keys and values of rows without a position go nowhere.
extern "C" __global__ void __launch_bounds__(256) rotate(const __grid_constant__ Rotate a) {
    begin();
    __shared__ float scratch[33];
    u64 row = blockIdx.x;
    int position = a.positions[row];
    if (position < 0) return;
    int hd = a.head_dim, pairs = hd / 2;
    int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, warps = blockDim.x >> 5;
    const float* from = a.qkv + row * (u64)((a.heads + 2 * a.kv_heads) * hd);
    float whole[2] = {1.0f, 1.0f};
    if (a.q_norm && a.whole_norm) {
        int begin = 0;
        for (int part = 0; part < 2; part++) {
            int width = (part == 0 ? a.heads : a.kv_heads) * hd;
            float squares = 0.0f;
            for (int k = threadIdx.x; k < width; k += blockDim.x) squares += from[begin + k] * from[begin + k];
            whole[part] = rsqrtf(block_sum(squares, scratch) / width + a.eps);
            begin += width;
        }
    }
    u64 block = a.tables[a.table_of[row] + position / BLOCK];
    int slot = position % BLOCK;
    const float2* turns = a.turns + (u64)position * pairs;
    for (int h = warp; h < a.heads + a.kv_heads; h += warps) {
        bool query = h < a.heads;
        int kv_head = h - a.heads;
        const float* x = from + (u64)h * hd;
        const float* weight = query ? a.q_norm : a.k_norm;
        float factor = whole[query ? 0 : 1];
        if (weight && !a.whole_norm) {
            float squares = 0.0f;
            for (int k = lane; k < hd; k += 32) squares += x[k] * x[k];
            factor = rsqrtf(warp_sum(squares) / hd + a.eps);
        }
        if (weight && a.whole_norm) weight += (query ? h : kv_head) * hd;
        for (int pair = lane; pair < pairs; pair += 32) {
            int i = a.interleaved ? 2 * pair : pair, j = a.interleaved ? i + 1 : pair + pairs;
            float u = x[i], v = x[j];
            if (weight) u *= factor * weight[i], v *= factor * weight[j];
            float2 turn = turns[pair];
            float p = u * turn.x - v * turn.y, q = u * turn.y + v * turn.x;
            if (query) {
                u16* out = a.q + (row * a.heads + h) * hd;
                out[i] = f32_to_f16(p * a.scale), out[j] = f32_to_f16(q * a.scale);
            } else {
                u16* out = a.keys + ((block * a.kv_heads + kv_head) * BLOCK + slot) * hd;
                out[i] = f32_to_f16(p), out[j] = f32_to_f16(q);
            }
        }
    }
    const float* v = from + (u64)(a.heads + a.kv_heads) * hd;
    for (int k = threadIdx.x; k < a.kv_heads * hd; k += blockDim.x) {
        a.values[(block * a.kv_heads * hd + k) * BLOCK + slot] = f32_to_f16(v[k]);
    }
}

struct Join {
    float* x;
    // [parts][hidden], and which parts and weights a row has, slot 0 first.
    const float* parts;
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
    for (int k = threadIdx.x * 4; k < j.hidden; k += blockDim.x * 4) {
        float4 first = *(const float4*)(j.parts + (u64)part_of[0] * j.hidden + k);
        float w = weights[0];
        // Weights that sum to 1: equal parts give exactly that part.
        float4 sum = j.renormalised ? first : make_float4(w * first.x, w * first.y, w * first.z, w * first.w);
        for (int slot = 1; slot < j.top_k; slot++) {
            float4 part = *(const float4*)(j.parts + (u64)part_of[slot] * j.hidden + k);
            float w = weights[slot];
            if (j.renormalised) part.x -= first.x, part.y -= first.y, part.z -= first.z, part.w -= first.w;
            sum.x += w * part.x, sum.y += w * part.y, sum.z += w * part.z, sum.w += w * part.w;
        }
        if (j.shared_part) {
            float4 part = *(const float4*)(j.shared_part + row * j.hidden + k);
            sum.x += open * part.x, sum.y += open * part.y, sum.z += open * part.z, sum.w += open * part.w;
        }
        float4 v = *(float4*)(x + k);
        v.x += sum.x, v.y += sum.y, v.z += sum.z, v.w += sum.w;
        *(float4*)(x + k) = v;
    }
    if (j.norm_weight) {
        // Each thread reads what it wrote.
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
