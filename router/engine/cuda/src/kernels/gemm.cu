// out[t][r] = sum over k of w[r][k] x[t][k]: weights of a few formats, activations in bf16, sums in f32.
//
// The weights are the left operand of the tensor cores (16 rows of them), the tokens the right one (8 at a time), so that one token wastes
// least. A block streams its rows through shared memory with asynchronous copies, several stages deep. Inner dimension in steps of 64.
//
// For one output the order of additions is the same in every kernel of this file, whatever the tile: k ascending in steps of 32, each as two
// products of 16 whose terms are k = 8 t + {0..3} and 8 t + {4..7}, t = 0..3. So a token's results do not depend on how many others there are.

#define STEP 64

// Formats of weights.
#define BF16 0
// [rows][k / 2] bytes, low nibble first; weight = scale * code + offset, a pair of f16 for each 32.
#define Q4 1
// [rows][k] bytes; the same for each 32 or 16.
#define Q8 2

struct Weights {
    const u8* codes;
    const u8* scales;
};

struct Gemm {
    // `second` (gate and up): rows come in turns of eight from both.
    Weights first, second;
    // From one group's matrix to the next, in bytes.
    u64 group_codes, group_scales;
    const u16* x;
    // Which row of x is row i; null: row i.
    const u32* index;
    // Groups: {group, first row, end, 0} for each blockIdx.y; null: one group of `tokens` rows.
    const uint4* tiles;
    const u32* tile_count;
    float* out;
    const float* bias;
    int rows, k, tokens;
    // log2 of the weights that share a scale.
    int group_shift;
    // Elements from one token's output to the next, and from one token's x to the next.
    int out_pitch, x_pitch;
    // Adds to out instead of replacing it.
    int add;
};

template <int FORMAT>
struct Tile;

template <>
struct Tile<BF16> {
    static const int ROW = 128;
    static const int SCALE_ROW = 0;
};

template <>
struct Tile<Q4> {
    static const int ROW = 32;
    static const int SCALE_ROW = 8;
};

template <>
struct Tile<Q8> {
    static const int ROW = 64;
    static const int SCALE_ROW = 16;
};

// Of 16 bytes of a row of 128: neighbouring rows have their halves swapped, so that eight lanes that read two rows hit all banks.
DEVICE u32 swizzled(int row, int unit) { return row * 128 + ((unit ^ ((row & 1) << 2)) << 4); }

DEVICE u32 dequantised(float scale, float offset, u32 low, u32 high) {
    return pack_bf16(fmaf((float)low, scale, offset), fmaf((float)high, scale, offset));
}

// Eight weights of a row as four pairs of bf16, k = 32 half + 8 t ..
template <int FORMAT>
DEVICE uint4 weights_at(const u8* codes, const u8* scales, int row, int half, int t, int group_shift) {
    if (FORMAT == BF16) {
        return *(const uint4*)(codes + swizzled(row, half * 4 + t));
    }
    int at = half * 32 + t * 8;
    u32 pair = *(const u32*)(scales + row * Tile<FORMAT>::SCALE_ROW + ((at >> group_shift) << 2));
    float scale = f16_to_f32((u16)pair), offset = f16_to_f32((u16)(pair >> 16));
    uint4 out;
    if (FORMAT == Q4) {
        u32 c = *(const u32*)(codes + row * 32 + half * 16 + t * 4);
        out.x = dequantised(scale, offset, c & 15, c >> 4 & 15);
        out.y = dequantised(scale, offset, c >> 8 & 15, c >> 12 & 15);
        out.z = dequantised(scale, offset, c >> 16 & 15, c >> 20 & 15);
        out.w = dequantised(scale, offset, c >> 24 & 15, c >> 28);
    } else {
        uint2 c = *(const uint2*)(codes + row * 64 + at);
        out.x = dequantised(scale, offset, c.x & 255, c.x >> 8 & 255);
        out.y = dequantised(scale, offset, c.x >> 16 & 255, c.x >> 24);
        out.z = dequantised(scale, offset, c.y & 255, c.y >> 8 & 255);
        out.w = dequantised(scale, offset, c.y >> 16 & 255, c.y >> 24);
    }
    return out;
}

// A block of WM x WN warps computes WM MT 16 rows of WN NT 8 tokens.
template <int FORMAT, bool PAIR, int WM, int WN, int MT, int NT, int STAGES>
DEVICE void gemm(const Gemm& g) {
    extern __shared__ __align__(128) u8 shared[];
    const int THREADS = WM * WN * 32;
    const int BM = WM * MT * 16, BN = WN * NT * 8;
    const int ROW = Tile<FORMAT>::ROW, SCALE_ROW = Tile<FORMAT>::SCALE_ROW;
    const int STAGE = BM * (ROW + SCALE_ROW) + BN * 128;
    const int UNITS = ROW / 16;
    const int W_COPIES = (BM * UNITS + THREADS - 1) / THREADS;
    const int X_COPIES = BN * 8 / THREADS;

    int group = 0, first = blockIdx.y * BN, end = g.tokens;
    if (g.tiles) {
        if (blockIdx.y >= *g.tile_count) return;
        uint4 tile = g.tiles[blockIdx.y];
        group = tile.x, first = tile.y, end = tile.z;
    }
    int count = min(end - first, BN);
    int tid = threadIdx.x, lane = tid & 31, warp = tid >> 5;
    int warp_m = warp / WN, warp_n = warp % WN;
    int row_0 = blockIdx.x * BM;

    // Where this thread's copies come from; they advance along k together.
    const u8* w_from[W_COPIES];
    u64 row_bytes = (u64)g.k * ROW / STEP;
#pragma unroll
    for (int i = 0; i < W_COPIES; i++) {
        int piece = tid + i * THREADS, row = piece / UNITS, unit = piece % UNITS;
        const u8* base = g.first.codes;
        int at = min(row_0 + row, g.rows - 1);
        if (PAIR) {
            int r = row_0 + row;
            base = (r & 8) ? g.second.codes : g.first.codes;
            at = min((r >> 4) * 8 + (r & 7), (g.rows >> 1) - 1);
        }
        w_from[i] = base + group * g.group_codes + (u64)at * row_bytes + unit * 16;
    }
    const u16* x_from[X_COPIES];
#pragma unroll
    for (int i = 0; i < X_COPIES; i++) {
        int piece = tid + i * THREADS, row = piece >> 3, unit = piece & 7;
        u32 at = first + min(row, count - 1);
        if (g.index) at = g.index[at];
        x_from[i] = g.x + (u64)at * g.x_pitch + unit * 8;
    }
    const u8* s_from[(BM + THREADS - 1) / THREADS];
    const int S_COPIES = SCALE_ROW ? (BM + THREADS - 1) / THREADS : 0;
    int scale_step = (STEP >> g.group_shift) * 4;
#pragma unroll
    for (int i = 0; i < S_COPIES; i++) {
        int row = tid + i * THREADS;
        const u8* base = g.first.scales;
        int at = min(row_0 + row, g.rows - 1);
        if (PAIR) {
            int r = row_0 + row;
            base = (r & 8) ? g.second.scales : g.first.scales;
            at = min((r >> 4) * 8 + (r & 7), (g.rows >> 1) - 1);
        }
        s_from[i] = base + group * g.group_scales + (u64)at * (u64)((g.k >> g.group_shift) * 4);
    }

    u32 smem = shared_address(shared);
    int steps = g.k / STEP;
    auto load = [&](int step) {
        u32 stage = smem + (step % STAGES) * STAGE;
#pragma unroll
        for (int i = 0; i < W_COPIES; i++) {
            int piece = tid + i * THREADS, row = piece / UNITS, unit = piece % UNITS;
            if (BM * UNITS % THREADS == 0 || row < BM) {
                u32 to = FORMAT == BF16 ? swizzled(row, unit) : row * ROW + unit * 16;
                copy_async_16(stage + to, w_from[i]);
                w_from[i] += ROW;
            }
        }
#pragma unroll
        for (int i = 0; i < S_COPIES; i++) {
            int row = tid + i * THREADS;
            if (BM % THREADS == 0 || row < BM) {
                u32 to = stage + BM * ROW + row * SCALE_ROW;
                if (scale_step == 16) copy_async_16(to, s_from[i]);
                else copy_async_8(to, s_from[i]);
                s_from[i] += scale_step;
            }
        }
#pragma unroll
        for (int i = 0; i < X_COPIES; i++) {
            int piece = tid + i * THREADS, row = piece >> 3, unit = piece & 7;
            if (row < count) {
                copy_async_16(stage + BM * (ROW + SCALE_ROW) + swizzled(row, unit), x_from[i]);
                x_from[i] += STEP;
            }
        }
    };

    float sum[MT][NT][4];
#pragma unroll
    for (int m = 0; m < MT; m++)
#pragma unroll
        for (int n = 0; n < NT; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) sum[m][n][i] = 0.0f;

#pragma unroll
    for (int s = 0; s < STAGES - 1; s++) {
        if (s < steps) load(s);
        copy_commit();
    }
    int t = lane & 3, r = lane >> 2;
    for (int step = 0; step < steps; step++) {
        copy_wait<STAGES - 2>();
        __syncthreads();
        if (step + STAGES - 1 < steps) load(step + STAGES - 1);
        copy_commit();
        const u8* stage = shared + (step % STAGES) * STAGE;
        const u8 *scales = stage + BM * ROW, *x = scales + BM * SCALE_ROW;
#pragma unroll
        for (int half = 0; half < 2; half++) {
            uint4 low[MT], high[MT];
#pragma unroll
            for (int m = 0; m < MT; m++) {
                int row = (warp_m * MT + m) * 16 + r;
                low[m] = weights_at<FORMAT>(stage, scales, row, half, t, g.group_shift);
                high[m] = weights_at<FORMAT>(stage, scales, row + 8, half, t, g.group_shift);
            }
#pragma unroll
            for (int n = 0; n < NT; n++) {
                int token = (warp_n * NT + n) * 8;
                // No token there: nothing is stored, so nothing need be right.
                if (token < count) {
                    uint4 v = *(const uint4*)(x + swizzled(token + r, half * 4 + t));
#pragma unroll
                    for (int m = 0; m < MT; m++) {
                        mma_bf16(sum[m][n], low[m].x, high[m].x, low[m].y, high[m].y, v.x, v.y);
                        mma_bf16(sum[m][n], low[m].z, high[m].z, low[m].w, high[m].w, v.z, v.w);
                    }
                }
            }
        }
    }

#pragma unroll
    for (int m = 0; m < MT; m++) {
        int row = row_0 + (warp_m * MT + m) * 16 + r;
#pragma unroll
        for (int n = 0; n < NT; n++) {
            int token = (warp_n * NT + n) * 8 + 2 * t;
#pragma unroll
            for (int i = 0; i < 2; i++) {
                if (token + i >= count) continue;
                u64 at = (u64)(first + token + i) * g.out_pitch;
                if (PAIR) {
                    int pair = (row_0 >> 1) + (warp_m * MT + m) * 8 + r;
                    if (pair * 2 < g.rows) {
                        float gate = sum[m][n][i], up = sum[m][n][i + 2];
                        float open = gate / (1.0f + __expf(-gate));
                        ((u16*)g.out)[at + pair] = f32_to_bf16(open * up);
                    }
                } else {
#pragma unroll
                    for (int h = 0; h < 2; h++) {
                        int at_row = row + h * 8;
                        if (at_row < g.rows) {
                            float value = sum[m][n][i + 2 * h];
                            if (g.bias) value += g.bias[at_row];
                            if (g.add) value += g.out[at + at_row];
                            g.out[at + at_row] = value;
                        }
                    }
                }
            }
        }
    }
}

#define KERNEL(NAME, FORMAT, PAIR, WM, WN, MT, NT, STAGES, BLOCKS)                                         \
    extern "C" __global__ void __launch_bounds__(WM* WN * 32, BLOCKS) NAME(const __grid_constant__ Gemm g) { \
        gemm<FORMAT, PAIR, WM, WN, MT, NT, STAGES>(g);                                                       \
    }

// Few tokens and few rows, few tokens, some tokens, many tokens.
#define KERNELS(FORMAT)                                          \
    KERNEL(gemm_narrow, FORMAT, false, 1, 1, 1, 2, NARROW, 2)    \
    KERNEL(gemm_few, FORMAT, false, 4, 1, 1, 2, FEW, 2)          \
    KERNEL(gemm_some, FORMAT, false, 4, 1, 1, 8, SOME, 2)        \
    KERNEL(gemm_many, FORMAT, false, 2, 2, 4, 8, MANY, 1)        \
    KERNEL(gated_narrow, FORMAT, true, 1, 1, 1, 2, NARROW, 2)    \
    KERNEL(gated_few, FORMAT, true, 4, 1, 1, 2, FEW, 2)          \
    KERNEL(gated_some, FORMAT, true, 4, 1, 1, 8, SOME, 2)        \
    KERNEL(gated_many, FORMAT, true, 2, 2, 4, 8, MANY, 1)

KERNELS(FORMAT_OF_MODULE)
